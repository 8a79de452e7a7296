//! Looks at what is committed.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::sqlite;
use super::{Counts, EventId, QueueError, Record, WaitingEvent};
use crate::pagerduty::ServiceKey;

/// Reads the queue and never changes it; clones share their connections.
#[derive(Clone, Debug)]
pub struct Reader {
    sqlite: sqlite::Reads,
}

impl Reader {
    /// Opens the SQLite file `path` for looking only; a bridge may be running on it.
    ///
    /// # Errors
    ///
    /// When there is no such file, or its tables are not those of this program.
    pub async fn open(path: &Path) -> Result<Self, QueueError> {
        Ok(Self { sqlite: sqlite::Reads::open(path).await? })
    }

    pub(super) fn beside(engine: &sqlite::Engine) -> Self {
        Self { sqlite: engine.reads() }
    }

    pub(super) async fn close(&self) {
        self.sqlite.close().await;
    }

    /// The service keys for which events are in line.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn keys_waiting(&self) -> Result<Vec<ServiceKey>, QueueError> {
        self.sqlite.keys_waiting().await
    }

    /// The first `limit` events in line for `key` behind `after`, in order.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn waiting(
        &self,
        key: &ServiceKey,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<WaitingEvent>, QueueError> {
        self.sqlite.waiting(key, after, limit).await
    }

    /// When events were last attempted and how often in all, for last attempts begun at `since` or later, earliest
    /// first: what the pace of each service key has to count after a restart.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn attempts_since(
        &self,
        since: DateTime<Utc>,
    ) -> Result<Vec<(ServiceKey, DateTime<Utc>, u32)>, QueueError> {
        self.sqlite.attempts_since(since).await
    }

    /// How many events stand where.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn counts(&self) -> Result<Counts, QueueError> {
        self.sqlite.counts().await
    }

    /// All about one event; `None` when the queue has none with that number.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn get(&self, id: EventId) -> Result<Option<Record>, QueueError> {
        self.sqlite.get(id).await
    }
}
