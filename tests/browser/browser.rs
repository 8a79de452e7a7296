//! A headless browser with a blocking interface. Every wait panics with the text of the page if it takes too long.

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

/// How often a page is polled during a wait.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Chromium makes no other connections than to the bridge, and needs nothing that a container does not have.
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

/// A running Chromium with its own profile; dropping it quits it.
pub(crate) struct Browser {
    client: Option<Client>,
    runtime: Runtime,
    _driver: Driver,
    _profile: TempDir,
}

/// A command of chromedriver that the `WebDriver` standard does not have.
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

    /// Starts a browser with JavaScript disabled.
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

    /// Waits for an element that matches this selector.
    #[track_caller]
    pub(crate) fn wait_for(&self, css: &str) -> Element {
        self.find(Locator::Css(css), css)
    }

    /// Waits for an element that matches `css` and contains this text.
    #[track_caller]
    pub(crate) fn wait_for_text(&self, css: &str, text: &str) {
        self.wait_until(&format!("`{text}` in {css}"), || self.texts(css).iter().any(|shown| shown.contains(text)));
    }

    /// Waits until `holds` returns true.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let is_late = Instant::now() > deadline;
            assert!(!is_late, "{what} did not come; the page is {}", self.run("the source", self.client().source()));
            self.runtime.block_on(async { sleep(POLL_INTERVAL).await });
        }
    }

    #[track_caller]
    fn find(&self, locator: Locator<'_>, what: &str) -> Element {
        let waiting = self.client().wait().at_most(PATIENCE).every(POLL_INTERVAL).for_element(locator);
        match self.runtime.block_on(waiting) {
            Ok(element) => element,
            Err(error) => panic!("{what}: {error}; the page is {}", self.run("the source", self.client().source())),
        }
    }

    /// The texts of all elements that match this selector.
    pub(crate) fn texts(&self, css: &str) -> Vec<String> {
        let texts = async {
            let mut texts = Vec::new();
            for element in self.client().find_all(Locator::Css(css)).await? {
                // The page's script may have replaced it meanwhile.
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

    /// Runs a script and returns its result.
    #[track_caller]
    pub(crate) fn script(&self, script: &str) -> Value {
        self.run(script, self.client().execute(script, Vec::new()))
    }

    /// Whether a dialog such as that of `alert()` is open.
    pub(crate) fn shows_dialog(&self) -> bool {
        self.runtime.block_on(self.client().get_alert_text()).is_ok()
    }

    #[track_caller]
    pub(crate) fn forget_cookies(&self) {
        self.run("the cookies", self.client().delete_all_cookies());
    }

    /// All messages of the console so far, for example violations of the page's content security policy.
    #[track_caller]
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.vendor("se/log", json!({"type": "browser"}));
        entries.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// Gives the window the size and the colour scheme of a device.
    #[track_caller]
    pub(crate) fn emulate_device(&self, width: u32, height: u32, is_phone: bool, scheme: &str) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}),
        );
        self.devtools("Emulation.setScrollbarsHidden", &json!({"hidden": true}));
        self.devtools("Emulation.setTouchEmulationEnabled", &json!({"enabled": is_phone}));
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Sets the time zone of the browser.
    #[track_caller]
    pub(crate) fn set_time_zone(&self, time_zone: &str) {
        self.devtools("Emulation.setTimezoneOverride", &json!({"timezoneId": time_zone}));
    }

    /// A screenshot of the window, or of the whole page, as PNG in Base64.
    #[track_caller]
    pub(crate) fn screenshot(&self, whole: bool) -> String {
        // Right after it was opened, a page may have no size yet.
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
        // If the driver were killed first, the browser would go on running.
        if let Some(client) = self.client.take() {
            let _ = self.runtime.block_on(async { timeout(PATIENCE, client.close()).await });
        }
    }
}
