//! What is known from the APIs of Sentry and PagerDuty.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::PostgresReads;
use crate::pagerduty::IncidentKey;
use crate::queue::external::{
    CatchUpRun, FORGOTTEN_AFTER, IssueNote, MAX_FAILURES, MAX_UPDATES, OpenIncident, Proof, SHOWN_FOR,
};
use crate::queue::postgres::rows::{numbers, stored};
use crate::queue::reader::ExternalReads;
use crate::queue::rows::{self, TypedRow as _};
use crate::queue::{EventId, IssueUpdate, QueueError, StatusChange};

/// When the newest alert of each of the incidents `$1` came. Triggers that were delivered before `$2` are left out,
/// unless their incident is open.
const TRIGGERS: &str = "SELECT incident_key, MAX(at) AS at FROM (
        SELECT incident_key, received_at AS at FROM events
        WHERE state = 'waiting' AND event_type = 'trigger' AND incident_key = ANY($1::text[])
        UNION ALL
        SELECT incident_key, received_at AS at FROM events
        WHERE state = 'dead' AND event_type = 'trigger' AND incident_key = ANY($1::text[])
        UNION ALL
        SELECT incident_key, received_at AS at FROM events
        WHERE state = 'delivered' AND finished_at >= $2 AND event_type = 'trigger' AND incident_key = ANY($1::text[])
        UNION ALL
        SELECT incident_key, changed_at AS at FROM incidents WHERE is_open AND incident_key = ANY($1::text[])
        UNION ALL
        SELECT issue_key AS incident_key, received_at AS at FROM incident_issues
        WHERE (is_open OR received_at >= $2) AND issue_key = ANY($1::text[])
    ) AS triggers GROUP BY incident_key";

/// The open incidents, most recently changed first. An incident may be open at several integrations.
const OPEN: &str = "SELECT incident_key, changed_at FROM incidents
    WHERE is_open ORDER BY changed_at DESC LIMIT $1";

/// The same for issues that share incidents with others.
const OPEN_ISSUES: &str = "SELECT issue_key AS incident_key, received_at AS changed_at FROM incident_issues
    WHERE is_open ORDER BY received_at DESC LIMIT $1";

const NOTES: &str = "SELECT incident_key, fired_at, seen_at FROM sentry_issues
    WHERE incident_key = ANY($1::text[])";

/// Also looks at waiting events: PagerDuty's webhook about an incident may come before the bridge has stored that the
/// incident's trigger was accepted.
const KNOWS: &str = "SELECT 1 FROM incidents WHERE incident_key = $1
    UNION ALL SELECT 1 FROM events WHERE state = 'waiting' AND incident_key = $1 LIMIT 1";

const UPDATES: &str = "SELECT webhook_id, incident_key, change, happened_at, received_at, attempts, next_attempt_at
    FROM issue_updates WHERE state = 'waiting' ORDER BY received_at, webhook_id LIMIT $1";

const UPDATED: &str = "SELECT 1 FROM issue_updates
    WHERE incident_key = $1 AND change = $2 AND (state = 'waiting' OR state = 'done' AND finished_at >= $3) LIMIT 1";

const PROOFS: &str = "SELECT event_id AS id, service_key, state, delivered_at, judged_at, incident_number,
        incident_url, reason
    FROM proofs WHERE event_id = ANY($1::bigint[])";

/// A later event of the same service key that is confirmed ends a failure, but not within [`SHOWN_FOR`].
const FAILED_PROOFS: &str = "SELECT event_id AS id, service_key, state, delivered_at, judged_at, incident_number,
        incident_url, reason
    FROM proofs
    WHERE state IN ('not_opened', 'left_open') AND delivered_at >= $1 AND (judged_at >= $2 OR NOT EXISTS (
        SELECT 1 FROM proofs AS later WHERE later.state = 'confirmed' AND later.service_key = proofs.service_key
        AND later.delivered_at > proofs.delivered_at
    )) ORDER BY delivered_at DESC LIMIT $3";

#[async_trait]
impl ExternalReads for PostgresReads {
    async fn last_triggers(
        &self,
        incidents: &[IncidentKey],
        since: DateTime<Utc>,
    ) -> Result<HashMap<IncidentKey, DateTime<Utc>>, QueueError> {
        let query = sqlx::query(TRIGGERS).bind(texts(incidents)).bind(since.timestamp_millis());
        let rows = self.query(query, |row| Ok((row.incident_key()?, row.time("at")?))).await?;
        Ok(rows.into_iter().collect())
    }

    async fn open_incidents(&self, limit: u32) -> Result<Vec<OpenIncident>, QueueError> {
        let mut rows = Vec::new();
        for statement in [OPEN, OPEN_ISSUES] {
            let query = sqlx::query(statement).bind(i64::from(limit));
            rows.extend(self.query(query, |row| Ok((row.incident_key()?, row.time("changed_at")?))).await?);
        }
        Ok(OpenIncident::newest(rows, limit))
    }

    async fn sentry_issues(&self, incidents: &[IncidentKey]) -> Result<Vec<IssueNote>, QueueError> {
        self.query(sqlx::query(NOTES).bind(texts(incidents)), rows::issue_note).await
    }

    async fn catch_up(&self) -> Result<Option<CatchUpRun>, QueueError> {
        let query = sqlx::query("SELECT until, ran_at, found, enqueued, reported, summarized FROM catch_up");
        Ok(self.query(query, rows::catch_up_run).await?.pop())
    }

    async fn knows_incident(&self, incident_key: &IncidentKey) -> Result<bool, QueueError> {
        let rows = self.query(sqlx::query(KNOWS).bind(stored(incident_key.as_str()).into_owned()), |_| Ok(())).await?;
        Ok(!rows.is_empty())
    }

    async fn issue_updates(&self) -> Result<Vec<IssueUpdate>, QueueError> {
        self.query(sqlx::query(UPDATES).bind(i64::from(MAX_UPDATES)), rows::issue_update).await
    }

    async fn was_updated(
        &self,
        incident_key: &IncidentKey,
        change: StatusChange,
        since: DateTime<Utc>,
    ) -> Result<bool, QueueError> {
        let query = sqlx::query(UPDATED)
            .bind(stored(incident_key.as_str()).into_owned())
            .bind(change.name())
            .bind(since.timestamp_millis());
        Ok(!self.query(query, |_| Ok(())).await?.is_empty())
    }

    async fn proofs(&self, events: &[EventId]) -> Result<Vec<Proof>, QueueError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.query(sqlx::query(PROOFS).bind(numbers(events)), rows::proof).await
    }

    async fn failed_proofs(&self, now: DateTime<Utc>) -> Result<Vec<Proof>, QueueError> {
        let query = sqlx::query(FAILED_PROOFS)
            .bind((now - FORGOTTEN_AFTER).timestamp_millis())
            .bind((now - SHOWN_FOR).timestamp_millis())
            .bind(i64::from(MAX_FAILURES));
        self.query(query, rows::proof).await
    }
}

fn texts(incidents: &[IncidentKey]) -> Vec<String> {
    incidents.iter().map(|key| stored(key.as_str()).into_owned()).collect()
}
