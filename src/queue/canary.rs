//! The stored records of canaries: when each was sent, and when its webhook came back.
//!
//! They are stored because the webhook may come to another bridge than the one that sent the canary, or after a restart.

use chrono::{DateTime, Utc};

use super::writer::Maintenance;
use super::{Queue, QueueError};
use crate::ingest::CanaryId;

/// How many canaries are kept.
pub(super) const MOST_CANARIES: u32 = 256;

/// One canary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CanaryRecord {
    /// The id of its event.
    pub id: CanaryId,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// Whether Sentry has accepted it, or why not; `None` while that is not known.
    pub taken: Option<Result<(), String>>,
    /// When its webhook came for the first time.
    pub returned_at: Option<DateTime<Utc>>,
}

/// What happened to a canary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CanaryChange {
    /// It is about to be sent.
    Sent {
        /// The id of its event.
        id: CanaryId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Sentry has answered, or could not be reached.
    Answered {
        /// The id of its event.
        id: CanaryId,
        /// Why Sentry did not accept it; `None`: it did.
        failure: Option<String>,
    },
    /// Its webhook came.
    Returned {
        /// The id of its event.
        id: CanaryId,
        /// When.
        at: DateTime<Utc>,
    },
}

impl Queue {
    /// Commits what happened to a canary, and returns when it was sent. Returns `None` if nothing changed: the canary had
    /// come back before, or is not stored because no bridge on this queue sent it.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn record_canary(&self, change: CanaryChange) -> Result<Option<DateTime<Utc>>, QueueError> {
        self.maintain(|reply| Maintenance::Canary(change, reply)).await
    }
}
