//! A strict local PagerDuty for tests and rehearsals.
//!
//! It serves the Events APIs v1 and v2 on a real socket, at least as strictly as PagerDuty does, keeps the incidents that
//! events open and resolve, records every request, and fails on command. Rehearse against it before you point a client
//! at the real one, or start one in each test:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::net::TcpListener;
//! use std::time::Duration;
//!
//! use pagerduty_sandbox::{Fault, FaultRule, Options, PATH, Sandbox};
//!
//! let sandbox = Sandbox::start(Options::default(), TcpListener::bind("127.0.0.1:0")?, None)?;
//! sandbox.inject(FaultRule::new(Fault::status(503)).times(2))?;
//! println!("post events to {}{PATH}", sandbox.url());
//! sandbox.wait_for(Duration::from_secs(30), |records| records.counters().opened == 1).await?;
//! sandbox.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! It is independent of the clients that it tests: it depends on none and shares no validation with any, so that a
//! misunderstanding of PagerDuty's rules becomes visible. Its own rules come from PagerDuty's documentation and from
//! responses that users published; where PagerDuty's behaviour is not known, an [option](Options) selects it.
//!
//! # How an event passes through
//!
//! ```text
//!  client ──▶ server ──▶ fault? ──▶ checks ──▶ incident ──▶ journal ──▶ subscribers
//!    ▲                     │          │           │
//!    └──── server ◀── response ◀──────┴───────────┘
//! ```
//!
//! 1. `server` reads the request, at most [`Options::max_body`] bytes of its body, and locks the records.
//! 2. `pipeline` asks `faults` which fault is due. It has parsed the JSON before, because a rule can be limited to a key or
//!    an event type. Some faults answer here, before anything is checked.
//! 3. `pipeline` checks the head and the size; `validate` applies the rules of the API to the JSON; then come the
//!    integration key and its rate limit. The first check that fails decides the response.
//! 4. `incidents` applies the event: it opens, acknowledges or resolves an incident, is added to the log of an open
//!    one, or is dropped.
//! 5. `journal` keeps a [`JournalEntry`] with the [`Verdict`] and counts it; `records` publishes it to subscribers.
//! 6. `responses` makes PagerDuty's response; `server` sends it as the fault demands: whole, late, in part, or never.
//!
//! Apart from generated incident keys, steps 2 to 5 depend on nothing but the records, the request and the time. They
//! happen under one lock, so [`Sandbox::read`] always sees a consistent state.
//!
//! # Faults
//!
//! A [`FaultRule`] says which requests a [`Fault`] happens to and how often. With a fault
//!
//! - the response is a different one: [`Answer`](Fault::Answer), [`Throttled`](Fault::Throttled),
//!   [`InvalidAs500`](Fault::InvalidAs500);
//! - the response is slow or missing: [`Delay`](Fault::Delay), [`Drip`](Fault::Drip), [`Hang`](Fault::Hang),
//!   [`Close`](Fault::Close), [`CloseIdle`](Fault::CloseIdle);
//! - the response does not show what happened to the event: [`SilentDrop`](Fault::SilentDrop), [`Late`](Fault::Late), and
//!   `Close` after the event was applied.
//!
//! # The REST API
//!
//! Below `/rest`, the same listener serves the part of PagerDuty's REST API that a client needs to look up incidents:
//! services with their integrations, incidents with their alerts, maintenance windows and who is on call. [`RestOptions`]
//! says which services there are, which token is accepted and how the API fails. A service that is disabled or in
//! maintenance accepts events but opens no incidents, as in PagerDuty.
//!
//! # Control endpoints
//!
//! A second listener serves commands over HTTP. It has no authentication: bind it to loopback. Bodies are JSON, with or
//! without a `Content-Type`; a refused request is answered with `400 {"status":"error","reason":"…"}`. With
//! `C=http://127.0.0.1:8091`:
//!
//! ```text
//! curl $C/healthz                                     # {"status":"ok"}
//! curl "$C/journal?service_key=KEY&limit=10"          # the newest entries, oldest first; 100 without a limit
//! curl $C/incidents                                   # every incident and its log
//! curl $C/incidents/act -d '{"service_key":"KEY","incident_key":"42","action":"resolve"}'     # as a person does
//! curl $C/webhooks                                    # webhooks V3 that were posted, for `webhooks` in the options
//! curl $C/counters                                    # exact, however few entries the journal keeps
//! curl $C/faults                                      # the active rules and how often each acted
//! curl $C/faults -d '{"times":3,"fault":{"kind":"answer","status":503,"body":"html"}}'        # {"id":1}
//! curl $C/faults -d '{"event_type":"trigger","fault":{"kind":"late","until":"resolved"}}'
//! curl -X DELETE "$C/faults?id=1"                     # one rule; without `id` all
//! curl -X POST $C/held/release                        # applies the events that `late` faults hold
//! curl $C/options                                     # all options
//! curl -X PUT $C/options -d '{"throttle":{"limit":5}}'                                        # changes those named
//! curl -X POST $C/reset                               # deletes everything but the options, faults too
//! ```
//!
//! The fields of a rule are those of [`FaultRule`], and the kinds of a fault are those of [`Fault`].

mod api;
mod control;
mod faults;
mod incidents;
mod journal;
mod options;
mod pipeline;
mod records;
mod responses;
mod rest;
mod server;
mod validate;
mod webhooks;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::records::SharedRecords;
use crate::server::SandboxThread;

pub use crate::api::{EventsApiVersion, PATH, PATH_V2};
pub use crate::faults::{CloseMode, Fault, FaultBody, FaultError, FaultRule, StandingRule, Until};
pub use crate::incidents::{
    ActionKind, Agent, Effect, EventType, Incident, IncidentLogEntry, IncidentState, ManualAction,
};
pub use crate::journal::{Counters, Extent, JournalEntry, Received, Verdict};
pub use crate::options::{
    Counting, IntegrationOptions, Options, Oversize, RestAnswer, RestOptions, RestServiceStatus, RetryAfter,
    ServiceOptions, Subscription, ThrottleOptions, ThrottleStatus, UnknownKey,
};
pub use crate::records::{Records, RestRequest, TimeSource};
pub use crate::webhooks::WebhookAttempt;

/// A running sandbox. Dropping it stops it as [`stop`](Self::stop) does, but blocks the thread meanwhile.
#[derive(Debug)]
pub struct Sandbox {
    shared: Arc<SharedRecords>,
    /// `None` once the sandbox was stopped.
    server: Option<SandboxThread>,
    api: SocketAddr,
    control: Option<SocketAddr>,
}

impl Sandbox {
    /// Starts an empty sandbox with the Events API at `api` and, if given, the control endpoints at `control`.
    ///
    /// # Errors
    ///
    /// When a listener cannot be used or the thread cannot be started.
    pub fn start(options: Options, api: TcpListener, control: Option<TcpListener>) -> io::Result<Self> {
        Self::start_with_clock(options, TimeSource::default(), api, control)
    }

    /// Like [`start`](Self::start), but with another clock.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with_clock(
        options: Options,
        clock: TimeSource,
        api: TcpListener,
        control: Option<TcpListener>,
    ) -> io::Result<Self> {
        Self::serve(Arc::new(SharedRecords::new(options, clock)), api, control)
    }

    fn serve(shared: Arc<SharedRecords>, api: TcpListener, control: Option<TcpListener>) -> io::Result<Self> {
        let (api_address, control_address) =
            (api.local_addr()?, control.as_ref().map(TcpListener::local_addr).transpose()?);
        let server = SandboxThread::start(Arc::clone(&shared), api, control)?;
        Ok(Self { shared, server: Some(server), api: api_address, control: control_address })
    }

    /// The root URL of the Events APIs, such as `http://127.0.0.1:8090`; add [`PATH`] or [`PATH_V2`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The root URL of the REST API.
    #[must_use]
    pub fn rest_url(&self) -> String {
        format!("{}{}", self.url(), rest::ROOT)
    }

    /// The root URL of the control endpoints, if there are any.
    #[must_use]
    pub fn control_url(&self) -> Option<String> {
        self.control.map(|address| format!("http://{address}"))
    }

    /// Reads the records. Requests wait until `read` returns.
    pub fn read<T>(&self, read: impl FnOnce(&Records) -> T) -> T {
        self.shared.read(read)
    }

    /// A copy of the newest journal entries, oldest first.
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

    /// The current options.
    #[must_use]
    pub fn options(&self) -> Options {
        self.read(|records| Options::clone(&records.options))
    }

    /// Replaces the options, from the next request on.
    pub fn set_options(&self, options: Options) {
        self.shared.change(|records, _| records.options = Arc::new(options));
    }

    /// Adds a fault rule and returns its number.
    ///
    /// # Errors
    ///
    /// When the response that the fault asks for is not possible: see [`FaultError`].
    pub fn inject(&self, rule: impl Into<FaultRule>) -> Result<u64, FaultError> {
        self.shared.inject(rule.into())
    }

    /// Performs an action of a person or of PagerDuty itself on an incident. Returns whether that changed it.
    #[must_use]
    pub fn act(&self, action: &ManualAction) -> bool {
        self.shared.change(|records, now| records.act(action, now))
    }

    /// The active fault rules, and how often each acted.
    #[must_use]
    pub fn faults(&self) -> Vec<StandingRule> {
        self.read(|records| records.faults.all().to_vec())
    }

    /// Removes all fault rules. Events that are held stay held.
    pub fn clear_faults(&self) {
        self.shared.change(|records, _| records.faults.clear(None));
    }

    /// Applies all events that [`Fault::Late`] holds, in the order in which they came.
    pub fn release_held(&self) {
        self.shared.change(|records, now| records.release(now, |_| true));
    }

    /// Deletes everything but the options.
    pub fn reset(&self) {
        self.shared.change(|records, _| records.reset());
    }

    /// Returns a receiver of every journal entry from now on. A subscriber that falls 4,096 entries behind misses some.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<JournalEntry>> {
        self.shared.subscribe()
    }

    /// Waits until `condition` holds. It is checked at once and after every change.
    ///
    /// # Errors
    ///
    /// When it does not hold within `deadline`.
    pub async fn wait_for(
        &self,
        deadline: Duration,
        mut condition: impl FnMut(&Records) -> bool,
    ) -> Result<(), WaitError> {
        let mut changes = self.shared.changes();
        let holds = async {
            // The sender lives in `shared`, so `changed` does not fail.
            while !self.read(&mut condition) && changes.changed().await.is_ok() {}
        };
        tokio::time::timeout(deadline, holds)
            .await
            .map_err(|_| WaitError { deadline, counters: Box::new(self.counters()) })
    }

    /// Stops the sandbox: from now on no request changes anything, and when this returns the ports are free.
    pub async fn stop(mut self) -> Stopped {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        Stopped { shared: Arc::clone(&self.shared), api: self.api, control: self.control }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop_blocking();
        }
    }
}

/// A sandbox that was stopped and still has its records.
#[derive(Debug)]
pub struct Stopped {
    shared: Arc<SharedRecords>,
    api: SocketAddr,
    control: Option<SocketAddr>,
}

impl Stopped {
    /// The address of its Events API, where another sandbox can be started.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.api
    }

    /// Reads the records.
    pub fn read<T>(&self, read: impl FnOnce(&Records) -> T) -> T {
        self.shared.read(read)
    }

    /// Starts it again at the same addresses with the same records.
    ///
    /// # Errors
    ///
    /// When an address is in use by now, or for the reasons of [`Sandbox::start`].
    pub fn restart(self) -> io::Result<Sandbox> {
        let control = self.control.map(TcpListener::bind).transpose()?;
        Sandbox::serve(self.shared, TcpListener::bind(self.api)?, control)
    }
}

/// The condition of [`Sandbox::wait_for`] did not hold in time.
#[derive(Debug, thiserror::Error)]
#[error("the condition did not hold within {deadline:?}; the counters: {counters:?}")]
pub struct WaitError {
    /// The time limit that was exceeded.
    pub deadline: Duration,
    /// The counters at that moment.
    pub counters: Box<Counters>,
}
