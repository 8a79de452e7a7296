//! What is kept of canaries: when each was sent, and when its webhook came back.
//!
//! The webhook may come to another bridge than sent the canary, or after a restart, so that both look here.

use chrono::{DateTime, Utc};

use super::writer::Maintenance;
use super::{Queue, QueueError};
use crate::ingest::CanaryId;

/// How many canaries are kept.
pub(super) const MOST_CANARIES: u32 = 256;

/// One canary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CanaryRecord {
    /// Its event.
    pub id: CanaryId,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// Whether Sentry has taken it, or why not; `None` while that is not known.
    pub taken: Option<Result<(), String>>,
    /// When its webhook came first.
    pub returned_at: Option<DateTime<Utc>>,
}

/// What happened to a canary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CanaryChange {
    /// It is about to be sent.
    Sent {
        /// Its event.
        id: CanaryId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Sentry has answered, or could not be reached.
    Answered {
        /// Its event.
        id: CanaryId,
        /// Why it was not taken; `None`: it was.
        failure: Option<String>,
    },
    /// Its webhook came.
    Returned {
        /// Its event.
        id: CanaryId,
        /// When.
        at: DateTime<Utc>,
    },
}

impl Queue {
    /// Commits what happened to a canary, and returns when it was sent if that is news: not for one that came back before,
    /// and not for one that nobody here sent.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn record_canary(&self, change: CanaryChange) -> Result<Option<DateTime<Utc>>, QueueError> {
        self.maintain(|reply| Maintenance::Canary(change, reply)).await
    }
}
