//! A bridge in the test process with short intervals of canaries and audits. Its sockets, files and settings are real.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sentry_pagerduty_bridge::bridge::Bridge;
use sentry_pagerduty_bridge::canary::{CanaryLimits, CanarySchedule};
use sentry_pagerduty_bridge::config::Config;
use sentry_pagerduty_bridge::monitor::Intervals;
use sentry_pagerduty_bridge::sentry_api::audit::AuditSchedule;
use sentry_twin::{OutgoingWebhook, SentryGeneration, Twin, World};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::spec::Spec;
use crate::support::{KEY, PATIENCE, PagerDuty, get, get_with, post};
use crate::twin::{WEBHOOK_TOKEN, run_in, twin};

const ADMIN: &str = "admin-token-for-tests-alone";

/// A canary that has not come back after this time is lost.
const SHORT: CanaryLimits =
    CanaryLimits { patience: Duration::from_millis(700), quiet: Duration::ZERO, pending: Duration::from_millis(100) };

const CANARIES: CanarySchedule =
    CanarySchedule { every: Duration::from_millis(250), retry: Duration::from_millis(100) };

const INTERVALS: Intervals = Intervals {
    check: Duration::from_millis(20),
    resolve_after: Duration::from_millis(200),
    outage_after: Duration::from_mins(1),
    fallback_pause: Duration::from_secs(2),
};

/// A Sentry with the project `shop`, a PagerDuty, and the settings of a bridge between them.
pub(crate) struct Setup {
    pub(crate) twin: Twin,
    pub(crate) pagerduty: PagerDuty,
    pub(crate) home: TempDir,
    listener: Option<TcpListener>,
    pub(crate) address: SocketAddr,
}

impl Setup {
    /// A Sentry in which nothing calls the bridge.
    pub(crate) fn new(generation: SentryGeneration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let twin = twin(generation, |world: &mut World| {
            world.minute = Duration::ZERO;
            world.add_project("shop");
        });
        Self {
            twin,
            pagerduty: PagerDuty::start(),
            home: tempfile::tempdir().unwrap(),
            address: listener.local_addr().unwrap(),
            listener: Some(listener),
        }
    }

    /// A Sentry in which `connect` has created everything, including the canary's alert.
    #[track_caller]
    pub(crate) fn connected(generation: SentryGeneration) -> Self {
        let setup = Self::new(generation);
        if generation == SentryGeneration::Plugin {
            setup.connect(&[]);
        } else {
            setup.connect(&["--secret-file", setup.home.path().join("secret").to_str().unwrap()]);
        }
        setup
    }

    /// Runs `connect --canary --yes`.
    #[track_caller]
    pub(crate) fn connect(&self, more: &[&str]) {
        let root = format!("http://{}", self.address);
        let args = [&["connect", "--bridge", &root, "--canary", "--yes", "--no-test"], more].concat();
        let run = run_in(self.home.path(), &self.twin, &args, &[("BRIDGE_CANARY_DSN", &self.twin.dsn("shop"))]);
        assert_eq!(run.code, Some(0), "{run:?}");
    }

    /// Starts the bridge with these settings in addition to its usual ones.
    #[track_caller]
    pub(crate) fn start(&mut self, settings: &[(&str, &str)]) -> InProcessBridge {
        let listener = self.listener.take().unwrap_or_else(|| TcpListener::bind(self.address).unwrap());
        let database = format!("sqlite:{}", self.home.path().join("bridge.db").display());
        let secret = fs::read_to_string(self.home.path().join("secret")).unwrap_or_default();
        let (url, dsn) = (self.pagerduty.url(), self.twin.dsn("shop"));
        let usual = [
            ("BRIDGE_PAGERDUTY_URL", url.as_str()),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_PAGERDUTY_RATE", "10000"),
            ("BRIDGE_WEBHOOK_TOKEN", WEBHOOK_TOKEN),
            ("BRIDGE_SENTRY_CLIENT_SECRET", secret.trim()),
            ("BRIDGE_ADMIN_TOKEN", ADMIN),
            ("BRIDGE_DATABASE_URL", &database),
            ("BRIDGE_SHUTDOWN_DRAIN", "0s"),
            ("BRIDGE_CANARY_DSN", &dsn),
        ];
        let is_given = |name: &str| settings.iter().any(|(other, _)| *other == name);
        let usual = usual.iter().filter(|(name, _)| !is_given(name));
        let settings = usual.chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        InProcessBridge::start(listener, settings.collect())
    }
}

/// A bridge in the test process. Dropping it stops it.
pub(crate) struct InProcessBridge {
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl InProcessBridge {
    fn start(listener: TcpListener, settings: Vec<(String, String)>) -> Self {
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                let bridge = Box::pin(Bridge::build(Config::from_vars(settings).unwrap(), listener)).await.unwrap();
                let quick = Duration::from_millis(50);
                let schedule = AuditSchedule { first: quick, every: quick, retry: quick };
                let bridge = bridge.with_intervals(INTERVALS).with_schedules(CANARIES, schedule);
                let bridge =
                    bridge.with_trouble_limits(|limits| (limits.unverified, limits.canary) = (Duration::ZERO, SHORT));
                tell.send(()).unwrap();
                bridge.run_until_stopped(async { stopped.await.unwrap_or_default() }).await.unwrap();
            });
        });
        told.recv().unwrap();
        Self { address, running: Some((stop, thread)) }
    }

    /// Stops it gracefully.
    #[track_caller]
    pub(crate) fn end(mut self) {
        let (stop, thread) = self.running.take().unwrap();
        stop.send(()).unwrap();
        thread.join().unwrap();
    }

    /// Posts a webhook that the twin has held back.
    pub(crate) fn deliver(&self, delivery: &OutgoingWebhook) -> (u16, Value) {
        let path = url::Url::parse(&delivery.url).unwrap().path().to_owned();
        let headers: Vec<_> = delivery.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        post(self.address, &path, &headers, delivery.body.as_bytes()).status_and_json()
    }

    /// Posts a webhook as the plugin does.
    pub(crate) fn post(&self, body: &[u8]) -> (u16, Value) {
        post(self.address, &format!("/sentry/{WEBHOOK_TOKEN}"), &[], body).status_and_json()
    }

    /// The response of `/api/status`, validated against `docs/openapi.json`.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let answer = get_with(self.address, "/api/status", &[("Authorization", &format!("Bearer {ADMIN}"))]);
        assert_eq!(answer.status, 200);
        let status = answer.json();
        Spec::read().holds("GET", "/api/status", 200, &status);
        status
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        String::from_utf8(get(self.address, "/metrics").body).unwrap()
    }

    /// The value of a metric.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// The number of canaries that came back.
    pub(crate) fn returned(&self) -> f64 {
        self.metric("bridge_canary_round_trip_seconds_count")
    }

    /// Waits until `number` more canaries have come back.
    #[track_caller]
    pub(crate) fn wait_for_returns(&self, number: u32) {
        let before = self.returned();
        eventually("canaries that come back", || self.returned() >= before + f64::from(number));
    }
}

impl Drop for InProcessBridge {
    fn drop(&mut self) {
        let Some((stop, thread)) = self.running.take() else { return };
        drop(stop);
        // If it fails after the test has failed, that is no additional information.
        let _ = thread.join();
    }
}

/// Polls until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: waited in vain");
        thread::sleep(Duration::from_millis(20));
    }
}
