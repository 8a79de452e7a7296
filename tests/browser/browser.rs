//! A browser with a window, for tests that are not async. Every wait ends with what is waited for, or with a panic that
//! shows the page.

use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::driver::Driver;
use crate::support::PATIENCE;

/// How often a page is looked at that is waited for.
const GLANCES: Duration = Duration::from_millis(50);

/// What keeps Chromium to itself: no look at the network but at the bridge, nothing that a container lacks.
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A running Chromium with a profile of its own; dropping it ends it.
pub(crate) struct Browser {
    client: Option<Client>,
    runtime: Runtime,
    _driver: Driver,
    _profile: TempDir,
}

/// A command of Chromium's driver that no standard has.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with_prefs(&json!({}))
    }

    /// One that runs no script of any page.
    #[track_caller]
    pub(crate) fn without_scripts() -> Self {
        Self::with_prefs(&json!({"profile.managed_default_content_settings.javascript": 2}))
    }

    #[track_caller]
    fn with_prefs(prefs: &Value) -> Self {
        let driver = Driver::start();
        let profile = tempfile::tempdir().unwrap();
        let mut flags: Vec<_> = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        let mut capabilities = Map::new();
        capabilities.insert("goog:chromeOptions".to_owned(), json!({"args": flags, "prefs": prefs}));
        capabilities.insert("goog:loggingPrefs".to_owned(), json!({"browser": "ALL"}));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let connecting = async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            timeout(PATIENCE, builder.capabilities(capabilities).connect(&driver.url)).await
        };
        let client = runtime.block_on(connecting).expect("Chromium starts in time").expect("Chromium starts");
        Self { client: Some(client), runtime, _driver: driver, _profile: profile }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    #[track_caller]
    fn run<T>(&self, what: &str, task: impl Future<Output = Result<T, CmdError>>) -> T {
        match self.runtime.block_on(async { timeout(PATIENCE, task).await }) {
            Ok(done) => done.unwrap_or_else(|error| panic!("{what}: {error}")),
            Err(elapsed) => panic!("{what}: {elapsed}"),
        }
    }

    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.run(url, self.client().goto(url));
    }

    #[track_caller]
    pub(crate) fn address(&self) -> String {
        self.run("the address", self.client().current_url()).to_string()
    }

    #[track_caller]
    pub(crate) fn title(&self) -> String {
        self.run("the title", self.client().title())
    }

    /// Waits for an element that this selector finds.
    #[track_caller]
    pub(crate) fn wait_for(&self, css: &str) -> Element {
        self.find(Locator::Css(css), css)
    }

    /// Waits for an element within `css` that shows this text, whatever else it shows.
    #[track_caller]
    pub(crate) fn wait_for_text(&self, css: &str, text: &str) {
        self.wait_until(&format!("`{text}` in {css}"), || self.texts(css).iter().any(|shown| shown.contains(text)));
    }

    /// Waits until something holds.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let is_late = Instant::now() > deadline;
            assert!(!is_late, "{what} did not come; the page is {}", self.run("the source", self.client().source()));
            self.runtime.block_on(async { sleep(GLANCES).await });
        }
    }

    #[track_caller]
    fn find(&self, locator: Locator<'_>, what: &str) -> Element {
        let waiting = self.client().wait().at_most(PATIENCE).every(GLANCES).for_element(locator);
        match self.runtime.block_on(waiting) {
            Ok(element) => element,
            Err(error) => panic!("{what}: {error}; the page is {}", self.run("the source", self.client().source())),
        }
    }

    /// What every element that this selector finds shows.
    pub(crate) fn texts(&self, css: &str) -> Vec<String> {
        let texts = async {
            let mut texts = Vec::new();
            for element in self.client().find_all(Locator::Css(css)).await? {
                // The page may have put another one in its place meanwhile.
                texts.extend(element.text().await);
            }
            Ok(texts)
        };
        self.run(css, texts)
    }

    #[track_caller]
    pub(crate) fn click(&self, css: &str) {
        let element = self.wait_for(css);
        self.run(css, element.click());
    }

    #[track_caller]
    pub(crate) fn type_into(&self, css: &str, text: &str) {
        let element = self.wait_for(css);
        self.run(css, element.send_keys(text));
    }

    /// What a script returns that runs beside the page's own.
    #[track_caller]
    pub(crate) fn script(&self, script: &str) -> Value {
        self.run(script, self.client().execute(script, Vec::new()))
    }

    /// Whether a dialog such as that of `alert()` stands before the page.
    pub(crate) fn shows_dialog(&self) -> bool {
        self.runtime.block_on(self.client().get_alert_text()).is_ok()
    }

    #[track_caller]
    pub(crate) fn forget_cookies(&self) {
        self.run("the cookies", self.client().delete_all_cookies());
    }

    /// Everything that stands in the console by now, such as what the page's policy forbade.
    #[track_caller]
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.vendor("se/log", json!({"type": "browser"}));
        entries.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// Gives the window the size and the colours of a device.
    #[track_caller]
    pub(crate) fn become_device(&self, width: u32, height: u32, is_phone: bool, scheme: &str) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}),
        );
        self.devtools("Emulation.setScrollbarsHidden", &json!({"hidden": true}));
        self.devtools("Emulation.setTouchEmulationEnabled", &json!({"enabled": is_phone}));
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Shows times as in this time zone.
    #[track_caller]
    pub(crate) fn become_local(&self, time_zone: &str) {
        self.devtools("Emulation.setTimezoneOverride", &json!({"timezoneId": time_zone}));
    }

    /// A picture of the window, or of the whole page, as PNG in Base64.
    #[track_caller]
    pub(crate) fn picture(&self, whole: bool) -> String {
        // Just after it was opened a page may have no size yet.
        let has_size = || self.devtools("Page.getLayoutMetrics", &json!({}))["cssContentSize"]["width"] != 0;
        assert!((0..1000).any(|_| has_size()), "the page is never laid out");
        let shot = self.devtools("Page.captureScreenshot", &json!({"captureBeyondViewport": whole}));
        shot["data"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.vendor("goog/cdp/execute", json!({"cmd": command, "params": parameters}))
    }

    #[track_caller]
    fn vendor(&self, path: &'static str, body: Value) -> Value {
        self.run(path, self.client().issue_cmd(Vendor { path, body }))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver would leave the browser behind if it were killed first.
        if let Some(client) = self.client.take() {
            let _ = self.runtime.block_on(async { timeout(PATIENCE, client.close()).await });
        }
    }
}
