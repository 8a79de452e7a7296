//! A strict local PagerDuty: Events API v1, at least as strict as the real one, that remembers everything and
//! misbehaves on command.
//!
//! People rehearse against it before they point the bridge at the real one, and all tests of the bridge run against
//! it. It shares no code with the product's PagerDuty code, so that each checks the other. What it answers and why was
//! collected from PagerDuty's pages and from answers that users published.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use std::net::TcpListener;
//! use pagerduty_sandbox::{Fault, FaultRule, Options, Sandbox};
//!
//! let sandbox = Sandbox::start(Options::default(), TcpListener::bind("127.0.0.1:0")?, None)?;
//! sandbox.inject(FaultRule::new(Fault::status(503)).times(2)).map_err(std::io::Error::other)?;
//! println!("post events to {}{}", sandbox.url(), pagerduty_sandbox::PATH);
//! # sandbox.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! - [`options`]: how it behaves; [`faults`]: how it misbehaves; `script`: which fault is due
//! - `api` (HTTP) → `pipeline` → `inspect` (`parse`, `validate`, `contexts`, `throttle`) → `state`
//! - `answers`: what is said; `delivery` and `connection`: how it travels
//! - [`journal`] and [`records`]: what is remembered
//! - [`control`]: the control port; `millis`: durations in its JSON
//! - `server`: both ports, on a thread of their own; `clock`: what time it is for all of it

mod answers;
mod api;
mod clock;
mod connection;
mod contexts;
pub mod control;
mod delivery;
pub mod faults;
mod inspect;
pub mod journal;
mod millis;
pub mod options;
mod parse;
mod pipeline;
pub mod records;
mod script;
mod server;
mod state;
mod throttle;
mod validate;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::api::Run;
use crate::records::Shared;
use crate::server::Running;

pub use clock::Clock;
pub use faults::{Body, Cut, Fault, FaultError, FaultRule, Until};
pub use journal::{Extent, JournalEntry, Received, Verdict};
pub use options::{Counting, Options, Oversize, RetryAfter, ThrottleOptions, ThrottleStatus, UnknownKey};
pub use records::{Counters, Records};
pub use script::StandingRule;
pub use state::{Effect, EventType, Incident, LogEntry, State};

/// The path of the Events API v1. The date in it is a version and never changes.
pub const PATH: &str = "/generic/2010-04-15/create_event.json";

/// A running sandbox. Dropping it ends it as [`stop`](Self::stop) does, but keeps the thread meanwhile.
#[derive(Debug)]
pub struct Sandbox {
    run: Run,
    running: Option<Running>,
    api: SocketAddr,
    control: Option<SocketAddr>,
}

impl Sandbox {
    /// Starts a sandbox with nothing in it that takes events at `api` and, if given, commands at `control`.
    ///
    /// # Errors
    ///
    /// When a listener is no good or no thread can be started.
    pub fn start(options: Options, api: TcpListener, control: Option<TcpListener>) -> io::Result<Self> {
        Self::start_with_clock(options, Clock::default(), api, control)
    }

    /// The same with a clock of your own for arrival times, the throttle and the end of faults.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with_clock(
        options: Options,
        clock: Clock,
        api: TcpListener,
        control: Option<TcpListener>,
    ) -> io::Result<Self> {
        Self::run(Arc::new(Shared::new(options, clock)), api, control)
    }

    fn run(shared: Arc<Shared>, api: TcpListener, control: Option<TcpListener>) -> io::Result<Self> {
        let addresses = (api.local_addr()?, control.as_ref().map(TcpListener::local_addr).transpose()?);
        let run = Run { shared, alive: Arc::new(AtomicBool::new(true)) };
        let running = Running::start(run.clone(), api, control)?;
        Ok(Self { run, running: Some(running), api: addresses.0, control: addresses.1 })
    }

    /// The root to which [`PATH`] is added, such as `http://127.0.0.1:8081`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The root of the control port, if there is one.
    #[must_use]
    pub fn control_url(&self) -> Option<String> {
        self.control.map(|address| format!("http://{address}"))
    }

    /// Looks at what is remembered, all of one moment. Requests wait meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Records) -> T) -> T {
        self.run.shared.read(look)
    }

    /// A copy of the newest requests, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.read(|records| records.journal().cloned().collect())
    }

    /// A copy of all incidents, by integration key and incident key.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.read(|records| records.incidents().cloned().collect())
    }

    /// What has happened since the last reset.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.read(Records::counters)
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> Options {
        self.read(|records| Options::clone(&records.options))
    }

    /// Puts others in their place, from the next request on.
    pub fn set_options(&self, options: Options) {
        self.run.shared.change(|records, _| records.options = Arc::new(options));
    }

    /// Adds a rule and tells its number.
    ///
    /// # Errors
    ///
    /// When it holds a status or a header that HTTP cannot carry.
    pub fn inject(&self, rule: impl Into<FaultRule>) -> Result<u64, FaultError> {
        self.run.shared.inject(rule.into())
    }

    /// The rules that stand, and how often each acted.
    #[must_use]
    pub fn faults(&self) -> Vec<StandingRule> {
        self.read(|records| records.script.rules().to_vec())
    }

    /// Takes all rules away. Events that are held back stay so.
    pub fn clear_faults(&self) {
        self.run.shared.change(|records, _| records.script.clear(None));
    }

    /// Applies all events that [`Fault::Late`] holds back, in the order they came.
    pub fn release_held(&self) {
        self.run.shared.change(|records, now| records.release(now, |_| true));
    }

    /// Forgets everything but the options.
    pub fn reset(&self) {
        self.run.shared.change(|records, _| records.reset());
    }

    /// A stream of journal entries from now on, each sent as its verdict falls. One who falls thousands of entries
    /// behind misses some.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<JournalEntry>> {
        self.run.shared.subscribe()
    }

    /// Waits until `condition` holds. It is asked at once and after every change.
    ///
    /// # Errors
    ///
    /// When that takes longer than `deadline`.
    pub async fn wait_for(
        &self,
        deadline: Duration,
        mut condition: impl FnMut(&Records) -> bool,
    ) -> Result<(), WaitError> {
        let mut changes = self.run.shared.changes();
        let holds = async {
            // The sender lives in `shared`, so this never errs.
            while !self.read(&mut condition) && changes.changed().await.is_ok() {}
        };
        tokio::time::timeout(deadline, holds)
            .await
            .map_err(|_| WaitError { deadline, counters: Box::new(self.counters()) })
    }

    /// Ends it: no event is taken any more, and the ports are free.
    pub async fn stop(mut self) -> Stopped {
        self.silence();
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        Stopped { shared: Arc::clone(&self.run.shared), api: self.api, control: self.control }
    }

    /// From here on no request changes anything, though its connection be open still.
    fn silence(&self) {
        self.run.shared.change(|_, _| self.run.alive.store(false, Ordering::Release));
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.silence();
            running.stop_blocking();
        }
    }
}

/// A sandbox that has ended and still remembers everything.
#[derive(Debug)]
pub struct Stopped {
    shared: Arc<Shared>,
    api: SocketAddr,
    control: Option<SocketAddr>,
}

impl Stopped {
    /// The address where it took events; a fresh sandbox may be started there.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.api
    }

    /// Looks at what is remembered.
    pub fn read<T>(&self, look: impl FnOnce(&Records) -> T) -> T {
        self.shared.read(look)
    }

    /// Starts it again at the same addresses with all it remembers.
    ///
    /// # Errors
    ///
    /// When somebody else has taken an address, or as [`Sandbox::start`].
    pub fn restart(self) -> io::Result<Sandbox> {
        let control = self.control.map(TcpListener::bind).transpose()?;
        Sandbox::run(self.shared, TcpListener::bind(self.api)?, control)
    }
}

/// What was waited for did not come.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox did not get there within {deadline:?}; so far: {counters:?}")]
pub struct WaitError {
    /// How long was waited.
    pub deadline: Duration,
    /// What had happened by then.
    pub counters: Box<Counters>,
}
