//! A bridge in the test process with short check and resolve intervals. Its sockets, files and settings are real.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sentry_pagerduty_bridge::bridge::Bridge;
use sentry_pagerduty_bridge::config::{Config, SecretFiles, Source};
use sentry_pagerduty_bridge::monitor::Intervals;
use sentry_pagerduty_bridge::proof::sample::ProofSchedule;
use sentry_pagerduty_bridge::queue::{Queue, Reader};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::ON;
use crate::support::{KEY, TOKEN, post, run};

/// Short intervals.
pub(crate) const INTERVALS: Intervals = Intervals {
    check: Duration::from_millis(20),
    resolve_after: Duration::from_millis(200),
    // Longer than the view of the deliveries may be out of date.
    outage_after: Duration::from_millis(700),
    fallback_pause: Duration::from_millis(100),
};

/// The time after which the proof of an event that opened no incident is given up.
pub(crate) const GIVEN_UP: Duration = Duration::from_millis(1500);

/// When deliveries are looked up in PagerDuty, if its REST API is set.
fn look_ups() -> ProofSchedule {
    let offsets = [50, 300, 700].map(Duration::from_millis).into_iter().chain([GIVEN_UP]).collect();
    ProofSchedule::new(offsets, Duration::from_millis(600), Duration::from_millis(20))
}

/// A bridge in the test process. Dropping it stops it.
pub(crate) struct InProcessBridge {
    pub(crate) address: SocketAddr,
    running: Option<Running>,
    settings: Vec<(String, String)>,
    intervals: Intervals,
    unverified: Duration,
    home: TempDir,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl InProcessBridge {
    /// Starts a bridge that delivers to `pagerduty`, with alarms on. `settings` override the default ones. A wrong signature
    /// is an alarm at once.
    #[track_caller]
    pub(crate) fn start(pagerduty: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_in(INTERVALS, Duration::ZERO, pagerduty, settings)
    }

    /// Like [`start`](Self::start), with other intervals, and with an alarm only after `unverified` with nothing but wrong
    /// signatures.
    #[track_caller]
    pub(crate) fn start_in(
        intervals: Intervals,
        unverified: Duration,
        pagerduty: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        let database = database_in(&home);
        let usual = [
            ON,
            ("BRIDGE_PAGERDUTY_URL", pagerduty),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_PAGERDUTY_RATE", "10000"),
            ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
            ("BRIDGE_DATABASE_URL", &database),
            ("BRIDGE_SHUTDOWN_DRAIN", "0s"),
        ];
        let settings = usual.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<_> = settings.collect();
        let (address, running) = begin(settings.clone(), intervals, unverified);
        Self { address, running: Some(running), settings, intervals, unverified, home }
    }

    /// Posts a webhook and asserts that it was queued.
    #[track_caller]
    pub(crate) fn queue(&self, body: &[u8]) {
        let (status, said) = self.post(body);
        assert_eq!((status, &said["status"]), (202, &Value::from("queued")), "{said}");
    }

    /// Posts a webhook as Sentry does.
    #[track_caller]
    pub(crate) fn post(&self, body: &[u8]) -> (u16, Value) {
        post(self.address, &format!("/sentry/{TOKEN}"), &[("Content-Type", "application/json")], body).status_and_json()
    }

    /// Stops it gracefully.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.send(()).unwrap();
        running.thread.join().unwrap();
    }

    /// Starts it again on the same queue, on another port.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        let (address, running) = begin(self.settings.clone(), self.intervals, self.unverified);
        (self.address, self.running) = (address, Some(running));
    }

    /// Runs the command `queue` with these arguments on its database, whether the bridge runs or not.
    #[track_caller]
    pub(crate) fn run_queue(&self, args: &[&str]) {
        let settings = [
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
            ("BRIDGE_DATABASE_URL", &database_in(&self.home)),
        ];
        let done = run(&[&["queue"], args].concat(), &settings);
        assert_eq!(done.code, Some(0), "{done:?}");
    }

    /// Executes a statement on its database.
    pub(crate) fn execute_sql(&self, sql: &'static str) {
        use sqlx::ConnectOptions;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let path = self.home.path().join("bridge.db");
            let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        });
    }

    /// Writes to its queue while the bridge is stopped.
    pub(crate) fn write_queue(&self, what: impl AsyncFnOnce(&Queue)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let queue = Queue::open(self.home.path().join("bridge.db").as_path()).await.unwrap();
            what(&queue).await;
            queue.close().await.unwrap();
        });
    }

    /// Reads from its queue.
    pub(crate) fn read_queue<T>(&self, what: impl AsyncFnOnce(Reader) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { what(Reader::open(&self.home.path().join("bridge.db")).await.unwrap()).await })
    }
}

impl Drop for InProcessBridge {
    fn drop(&mut self) {
        let Some(Running { stop, thread }) = self.running.take() else { return };
        drop(stop);
        // If it fails after the test has failed, that is no additional information.
        let _ = thread.join();
    }
}

fn database_in(home: &TempDir) -> String {
    let path: PathBuf = home.path().join("bridge.db");
    format!("sqlite:{}", path.display())
}

fn begin(settings: Vec<(String, String)>, intervals: Intervals, unverified: Duration) -> (SocketAddr, Running) {
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        actix_web::rt::System::new().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let files = SecretFiles::of(&Source::variables(settings.clone()));
            let hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
            let bridge = Box::pin(Bridge::build(Config::from_vars(settings).unwrap(), listener)).await.unwrap();
            let bridge = bridge.with_secret_files(files, hangups);
            tell.send(bridge.address()).unwrap();
            let stopped = async { stopped.await.unwrap_or_default() };
            let bridge = bridge.with_intervals(intervals).with_proof_schedule(look_ups());
            let bridge = bridge.with_trouble_limits(|limits| limits.unverified = unverified);
            bridge.run_until_stopped(stopped).await.unwrap();
        });
    });
    (told.recv().unwrap(), Running { stop, thread })
}
