//! What the monitor, the metrics and the queue itself read.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{PostgresReads, with_keys};
use crate::metrics::PersistedMetrics;
use crate::pagerduty::{IncidentKey, ServiceKey};
use crate::queue::external::MAX_CANARIES;
use crate::queue::postgres::load::load_incidents;
use crate::queue::postgres::rows::stored;
use crate::queue::reader::{MAX_COUNTED, METRICS_DELAY, StatusReads};
use crate::queue::rows::{self, TypedRow as _};
use crate::queue::{
    Backlog, CanaryRecord, Durability, HeldId, HeldSummary, HeldWebhook, IncidentSummary, OutageNotice, Overview,
    QueueError, Survives,
};

/// The first waiting event of every service key, without the incidents that are left out; a few of their events may stand
/// before it.
const FIRST_WAITING: &str = with_keys!(
    "SELECT first.* FROM keys CROSS JOIN LATERAL (
        SELECT id, service_key, first_seen, revived_at, reason FROM events
        WHERE state = 'waiting' AND id > 0 AND service_key = keys.service_key AND incident_key <> ALL ($1::text[])
        ORDER BY id LIMIT 1
    ) AS first ORDER BY service_key"
);

const DEAD_LETTERS: &str = "SELECT newest.*, number FROM (
        SELECT service_key, SUM(events)::bigint AS number FROM tallies WHERE state = 'dead'
        GROUP BY service_key HAVING SUM(events) > 0
    ) AS dead CROSS JOIN LATERAL (
        SELECT id, service_key, finished_at, reason FROM events
        WHERE state = 'dead' AND id > 0 AND service_key = dead.service_key ORDER BY finished_at DESC LIMIT 1
    ) AS newest ORDER BY service_key";

const DIED: &str = "SELECT MAX(finished_at) AS died_at, COUNT(*) AS dead FROM events
    WHERE state = 'dead' AND service_key = $1 AND incident_key = $2";

/// One row for each service key and state. At most a thousand rejected and a few thousand held webhooks are stored, so
/// those can be counted.
const OVERVIEW: &str = "SELECT service_key, state, events,
        CASE state WHEN 'waiting' THEN (
            SELECT COALESCE(revived_at, first_seen) FROM events
            WHERE state = 'waiting' AND id > 0 AND service_key = counted.service_key ORDER BY id LIMIT 1
        ) END AS oldest_waiting, rejected, held, held_with_token_since
    FROM (
        SELECT (SELECT COUNT(*) FROM rejected) AS rejected, (SELECT COUNT(*) FROM held) AS held,
            (SELECT MIN(received_at) FROM held WHERE network IS NULL) AS held_with_token_since
    ) AS kept LEFT JOIN (
        SELECT service_key, state, SUM(events)::bigint AS events FROM tallies
        GROUP BY service_key, state HAVING SUM(events) > 0
    ) AS counted ON TRUE";

/// Reads in the order of an index, so no more of it than the limit.
const WAITING_ALERTS: &str = "SELECT COUNT(*) AS events,
        COUNT(*) FILTER (WHERE event_type = 'trigger' AND incident_key <> ALL ($1::text[])) AS alerts
    FROM (
        SELECT event_type, incident_key FROM events WHERE state = 'waiting' AND id > 0
        ORDER BY service_key, id LIMIT $2
    ) AS waiting";

/// A time of an event that is later than the server's clock comes from a bridge whose clock was ahead, and says nothing.
const DELIVERED_LATELY: &str = "SELECT service_key, MAX(at) AS at FROM (
        SELECT service_key, at FROM lately_delivered
        UNION ALL
        SELECT service_key, finished_at FROM events WHERE state = 'delivered' AND finished_at > $1
            AND finished_at <= EXTRACT(EPOCH FROM clock_timestamp()) * 1000
    ) AS delivered GROUP BY service_key ORDER BY service_key";

/// The newest canary that came back, and all that were sent after it, oldest first.
const CANARIES: &str = "SELECT event_id, sent_at, taken, failure, returned_at FROM (
        SELECT event_id, sent_at, taken, failure, returned_at FROM canaries WHERE sent_at <= $1 AND sent_at >= (
            SELECT COALESCE(MAX(sent_at), 0) FROM canaries WHERE returned_at IS NOT NULL AND sent_at <= $1
        ) ORDER BY sent_at DESC LIMIT $2
    ) AS latest ORDER BY sent_at";

const FAILING: &str = "SELECT service_key, kind, since FROM failing_keys";

#[async_trait]
impl StatusReads for PostgresReads {
    async fn overview(&self) -> Result<Overview, QueueError> {
        // One statement, so that all numbers are from the same moment.
        Ok(self
            .query(sqlx::query(OVERVIEW), rows::overview)
            .await?
            .into_iter()
            .fold(Overview::default(), Overview::plus))
    }

    async fn backlog(&self, without: &[IncidentKey]) -> Result<Backlog, QueueError> {
        let without: Vec<_> = without.iter().map(|key| stored(key.as_str())).collect();
        let first = sqlx::query(FIRST_WAITING).bind(without);
        let first = self.query(first, |row| Ok(rows::first_waiting(row).ok())).await?;
        let dead = self.query(sqlx::query(DEAD_LETTERS), |row| Ok(rows::dead_letters(row).ok())).await?;
        Ok(Backlog { first: first.into_iter().flatten().collect(), dead: dead.into_iter().flatten().collect() })
    }

    async fn waiting_alerts(&self, without: &[IncidentKey]) -> Result<Option<u64>, QueueError> {
        let without: Vec<_> = without.iter().map(|key| stored(key.as_str())).collect();
        let query = sqlx::query(WAITING_ALERTS).bind(without).bind(i64::from(MAX_COUNTED) + 1);
        let counted = self.query(query, |row| Ok((row.number::<u32>("events")?, row.number("alerts")?)));
        let counted = counted.await?.pop();
        Ok(counted.filter(|(events, _)| *events <= MAX_COUNTED).map(|(_, alerts)| alerts))
    }

    async fn incident(
        &self,
        incident_key: &IncidentKey,
        service_key: &ServiceKey,
    ) -> Result<IncidentSummary, QueueError> {
        let died = sqlx::query(DIED).bind(service_key.expose()).bind(stored(incident_key.as_str()));
        let died = self.query(died, |row| Ok((row.optional_time("died_at")?, row.number("dead")?))).await?;
        let (died_at, dead) = died.into_iter().next().unwrap_or_default();
        let known = self.people.with(async |connection| {
            let mut known = HashMap::new();
            load_incidents(connection, std::slice::from_ref(incident_key), &mut known).await?;
            Ok(known.remove(incident_key).unwrap_or_default())
        });
        let is_open = known.await?.after_delivery().into_values().any(|incident| incident.is_open);
        Ok(IncidentSummary { is_open, died_at, dead })
    }

    async fn delivered(&self) -> Result<u64, QueueError> {
        let query = sqlx::query("SELECT SUM(events)::bigint AS events FROM tallies WHERE state = 'delivered'");
        Ok(self.delivery_query(query, |row| row.optional_number("events")).await?.pop().flatten().unwrap_or_default())
    }

    async fn held_summaries(&self) -> Result<Vec<HeldSummary>, QueueError> {
        self.query(sqlx::query("SELECT id, received_at, network, size FROM held ORDER BY id"), rows::held_summary).await
    }

    async fn held(&self, id: HeldId) -> Result<Option<HeldWebhook>, QueueError> {
        let query = sqlx::query(
            "SELECT id, received_at, network, signature, resource, idempotency_key, sent_at, body FROM held WHERE id = $1",
        )
        .bind(id.get());
        Ok(self.query(query, rows::held).await?.pop())
    }

    async fn canaries(&self, now: DateTime<Utc>) -> Result<Vec<CanaryRecord>, QueueError> {
        let query = sqlx::query(CANARIES).bind(now.timestamp_millis()).bind(i64::from(MAX_CANARIES));
        self.query(query, rows::canary).await
    }

    async fn outage_notice(&self) -> Result<Option<OutageNotice>, QueueError> {
        let query = sqlx::query("SELECT told_at, outage_since FROM fallback");
        Ok(self.query(query, rows::outage_notice).await?.pop())
    }

    async fn durability(&self) -> Result<Durability, QueueError> {
        self.people.with(durability).await
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
            "SELECT began_at, received, delivered, throttled, failed FROM activity WHERE began_at >= $1 ORDER BY began_at",
        )
        .bind(since.timestamp_millis());
        metrics.buckets = self.query(buckets, rows::bucket).await?;
        Ok(metrics)
    }
}

impl PostgresReads {
    /// When PagerDuty last accepted an event of each service key. Deliveries after `remembered`, the last one that a run
    /// could store before it was killed, are known from the events themselves.
    async fn delivered_lately(
        &self,
        remembered: DateTime<Utc>,
    ) -> Result<BTreeMap<ServiceKey, DateTime<Utc>>, QueueError> {
        let query = sqlx::query(DELIVERED_LATELY).bind((remembered - METRICS_DELAY).timestamp_millis());
        let found = self.query(query, |row| Ok((row.service_key()?, row.time("at")?))).await?;
        Ok(found.into_iter().collect())
    }
}

/// Reads the settings of the server. `synchronous_commit` is what the bridge's transactions use, which is never weaker
/// than `on`.
async fn durability(connection: &mut PgConnection) -> sqlx::Result<Durability> {
    let (fsync, full_page_writes, session, standbys, is_standby): (String, String, String, String, bool) = sqlx::query_as(
        "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'), \
         current_setting('synchronous_standby_names'), pg_is_in_recovery()",
    )
    .fetch_one(connection)
    .await?;
    let synchronous_commit = if session == "remote_apply" { session } else { "on".to_owned() };
    Ok(Durability {
        survives: judge(&fsync, &full_page_writes, &standbys),
        settings: vec![
            ("fsync", fsync),
            ("full_page_writes", full_page_writes),
            ("synchronous_commit", synchronous_commit),
            ("synchronous_standby_names", standbys),
            ("pg_is_in_recovery", if is_standby { "on" } else { "off" }.to_owned()),
        ],
    })
}

/// Judges the settings. Source: PostgreSQL's manual, chapters "Write Ahead Log" and "Log-Shipping Standby Servers".
fn judge(fsync: &str, full_page_writes: &str, standbys: &str) -> Survives {
    match (fsync, full_page_writes, standbys.trim()) {
        ("on", "on", "") => Survives::Crash,
        ("on", "on", _) => Survives::Loss,
        _ => Survives::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_synchronous_standby_survives_the_loss_of_the_primary() {
        for (fsync, pages, standbys, expected) in [
            ("on", "on", "", Survives::Crash),
            ("on", "on", "ANY 1 (a, b)", Survives::Loss),
            ("off", "on", "ANY 1 (a, b)", Survives::Nothing),
            ("on", "off", "", Survives::Nothing),
        ] {
            assert_eq!(judge(fsync, pages, standbys), expected, "{fsync} {pages} {standbys}");
        }
    }
}
