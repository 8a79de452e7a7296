//! Reads what is committed.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::external::{CatchUpRun, IssueNote, OpenIncident};
use super::postgres::PostgresReads;
use super::sqlite::SqliteReads;
use super::{
    Backlog, CanaryRecord, Durability, EventId, EventRecord, EventSummary, HeldId, HeldSummary, HeldWebhook,
    IncidentSummary, IssueUpdate, OutageNotice, Overview, Proof, QueueError, RejectedId, RejectedSummary,
    RejectedWebhook, State, StatusChange, WaitingEvent,
};
use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::metrics::PersistedMetrics;
use crate::pagerduty::{IncidentKey, ServiceKey};

/// How many event numbers one statement searches. No index can be used for a search for text, so it goes back from the
/// newest event in steps.
const SEARCH_STEP: i64 = 20_000;

/// A search that takes longer stops and returns what it has found.
const SEARCH_TIME: Duration = Duration::from_secs(1);

/// The maximum number of waiting events among which alerts are counted.
pub(super) const MAX_COUNTED: u32 = 1_000;

/// How many events one statement reads, where it is given their numbers.
pub(super) const MAX_SUMMARIES: usize = 500;

/// The metrics record a delivery a little after it was made, and its event is marked as delivered in the commit of its
/// disposition. Up to this long may lie between the two; if it is longer, the database has worse problems than a missing
/// time in the metrics.
pub(super) const METRICS_DELAY: TimeDelta = TimeDelta::minutes(1);

/// Reads the queue and never changes it; clones share their connections.
#[derive(Clone, Debug)]
pub struct Reader(Arc<dyn Reads>);

impl Reader {
    /// Opens a database for reading only; bridges may be running on it.
    ///
    /// # Errors
    ///
    /// When there is no such database, or its tables are not those of this program.
    pub async fn open(database: impl Into<DatabaseConfig>) -> Result<Self, QueueError> {
        let config = database.into();
        match &config.url {
            DatabaseUrl::Sqlite(path) => Ok(Self::of(SqliteReads::open(path).await?)),
            DatabaseUrl::Postgres(url) => Ok(Self::of(PostgresReads::open(&config, url).await?)),
        }
    }

    pub(super) fn of(reads: impl Reads + 'static) -> Self {
        Self(Arc::new(reads))
    }

    /// Returns the newest events below `before` that match, newest first, at most `limit`. It takes about a second at
    /// most: if more events are left to search, the result says how far it came.
    ///
    /// # Errors
    ///
    /// When the queue cannot be read.
    pub async fn search(
        &self,
        search: &Search,
        before: Option<EventId>,
        limit: u32,
    ) -> Result<SearchResult, QueueError> {
        let (began, mut found) = (Instant::now(), SearchResult::default());
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut next = self.recent(before, 1).await?.first().map(|newest| newest.id.get());
        while let Some(newest) = next {
            if began.elapsed() > SEARCH_TIME {
                found.searched_to = Some(EventId::new(newest.saturating_add(1)));
                break;
            }
            let (from, before) = (newest.saturating_sub(SEARCH_STEP - 1), newest.saturating_add(1));
            let missing = u32::try_from(limit - found.events.len()).unwrap_or(u32::MAX);
            found.events.extend(self.matching(search, EventId::new(from), EventId::new(before), missing).await?);
            if found.events.len() >= limit {
                found.searched_to = found.events.last().map(|last| last.id);
                break;
            }
            next = self.recent(Some(EventId::new(from)), 1).await?.first().map(|event| event.id.get());
        }
        Ok(found)
    }
}

impl Deref for Reader {
    type Target = dyn Reads;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// Everything that can be read from a queue. An error means that it cannot be read, or that too many readers use it at
/// the same moment.
#[async_trait]
pub trait Reads: DeliveryReads + ListReads + ExternalReads + StatusReads + Debug + Send + Sync {
    /// The location of the queue, as the operator wrote it.
    fn database(&self) -> String;

    /// Stops reading; this closes every clone.
    async fn close(&self);
}

/// The service keys and times of attempts, earliest first, and how many attempts each entry stands for.
pub type RecentAttempts = Vec<(ServiceKey, DateTime<Utc>, u32)>;

/// What the deliveries read. Their connections are used for nothing else, so they do not wait for other readers.
#[async_trait]
pub trait DeliveryReads {
    /// The first `limit` waiting events of `key` after `after`, in order, and those among them that cannot be read: a row, or
    /// all rows on a damaged page of the file.
    async fn page(&self, key: &ServiceKey, after: Option<EventId>, limit: u32) -> Result<Page, QueueError>;

    /// The service keys with waiting events, and the waiting events whose stored service key is not valid.
    async fn waiting_keys(&self) -> Result<WaitingKeys, QueueError>;

    /// Whether a waiting event can be read, its body included.
    async fn recheck(&self, id: EventId) -> Result<Recheck, QueueError>;

    /// The service key, the time of the last attempt and the number of all attempts of each event whose last attempt was
    /// between `since` and `now`, earliest first: what the rate limiter of each service key has to count after a restart.
    /// Discarded events are included for at least half an hour.
    ///
    /// Attempts with times later than `now` were made before the clock was set back, and their real times are not known.
    /// The last of them is returned as if it had been made `now`; the others keep their distance from it.
    ///
    /// For each service key, at most the newest `most` attempts up to `now`, and as many with later times, are returned;
    /// rows that cannot be read are left out.
    async fn attempts_since(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        most: u32,
    ) -> Result<RecentAttempts, QueueError>;

    /// A number that changes with every change by an [`Editor`](super::Editor), after which events may wait at their old
    /// places again, and others may be gone.
    async fn generation(&self) -> Result<u64, QueueError>;
}

/// What pages and commands read.
#[async_trait]
pub trait ListReads {
    /// The newest events in any state, newest first: at most `limit`, those with numbers below `before`. An event that
    /// alerts were folded into keeps the place of its first alert.
    async fn recent(&self, before: Option<EventId>, limit: u32) -> Result<Vec<EventSummary>, QueueError>;

    /// The newest events that match, newest first: at most `limit`, among those with numbers from `from` to below
    /// `before`. It reads every event in this range.
    async fn matching(
        &self,
        search: &Search,
        from: EventId,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<EventSummary>, QueueError>;

    /// The bodies of these events as they are stored, without the counts of those that were not sent yet.
    async fn bodies(&self, ids: &[EventId]) -> Result<HashMap<EventId, Vec<u8>>, QueueError>;

    /// At most `limit` events in a state, after the event `after` in this order: waiting events by ascending number, dead
    /// letters by descending number, delivered events from the one that PagerDuty accepted last.
    ///
    /// To read the next page, pass the last event of the page before as `after`. It may have left the state meanwhile.
    /// Only after a delivered event that is gone nothing is found, because the oldest are deleted first.
    async fn list(&self, state: State, after: Option<EventId>, limit: u32) -> Result<Vec<EventSummary>, QueueError>;

    /// The newest rejected webhooks, newest first: at most `limit`, those with numbers below `before`.
    async fn rejected_list(&self, before: Option<RejectedId>, limit: u32) -> Result<Vec<RejectedSummary>, QueueError>;

    /// All about one event; `None` when the queue has none with that number.
    async fn get(&self, id: EventId) -> Result<Option<EventRecord>, QueueError>;

    /// The numbers of at most `limit` events in a state: waiting ones in their order, dead letters from the oldest,
    /// delivered ones from the newest.
    async fn ids(&self, state: State, limit: u64) -> Result<Vec<EventId>, QueueError>;

    /// These events as a list shows them, in this order, without those that are gone.
    async fn summaries(&self, ids: &[EventId]) -> Result<Vec<EventSummary>, QueueError>;

    /// At most `limit` rejected webhooks as a list shows them, from the oldest.
    async fn rejected_summaries(&self, limit: u64) -> Result<Vec<RejectedSummary>, QueueError>;

    /// A rejected webhook; `None` when there is none with that number.
    async fn rejected(&self, id: RejectedId) -> Result<Option<RejectedWebhook>, QueueError>;

    /// The events among `ids` that wait, found by an index, whether they can be read or not.
    async fn still_waiting(&self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError>;

    /// The bodies of the triggers of an incident at an integration that came within `reach` of `around`, in any state.
    async fn triggers_around(
        &self,
        service_key: &ServiceKey,
        incident_key: &IncidentKey,
        around: DateTime<Utc>,
        reach: TimeDelta,
    ) -> Result<Vec<Vec<u8>>, QueueError>;
}

/// What catch-up, the polling of issues, the updates of issues and the look-up of proofs read: what is known from the APIs of
/// Sentry and PagerDuty, and the incidents that they are asked about.
#[async_trait]
pub trait ExternalReads {
    /// When the newest alert of each of these incidents came. Events that were delivered before `since` do not count,
    /// unless their incident is open.
    async fn last_triggers(
        &self,
        incidents: &[IncidentKey],
        since: DateTime<Utc>,
    ) -> Result<HashMap<IncidentKey, DateTime<Utc>>, QueueError>;

    /// Incidents that are open in PagerDuty, most recently changed first, at most about `limit`.
    async fn open_incidents(&self, limit: u32) -> Result<Vec<OpenIncident>, QueueError>;

    /// What Sentry's API said about the issues of these incidents, as far as it is known.
    async fn sentry_issues(&self, incidents: &[IncidentKey]) -> Result<Vec<IssueNote>, QueueError>;

    /// The last run of catch-up that was complete.
    async fn catch_up(&self) -> Result<Option<CatchUpRun>, QueueError>;

    /// Whether PagerDuty has accepted a trigger of this incident, at any integration, within the last half year, or may
    /// have accepted one, because an event of the incident still waits.
    async fn knows_incident(&self, incident_key: &IncidentKey) -> Result<bool, QueueError>;

    /// The waiting updates of issues, in the order in which they came; at most 500.
    async fn issue_updates(&self) -> Result<Vec<IssueUpdate>, QueueError>;

    /// Whether an update with this change of the incident's issue waits, or was made at `since` or later.
    async fn was_updated(
        &self,
        incident_key: &IncidentKey,
        change: StatusChange,
        since: DateTime<Utc>,
    ) -> Result<bool, QueueError>;

    /// What is known of these events, in no particular order.
    async fn proofs(&self, events: &[EventId]) -> Result<Vec<Proof>, QueueError>;

    /// The failures that somebody has to look at, newest first, at most 100: those of the last 24 hours whose service key has
    /// had no event confirmed since, and those that were found within the last hour.
    async fn failed_proofs(&self, now: DateTime<Utc>) -> Result<Vec<Proof>, QueueError>;
}

/// What the monitor, the metrics and the queue itself read.
#[async_trait]
pub trait StatusReads {
    /// The queue at a glance. Its cost does not depend on the number of events.
    async fn overview(&self) -> Result<Overview, QueueError>;

    /// What needs attention. Waiting events of the incidents `without` are left out.
    async fn backlog(&self, without: &[IncidentKey]) -> Result<Backlog, QueueError>;

    /// How many triggers wait, except those of the incidents `without`; `None` when more than 1000 events wait, because
    /// those are not counted one by one.
    async fn waiting_alerts(&self, without: &[IncidentKey]) -> Result<Option<u64>, QueueError>;

    /// What is known of an incident at all integrations, and of its dead letters at one.
    async fn incident(
        &self,
        incident_key: &IncidentKey,
        service_key: &ServiceKey,
    ) -> Result<IncidentSummary, QueueError>;

    /// How many delivered events are kept.
    async fn delivered(&self) -> Result<u64, QueueError>;

    /// What a committed alert survives in this database.
    async fn durability(&self) -> Result<Durability, QueueError>;

    /// The newest canary that came back, and all that were sent after it, oldest first; at most 256. Canaries with a time
    /// after `now` are left out: the clock was set back since.
    async fn canaries(&self, now: DateTime<Utc>) -> Result<Vec<CanaryRecord>, QueueError>;

    /// Every held webhook, in the order in which they came.
    async fn held_summaries(&self) -> Result<Vec<HeldSummary>, QueueError>;

    /// A held webhook; `None` when there is none with that number.
    async fn held(&self, id: HeldId) -> Result<Option<HeldWebhook>, QueueError>;

    /// The persisted metrics from before a restart, as far back as `since`.
    async fn persisted_metrics(&self, since: DateTime<Utc>) -> Result<PersistedMetrics, QueueError>;

    /// The last message to the fallback webhook; `None`: there was none yet.
    async fn outage_notice(&self) -> Result<Option<OutageNotice>, QueueError>;
}

/// A waiting event that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unreadable {
    /// Its number, which was read from an index.
    pub id: EventId,
    /// The integration it goes to; `None` where that is what cannot be read.
    pub service_key: Option<ServiceKey>,
    /// Why, as a sentence for the operator.
    pub reason: String,
}

/// A part of the waiting events of one service key, from [`Reader::page`](super::DeliveryReads::page).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// The events that can be read, in order.
    pub events: Vec<WaitingEvent>,
    /// The events in this part that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// The greatest number in this part, readable or not; `None` when it is empty.
    pub end: Option<EventId>,
    /// Whether no newer event was waiting.
    pub is_last: bool,
}

/// The service keys with waiting events, from [`Reader::waiting_keys`](super::DeliveryReads::waiting_keys).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WaitingKeys {
    /// The keys that can be read, in order.
    pub keys: Vec<ServiceKey>,
    /// Waiting events whose stored service key is not valid.
    pub unreadable: Vec<Unreadable>,
}

/// Whether an event that could not be read can be read now, from [`Reader::recheck`](super::DeliveryReads::recheck).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recheck {
    /// It can be read, and waits for this integration.
    Readable(ServiceKey),
    /// It still cannot be read.
    Unreadable,
    /// It no longer waits.
    Gone,
}

/// What people search for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Search {
    /// Matches events whose description contains it, or whose incident key is it or ends with it, in upper or lower case.
    pub text: String,
    /// Also matches events that go to one of these integrations.
    pub service_keys: Vec<ServiceKey>,
}

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SearchResult {
    /// The events, newest first.
    pub events: Vec<EventSummary>,
    /// All events from this number on were searched; `None`: all events were.
    pub searched_to: Option<EventId>,
}

/// Escapes the text for a LIKE pattern, in which it then matches only itself.
pub(super) fn like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_was_typed_and_nothing_else() {
        assert_eq!(like("100 % of a_b\\c"), "100 \\% of a\\_b\\\\c");
    }
}
