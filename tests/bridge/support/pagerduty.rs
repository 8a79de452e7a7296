//! The strict sandbox, for tests that are not async.

use std::net::{SocketAddr, TcpListener};
use std::ops::Deref;
use std::time::Duration;

use pagerduty_sandbox::{FaultRule, JournalEntry, Options, Records, Sandbox, ThrottleOptions, Verdict};
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};

use super::{EXTENSIONS, PATIENCE};

/// A running sandbox without a rate limit.
pub(crate) struct PagerDuty {
    sandbox: Sandbox,
    runtime: Runtime,
}

impl PagerDuty {
    pub(crate) fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Starts a sandbox with a fault.
    pub(crate) fn with_fault(rule: impl Into<FaultRule>) -> Self {
        let pagerduty = Self::start();
        pagerduty.inject(rule).unwrap();
        pagerduty
    }

    /// Starts a sandbox on a listener that may have pending connections already.
    pub(crate) fn listen(listener: TcpListener) -> Self {
        let throttle = ThrottleOptions { limit: 100_000, ..ThrottleOptions::default() };
        let sandbox = Sandbox::start(Options { throttle, ..Options::default() }, listener, None).unwrap();
        Self { sandbox, runtime: Builder::new_current_thread().enable_time().build().unwrap() }
    }

    /// Waits until `condition` holds; the timeout starts again with each request.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, mut condition: impl FnMut(&Records) -> bool) {
        for last in 1.. {
            let requests = self.sandbox.counters().requests;
            let Err(error) = self.runtime.block_on(self.sandbox.wait_for(PATIENCE, &mut condition)) else { return };
            let goes_on = last < EXTENSIONS && self.sandbox.counters().requests > requests;
            assert!(goes_on, "{what} did not come: {error}; journal: {:#?}", self.sandbox.journal());
        }
    }

    /// Like [`wait_for`](Self::wait_for), with a longer timeout than [`PATIENCE`].
    #[allow(dead_code, reason = "tests/bridge waits for nothing of that kind")]
    #[track_caller]
    pub(crate) fn wait_within(&self, patience: Duration, what: &str, condition: impl FnMut(&Records) -> bool) {
        let waited = self.runtime.block_on(self.sandbox.wait_for(patience, condition));
        assert!(waited.is_ok(), "{what} did not come within {patience:?}");
    }

    /// Waits until `number` events were applied.
    #[track_caller]
    pub(crate) fn wait_for_accepted(&self, number: u64) {
        self.wait_for(&format!("accepted event {number}"), |records| records.counters().accepted >= number);
    }

    /// Waits until `number` requests have come, whatever the response.
    #[track_caller]
    pub(crate) fn wait_for_requests(&self, number: u64) {
        self.wait_for(&format!("request {number}"), |records| records.counters().requests >= number);
    }

    /// Incident key and description of every applied trigger, in order.
    pub(crate) fn triggers(&self) -> Vec<(String, String)> {
        let text = |entry: &JournalEntry, member: &str| entry.text(member).unwrap().to_owned();
        let triggers = self.sandbox.journal().into_iter().filter(|entry| {
            matches!(entry.verdict, Verdict::Accepted { .. }) && entry.text("event_type") == Some("trigger")
        });
        triggers.map(|entry| (text(&entry, "incident_key"), text(&entry, "description"))).collect()
    }
}

impl Deref for PagerDuty {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

/// A port on which nothing listens yet, reserved so that no other process can take it.
pub(crate) struct ClosedPort {
    socket: Socket,
    address: SocketAddr,
}

impl ClosedPort {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { socket, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts a sandbox on this port.
    pub(crate) fn open(self) -> PagerDuty {
        self.socket.listen(1024).unwrap();
        PagerDuty::listen(self.socket.into())
    }
}
