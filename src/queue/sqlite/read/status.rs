//! What the monitor, the metrics and the queue itself read.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::{Pool, SqliteReads, with_keys};
use crate::metrics::PersistedMetrics;
use crate::pagerduty::{ApiSet, ApiVersion, EventType, IncidentKey, ServiceKey};
use crate::queue::external::MAX_CANARIES;
use crate::queue::reader::{MAX_COUNTED, METRICS_DELAY, StatusReads};
use crate::queue::rows::{self, TypedRow as _};
use crate::queue::sqlite::database::is_damaged;
use crate::queue::sqlite::load::{ACCEPTED, WAITING, WAITING_UNREAD};
use crate::queue::store::{IncidentEvent, IntegrationIncident, KnownIncident};
use crate::queue::{
    Backlog, CanaryRecord, DeadLetters, Durability, HeldId, HeldSummary, HeldWebhook, IncidentSummary, OutageNotice,
    Overview, QueueError, Survives,
};

/// The first waiting event of every service key, without the incidents that are left out; a few of their events may stand
/// before it.
const FIRST_WAITING: &str = with_keys!(
    "SELECT id, service_key, first_seen, revived_at, reason FROM events WHERE id IN (
        SELECT (
            SELECT line.id FROM events AS line WHERE line.state = 'waiting' AND line.service_key = keys.service_key
            AND line.incident_key NOT IN (SELECT value FROM json_each(?)) ORDER BY line.id LIMIT 1
        ) FROM keys
    )"
);

macro_rules! dead_letters {
    () => {
        "SELECT newest.id, newest.service_key, tallies.events AS number, newest.finished_at, \
     newest.reason FROM tallies JOIN events AS newest ON newest.id = (
        SELECT line.id FROM events AS line
        WHERE line.state = 'dead' AND line.service_key = tallies.service_key AND line.finished_at IS NOT NULL
        ORDER BY line.finished_at DESC LIMIT 1
    ) WHERE tallies.state = 'dead' AND tallies.events > 0"
    };
}

const DEAD_LETTERS: &str = dead_letters!();

const DEAD_LETTERS_OF_KEY: &str = concat!(dead_letters!(), " AND tallies.service_key = ?");

const DIED: &str = "SELECT MAX(finished_at) AS died_at, COUNT(*) AS dead FROM events \
     WHERE state = 'dead' AND service_key = ? AND incident_key = ?";

/// One row for each service key and state, or a single row without them if no event is stored. At most a thousand
/// rejected and a few thousand held webhooks are stored, so those can be counted.
const OVERVIEW: &str = "SELECT kept.rejected, kept.held, kept.held_with_token_since, service_key, state, events,
        CASE state WHEN 'waiting' THEN (
            SELECT COALESCE(revived_at, first_seen) FROM events AS line
            WHERE line.state = 'waiting' AND line.service_key = tallies.service_key ORDER BY line.id LIMIT 1
        ) END AS oldest_waiting
    FROM (
        SELECT (SELECT COUNT(*) FROM rejected) AS rejected, (SELECT COUNT(*) FROM held) AS held,
            (SELECT MIN(received_at) FROM held WHERE network IS NULL) AS held_with_token_since
    ) AS kept
    LEFT JOIN tallies ON events > 0";

/// The same without reading any event.
const TALLIES: &str = "SELECT kept.rejected, kept.held, kept.held_with_token_since, service_key, state, events,
        NULL AS oldest_waiting
    FROM (
        SELECT (SELECT COUNT(*) FROM rejected) AS rejected, (SELECT COUNT(*) FROM held) AS held,
            (SELECT MIN(received_at) FROM held WHERE network IS NULL) AS held_with_token_since
    ) AS kept
    LEFT JOIN tallies ON events > 0";

/// Reads an index from its beginning, and no more of it than the limit.
const WAITING_ALERTS: &str = "SELECT COUNT(*) AS events,
        COUNT(*) FILTER (WHERE event_type = 'trigger' AND incident_key NOT IN (SELECT value FROM json_each(?1))) AS alerts
    FROM (SELECT event_type, incident_key FROM events INDEXED BY events_waiting WHERE state = 'waiting' LIMIT ?2)";

/// The newest canary that came back, and all that were sent after it, oldest first. Those with a time after `?1` are left
/// out: they were sent while the clock was ahead.
const CANARIES: &str = "SELECT event_id, sent_at, taken, failure, returned_at FROM (
        SELECT event_id, sent_at, taken, failure, returned_at FROM canaries WHERE sent_at <= ?1 AND sent_at >= (
            SELECT COALESCE(MAX(sent_at), 0) FROM canaries WHERE returned_at IS NOT NULL AND sent_at <= ?1
        ) ORDER BY sent_at DESC LIMIT ?2
    ) ORDER BY sent_at";

const HELD: &str = "SELECT id, received_at, network, size FROM held ORDER BY id";

const FAILING: &str = "SELECT service_key, kind, since FROM failing_keys";

#[async_trait]
impl StatusReads for SqliteReads {
    async fn overview(&self) -> Result<Overview, QueueError> {
        // One statement, so that all numbers are from the same moment.
        match self.limited(self.query(sqlx::query(OVERVIEW), rows::overview)).await {
            Err(error) if error.is_damage() => self.limited(self.overview_around_damage()).await,
            rows => Ok(rows?.into_iter().fold(Overview::default(), Overview::plus)),
        }
    }

    async fn backlog(&self, without: &[IncidentKey]) -> Result<Backlog, QueueError> {
        let without: Vec<_> = without.iter().map(IncidentKey::as_str).collect();
        let without = serde_json::to_string(&without).unwrap_or_default();
        let first = self.query(sqlx::query(FIRST_WAITING).bind(&without), |row| Ok(rows::first_waiting(row).ok()));
        let mut first = match self.limited(first).await {
            Err(error) if error.is_damage() => self.limited(self.first_readable(&without)).await?,
            first => first?.into_iter().flatten().collect(),
        };
        first.sort_by(|one, other| one.service_key.cmp(&other.service_key));
        let mut dead = match self.limited(self.query(sqlx::query(DEAD_LETTERS), rows::dead_letters)).await {
            Err(error) if error.is_damage() => self.limited(self.readable_dead_letters()).await?,
            dead => dead?,
        };
        dead.sort_by(|one, other| one.service_key.cmp(&other.service_key));
        Ok(Backlog { first, dead })
    }

    async fn waiting_alerts(&self, without: &[IncidentKey]) -> Result<Option<u64>, QueueError> {
        let without: Vec<_> = without.iter().map(IncidentKey::as_str).collect();
        let without = serde_json::to_string(&without).unwrap_or_default();
        let query = sqlx::query(WAITING_ALERTS).bind(without).bind(MAX_COUNTED + 1);
        let counted = self.query(query, |row| Ok((row.number::<u32>("events")?, row.number("alerts")?)));
        let counted = self.limited(counted).await?.pop();
        Ok(counted.filter(|(events, _)| *events <= MAX_COUNTED).map(|(_, alerts)| alerts))
    }

    async fn incident(
        &self,
        incident_key: &IncidentKey,
        service_key: &ServiceKey,
    ) -> Result<IncidentSummary, QueueError> {
        let died = sqlx::query(DIED).bind(service_key.expose()).bind(incident_key.as_str());
        let died = self.query(died, |row| Ok((row.optional_time("died_at")?, row.number("dead")?)));
        let (died_at, dead) = self.limited(died).await?.pop().unwrap_or_default();
        let known = self.with_connection(Pool::People, async |connection| incident(connection, incident_key).await);
        let known = self.limited(known).await?;
        Ok(IncidentSummary {
            is_open: known.after_delivery().into_values().any(|incident| incident.is_open),
            died_at,
            dead,
        })
    }

    async fn delivered(&self) -> Result<u64, QueueError> {
        let query = sqlx::query("SELECT SUM(events) AS events FROM tallies WHERE state = 'delivered'");
        Ok(self.delivery_query(query, |row| row.optional_number("events")).await?.pop().flatten().unwrap_or_default())
    }

    async fn durability(&self) -> Result<Durability, QueueError> {
        // The connections set these values themselves, and a copy of the file on another disk does not take part in a
        // commit.
        let settings = vec![("journal_mode", "WAL".to_owned()), ("synchronous", "FULL".to_owned())];
        Ok(Durability { survives: Survives::Crash, settings })
    }

    async fn canaries(&self, now: DateTime<Utc>) -> Result<Vec<CanaryRecord>, QueueError> {
        let query = sqlx::query(CANARIES).bind(now.timestamp_millis()).bind(MAX_CANARIES);
        self.limited(self.query(query, rows::canary)).await
    }

    async fn held_summaries(&self) -> Result<Vec<HeldSummary>, QueueError> {
        self.query(sqlx::query(HELD), rows::held_summary).await
    }

    async fn held(&self, id: HeldId) -> Result<Option<HeldWebhook>, QueueError> {
        let query = sqlx::query(
            "SELECT id, received_at, network, signature, resource, idempotency_key, sent_at, body FROM held \
             WHERE id = ?",
        )
        .bind(id.get());
        Ok(self.query(query, rows::held).await?.pop())
    }

    async fn persisted_metrics(&self, since: DateTime<Utc>) -> Result<PersistedMetrics, QueueError> {
        let lately = sqlx::query("SELECT last_webhook_at, last_delivered_at, untrusted FROM lately");
        let mut metrics = self.query(lately, rows::last_times).await?.pop().unwrap_or_default();
        metrics.delivered = self.delivered_lately(metrics.last_delivered_at.unwrap_or(since)).await?;
        let failing = self.query(sqlx::query(FAILING), |row| Ok(rows::failing(row).ok())).await?;
        metrics.failing = failing.into_iter().flatten().collect();
        let row = sqlx::query("SELECT number, first_at, lasted_ms, senders, more FROM wrong_signatures");
        metrics.wrong_signatures = self.query(row, |row| Ok(rows::signatures(row).ok())).await?.pop().flatten();
        let buckets = sqlx::query(
            "SELECT began_at, received, delivered, throttled, failed FROM activity \
             WHERE began_at >= ? ORDER BY began_at",
        )
        .bind(since.timestamp_millis());
        metrics.buckets = self.query(buckets, rows::bucket).await?;
        Ok(metrics)
    }

    async fn outage_notice(&self) -> Result<Option<OutageNotice>, QueueError> {
        let query = sqlx::query("SELECT told_at, outage_since FROM fallback");
        Ok(self.limited(self.query(query, rows::outage_notice)).await?.pop())
    }
}

impl SqliteReads {
    /// The counts of the tallies, and the oldest event of each service key that can be read.
    pub(super) async fn overview_around_damage(&self) -> Result<Overview, QueueError> {
        let rows = self.query(sqlx::query(TALLIES), rows::overview).await?;
        let mut overview = rows.into_iter().fold(Overview::default(), Overview::plus);
        for oldest in self.first_readable("[]").await? {
            overview.oldest_waiting = overview.oldest_waiting.into_iter().chain([oldest.since]).min();
            let mut destinations = overview.service_keys.iter_mut();
            if let Some(own) = destinations.find(|destination| destination.service_key == oldest.service_key) {
                own.oldest_waiting = Some(oldest.since);
            }
        }
        Ok(overview)
    }

    /// The dead letters of each service key whose newest one can be read.
    async fn readable_dead_letters(&self) -> Result<Vec<DeadLetters>, QueueError> {
        let keys = "SELECT service_key FROM tallies WHERE state = 'dead' AND events > 0";
        let keys = self.query(sqlx::query(keys), |row| Ok(row.service_key().ok())).await?;
        let mut dead = Vec::new();
        for key in keys.into_iter().flatten() {
            let query = sqlx::query(DEAD_LETTERS_OF_KEY).bind(key.expose().to_owned());
            match self.query(query, rows::dead_letters).await {
                Ok(mut found) => dead.append(&mut found),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(dead)
    }

    /// When PagerDuty last accepted an event of each service key. Deliveries after `remembered`, the last one that a run
    /// could store before it was killed, are known from the events themselves.
    async fn delivered_lately(
        &self,
        remembered: DateTime<Utc>,
    ) -> Result<BTreeMap<ServiceKey, DateTime<Utc>>, QueueError> {
        let query = sqlx::query(
            "SELECT service_key, MAX(at) AS at FROM (
                SELECT service_key, at FROM lately_delivered
                UNION ALL
                SELECT service_key, finished_at FROM events WHERE state = 'delivered' AND finished_at > ?
            ) GROUP BY service_key",
        )
        .bind((remembered - METRICS_DELAY).timestamp_millis());
        let found = self.query(query, |row| Ok((row.service_key()?, row.time("at")?))).await?;
        Ok(found.into_iter().collect())
    }
}

/// Reads at which integrations the incident is open and its waiting events, but not which of those can be folded into.
/// Rows without a valid service key are left out, because their events are not delivered.
async fn incident(connection: &mut SqliteConnection, incident_key: &IncidentKey) -> sqlx::Result<KnownIncident> {
    let mut known = KnownIncident::default();
    for row in sqlx::query(ACCEPTED).bind(incident_key.as_str()).fetch_all(&mut *connection).await? {
        let Ok(service_key) = ServiceKey::parse(row.try_get("service_key")?) else { continue };
        let apis = row.try_get("apis").map_or_else(|_| ApiSet::only(ApiVersion::default()), ApiSet::of_number);
        let (is_open, triggered_at) = (row.try_get("is_open")?, sentry_at(&row)?);
        known.delivered.push((service_key, IntegrationIncident { is_open, apis, triggered_at }));
    }
    let waiting = sqlx::query(WAITING).bind(incident_key.as_str()).fetch_all(&mut *connection).await;
    let waiting = match waiting {
        Err(error) if is_damaged(&error) => {
            sqlx::query(WAITING_UNREAD).bind(incident_key.as_str()).fetch_all(connection).await?
        }
        waiting => waiting?,
    };
    for row in &waiting {
        known.waiting.extend(incident_event(row)?);
    }
    Ok(known)
}

fn incident_event(row: &SqliteRow) -> sqlx::Result<Option<IncidentEvent>> {
    let service_key = ServiceKey::parse(row.try_get("service_key")?);
    let (Ok(service_key), Some(event_type)) = (service_key, EventType::parse(row.try_get("event_type")?)) else {
        return Ok(None);
    };
    let api = row.try_get("api").map_or_else(|_| ApiVersion::default(), ApiVersion::of_number);
    Ok(Some(IncidentEvent { service_key, api, event_type, sentry_at: sentry_at(row)?, foldable: None }))
}

fn sentry_at(row: &SqliteRow) -> sqlx::Result<Option<DateTime<Utc>>> {
    let milliseconds: Option<i64> = row.try_get("sentry_at")?;
    Ok(milliseconds.and_then(DateTime::from_timestamp_millis))
}

#[cfg(test)]
pub(in crate::queue::sqlite) const QUERIES: [&str; 4] = [FIRST_WAITING, DEAD_LETTERS, DIED, OVERVIEW];
