//! Looks at what is committed.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::sqlite;
use super::{
    Counts, EventId, Overview, QueueError, Record, Rejected, RejectedId, RejectedSummary, State, Summary, WaitingEvent,
};
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

    pub(super) fn of(sqlite: sqlite::Reads) -> Self {
        Self { sqlite }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.sqlite.path()
    }

    /// Lets go of the file; every clone is closed by it.
    pub async fn close(&self) {
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

    /// The queue at a glance.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn overview(&self) -> Result<Overview, QueueError> {
        let Counts { waiting, dead, delivered, oldest_waiting } = self.counts().await?;
        Ok(Overview { waiting, dead, delivered, oldest_waiting, ..Overview::default() })
    }

    /// All about one event; `None` when the queue has none with that number.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn get(&self, id: EventId) -> Result<Option<Record>, QueueError> {
        self.sqlite.get(id).await
    }

    /// The numbers of at most `limit` events in a state: those in line in their order, dead letters from the oldest,
    /// delivered ones from the newest.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn ids(&self, state: State, limit: u64) -> Result<Vec<EventId>, QueueError> {
        self.sqlite.ids(state, limit).await
    }

    /// What a list tells about these events, in this order, without those that are gone.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn summaries(&self, ids: &[EventId]) -> Result<Vec<Summary>, QueueError> {
        self.sqlite.summaries(ids).await
    }

    /// What a list tells about at most `limit` rejected webhooks, from the oldest.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn rejected_summaries(&self, limit: u64) -> Result<Vec<RejectedSummary>, QueueError> {
        self.sqlite.rejected_summaries(limit).await
    }

    /// A rejected webhook; `None` when there is none with that number.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn rejected(&self, id: RejectedId) -> Result<Option<Rejected>, QueueError> {
        self.sqlite.rejected(id).await
    }

    /// A number that is another one after every change by an [`Editor`](super::Editor): then events may be back in
    /// line at their old places, and others gone.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn generation(&self) -> Result<u64, QueueError> {
        self.sqlite.generation().await
    }
}
