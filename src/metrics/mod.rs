//! What happened, counted: the handle that every room may touch, and the answers of `/metrics` and the charts.

mod activity;

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

pub use activity::{Activity, Bucket, Happening};

/// Where a webhook came from, as far as the bridge knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// Sentry's legacy plugin `WebHooks`.
    Legacy,
    /// Sentry's integration platform.
    Platform,
    /// Nobody knows: it was turned away, could not be read, or is neither.
    Unknown,
}

/// What a webhook was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answered {
    /// 202, queued.
    Queued,
    /// 202, ignored.
    Ignored,
    /// 400 or 422: not JSON, or no webhook of Sentry's.
    Rejected,
    /// 401, because of the token.
    WrongToken,
    /// 401, because of the signature.
    WrongSignature,
    /// 408, 413, or broken off.
    Unread,
    /// 503: it could not be committed, or there was no room to read it.
    Unavailable,
}

/// A handle on the counters of one bridge; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    activity: Activity,
    last_webhook_at: Option<DateTime<Utc>>,
    last_delivered_at: Option<DateTime<Utc>>,
    wrong_signatures: u32,
}

/// What the metrics know beyond counters.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When a webhook that proved where it comes from was received last, also in an earlier run.
    pub last_webhook_at: Option<DateTime<Utc>>,
    /// When PagerDuty took an event last, also in an earlier run.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// How many webhooks in a row had a wrong signature.
    pub wrong_signatures: u32,
    /// The last 24 hours.
    pub activity: Vec<Bucket>,
}

impl Metrics {
    /// Counters that start at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A webhook was answered at `at`.
    pub fn webhook(&self, source: Source, answered: Answered, at: DateTime<Utc>) {
        let _ = source;
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            Answered::WrongSignature => notes.wrong_signatures = notes.wrong_signatures.saturating_add(1),
            Answered::WrongToken | Answered::Unread => {}
            Answered::Queued | Answered::Ignored | Answered::Rejected | Answered::Unavailable => {
                notes.wrong_signatures = 0;
                notes.last_webhook_at = Some(at);
                notes.activity.note(Happening::Received, at);
            }
        }
    }

    /// What is known at `now`.
    #[must_use]
    pub fn snapshot(&self, now: DateTime<Utc>) -> Snapshot {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            last_webhook_at: notes.last_webhook_at,
            last_delivered_at: notes.last_delivered_at,
            wrong_signatures: notes.wrong_signatures,
            activity: notes.activity.last_day(now),
        }
    }
}
