//! What PagerDuty, or the way to it, can do wrong.

use std::time::Duration;

/// Trouble for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    /// The key it is about; `None` means all.
    pub(crate) key: Option<usize>,
    pub(crate) kind: Kind,
}

/// The trouble.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Connections are refused.
    Refused,
    /// Nobody answers: neither to connections, nor on those that are open.
    BlackHole,
    /// 5xx for this part of the events, some of them taken all the same.
    Errors { part: f64, retry_after: Option<Duration> },
    /// This part of the events is taken, but the answer is lost: too late, or the connection ended.
    LostAnswers { part: f64 },
    /// This part of the events meets a connection that ends as it is used again.
    Stale { part: f64 },
    /// Answers take so long.
    Slow { answer: Duration },
    /// Answers take exactly so long.
    Late { answer: Duration },
    /// The other side cannot prove who it is.
    Distrusted,
    /// Somebody on the way answers, and PagerDuty sees nothing.
    Middlebox { status: u16, body: &'static str },
    /// Only so many events per 60 seconds are taken.
    Throttled { limit: usize, counts_rejected: bool, retry_after: Option<Duration> },
}

/// What proxies, firewalls and gateways answer instead of PagerDuty.
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

/// What is special about an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    Fine,
    /// PagerDuty answers 400.
    Invalid,
    /// PagerDuty chokes on it until this moment.
    Poison {
        until: Duration,
        how: Choke,
    },
}

/// How PagerDuty chokes on an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Choke {
    Error,
    Timeout,
    /// The connection ends, so that it is never the event that is blamed.
    Reset,
}
