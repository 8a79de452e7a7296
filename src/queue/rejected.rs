//! Webhooks that were rejected, kept so that a later version may understand them.

use std::fmt;

use chrono::{DateTime, Utc};

/// How many rejected webhooks are kept at most; the oldest goes first.
pub const MAX_REJECTED: u32 = 1_000;

/// How many bytes of rejected bodies are kept at most, in total; the oldest goes first. A body that is larger by itself is
/// not kept.
pub const MAX_REJECTED_BYTES: u32 = 64 * 1024 * 1024;

/// The number of a rejected webhook; written `r7`, to be told from an event. No number is used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RejectedId(i64);

impl RejectedId {
    /// The rejected webhook with this number.
    #[must_use]
    pub fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for RejectedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// A webhook that was answered 400 or 422, with all that it takes to judge it anew.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rejected {
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// Its header `Sentry-Hook-Resource`.
    pub resource: Option<String>,
    /// Its header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Its header `Sentry-Hook-Timestamp`.
    pub sent_at: Option<DateTime<Utc>>,
    /// Whether it had the header `Sentry-App-Signature`.
    pub from_sentrys_pages: bool,
    /// Whether a signature of Sentry's proved its body.
    pub is_signed: bool,
    /// Why it was rejected.
    pub reason: String,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
}
