//! Faults of PagerDuty and of the network.

use std::time::Duration;

/// A fault, from when to when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    /// The affected key; `None` means all.
    pub(crate) key: Option<usize>,
    pub(crate) kind: Kind,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Connections are refused.
    Refused,
    /// No response: neither to new connections nor on open ones.
    BlackHole,
    /// This part of the events is answered with 5xx; some of them are accepted nevertheless.
    Errors { part: f64, retry_after: Option<Duration> },
    /// This part of the events is accepted, but the response is lost: it comes too late, or the connection ends.
    LostAnswers { part: f64 },
    /// For this part of the events, a reused connection ends.
    Stale { part: f64 },
    /// Responses take this long.
    Slow { answer: Duration },
    /// Responses take exactly this long.
    Late { answer: Duration },
    /// The TLS certificate is not trusted.
    Distrusted,
    /// A middlebox answers, and PagerDuty receives nothing.
    Middlebox { status: u16, body: &'static str },
    /// Only this number of events per 60 seconds is accepted.
    Throttled { limit: usize, counts_rejected: bool, retry_after: Option<Duration> },
}

/// Responses of proxies, firewalls and gateways in place of PagerDuty's.
pub(crate) const MIDDLEBOXES: [(u16, &str); 10] = [
    (404, "<html><body><h1>404 Not Found</h1></body></html>"),
    (401, r#"{"message":"Unauthorized"}"#),
    (405, ""),
    (407, "<html>Proxy Authentication Required</html>"),
    (421, ""),
    (425, ""),
    (429, "slow down"),
    (451, r#"{"status":"error","message":"blocked by policy"}"#),
    (499, ""),
    (502, "<html>Bad Gateway</html>"),
];

impl Fault {
    pub(crate) fn concerns(&self, now: Duration, key: usize) -> bool {
        self.from <= now && now < self.until && self.key.is_none_or(|own| own == key)
    }
}

/// How PagerDuty handles an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    Fine,
    /// PagerDuty answers 400.
    Invalid,
    /// PagerDuty fails on it until this time.
    Poison {
        until: Duration,
        how: PoisonFailure,
    },
}

/// How PagerDuty fails on a poison event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PoisonFailure {
    Error,
    Timeout,
    /// The connection ends, so that the failure is never attributed to the event.
    Reset,
}
