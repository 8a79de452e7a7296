//! Looks at what is committed.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::dedup_window::WINDOW;
use super::sqlite;
use super::unreadable::{KeysInLine, LookedAgain, Page};
use super::{
    Backlog, EventId, IncidentState, Overview, QueueError, Record, Rejected, RejectedId, RejectedSummary, State,
    Summary, WaitingEvent,
};
use crate::ingest::Prepared;
use crate::pagerduty::{IncidentKey, ServiceKey};

/// Reads the queue and never changes it; clones share their connections. Those who look at what people see have
/// connections of their own, so the deliveries never wait for them.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) sqlite: sqlite::Reads,
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

    /// The same, with what of it cannot be read: a row, or all rows on a damaged page of the file. Where nothing is
    /// damaged it costs no more.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or not even the numbers in line can.
    pub async fn page(&self, key: &ServiceKey, after: Option<EventId>, limit: u32) -> Result<Page, QueueError> {
        self.sqlite.page(key, after, limit).await
    }

    /// The service keys for which events are in line, and the events in line for what is none.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn keys_in_line(&self) -> Result<KeysInLine, QueueError> {
        self.sqlite.keys_in_line().await
    }

    /// Whether an event in line can be read, its body included.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub async fn look_again(&self, id: EventId) -> Result<LookedAgain, QueueError> {
        self.sqlite.look_again(id).await
    }

    /// Those of `ids` that are in line, as an index knows it, whether they can be read or not.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn in_line(&self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        self.sqlite.in_line(ids).await
    }

    /// When events were last attempted and how often in all, for last attempts from `since` to `now`, earliest first: what
    /// the pace of each service key has to count after a restart. Discarded events are among them for at least half an
    /// hour.
    ///
    /// Attempts that are marked with later times than `now` were made before the clock was set back. The last of them is
    /// told as if it had been made `now`, the others so much earlier than that as they were; it is not known better.
    ///
    /// Of each service key at most `most` attempts of either kind are told, the newest; what cannot be read is left out.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn attempts_since(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        most: u32,
    ) -> Result<Vec<(ServiceKey, DateTime<Utc>, u32)>, QueueError> {
        self.sqlite.attempts_since(since, now, most).await
    }

    /// The queue at a glance. What it costs does not depend on how many events there are.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or too many look at it.
    pub async fn overview(&self) -> Result<Overview, QueueError> {
        self.sqlite.overview().await
    }

    /// How many delivered events are kept.
    pub(super) async fn delivered(&self) -> Result<u64, QueueError> {
        self.sqlite.delivered().await
    }

    /// The newest events in any state, newest first: at most `limit`, those with numbers below `before`. One that alerts
    /// were folded into stays where its first alert put it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or too many look at it.
    pub async fn recent(&self, before: Option<EventId>, limit: u32) -> Result<Vec<Summary>, QueueError> {
        self.sqlite.recent(before, limit).await
    }

    /// At most `limit` events in a state, behind the event `after` in this order: what waits in the order of the line,
    /// dead letters from the greatest number, delivered events from the last that PagerDuty took.
    ///
    /// To read on, `after` is the last event of the page before. It may have left the state meanwhile; only behind
    /// a delivered event that is gone nothing is found, for it was the oldest.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or too many look at it.
    pub async fn list(&self, state: State, after: Option<EventId>, limit: u32) -> Result<Vec<Summary>, QueueError> {
        self.sqlite.list(state, after, limit).await
    }

    /// The newest rejected webhooks, newest first: at most `limit`, those with numbers below `before`.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or too many look at it.
    pub async fn rejected_list(
        &self,
        before: Option<RejectedId>,
        limit: u32,
    ) -> Result<Vec<RejectedSummary>, QueueError> {
        self.sqlite.rejected_list(before, limit).await
    }

    /// What wants somebody's attention. Events in line of the incidents `without` are not looked at.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn attention(&self, without: &[IncidentKey]) -> Result<Backlog, QueueError> {
        self.sqlite.attention(without).await
    }

    /// What is known of an incident at all integrations, and of its dead letters at one.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn incident(
        &self,
        incident_key: &IncidentKey,
        service_key: &ServiceKey,
    ) -> Result<IncidentState, QueueError> {
        self.sqlite.incident(incident_key, service_key).await
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

    /// Whether the event of an alert that came at `received_at` is in the queue already, by whichever webhook: as one that
    /// came within the dedup window of it, waits, is dead or was delivered.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn was_told(&self, prepared: &Prepared, received_at: DateTime<Utc>) -> Result<bool, QueueError> {
        let Some(event_id) = prepared.alert.event_id.as_deref().map(plain) else { return Ok(false) };
        let event = &prepared.event;
        let bodies =
            self.sqlite.triggers_around(event.service_key(), event.incident_key(), received_at, WINDOW).await?;
        Ok(bodies.iter().any(|body| told_event_id(body).is_some_and(|other| other == event_id)))
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

/// The id of the Sentry event that a trigger tells of.
fn told_event_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        details: Details,
    }
    #[derive(Deserialize)]
    struct Details {
        event_id: String,
    }
    serde_json::from_slice(body).ok().map(|Body { details: Details { event_id } }| plain(&event_id))
}

/// An id without what only some versions of Sentry write into it.
fn plain(event_id: &str) -> String {
    event_id.replace('-', "").to_ascii_lowercase()
}
