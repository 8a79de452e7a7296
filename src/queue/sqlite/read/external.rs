//! What is known from the APIs of Sentry and PagerDuty.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;

use super::SqliteReads;
use crate::pagerduty::IncidentKey;
use crate::queue::external::{
    CatchUpRun, FORGOTTEN_AFTER, IssueNote, MAX_FAILURES, MAX_UPDATES, OpenIncident, Proof, SHOWN_FOR,
};
use crate::queue::reader::ExternalReads;
use crate::queue::rows::{self, TypedRow as _};
use crate::queue::sqlite::numbers;
use crate::queue::{EventId, IssueUpdate, QueueError, StatusChange};

/// When the newest alerts of the triggers of the incidents `?1`, a JSON array, came. Triggers that were delivered before
/// `?2` are left out, unless their incident is open.
const TRIGGERS: &str = "SELECT events.incident_key, received_at AS at
        FROM json_each(?1) AS wanted CROSS JOIN events ON state = 'waiting' AND incident_key = wanted.value
        WHERE event_type = 'trigger'
    UNION ALL
    SELECT events.incident_key, received_at AS at
        FROM json_each(?1) AS wanted CROSS JOIN events ON state = 'dead' AND incident_key = wanted.value
        WHERE event_type = 'trigger'
    UNION ALL
    SELECT incident_key, received_at AS at FROM events
        WHERE state = 'delivered' AND finished_at >= ?2 AND event_type = 'trigger'
        AND incident_key IN (SELECT value FROM json_each(?1))
    UNION ALL
    SELECT incidents.incident_key, changed_at AS at
        FROM json_each(?1) AS wanted CROSS JOIN incidents ON incident_key = wanted.value WHERE is_open <> 0
    UNION ALL
    SELECT issue_key AS incident_key, received_at AS at
        FROM json_each(?1) AS wanted CROSS JOIN incident_issues ON issue_key = wanted.value
        WHERE is_open <> 0 OR received_at >= ?2";

/// The open incidents, most recently changed first. An incident may be open at several integrations.
const OPEN: &str = "SELECT incident_key, changed_at FROM incidents \
     WHERE is_open <> 0 ORDER BY changed_at DESC LIMIT ?";

/// The same for issues that share incidents with others.
const OPEN_ISSUES: &str = "SELECT issue_key AS incident_key, received_at AS changed_at FROM incident_issues \
     WHERE is_open <> 0 ORDER BY received_at DESC LIMIT ?";

const NOTES: &str = "SELECT incident_key, fired_at, seen_at
    FROM json_each(?) AS wanted CROSS JOIN sentry_issues ON incident_key = wanted.value";

/// Also looks at waiting events: PagerDuty's webhook about an incident may come before the bridge has stored that the
/// incident's trigger was accepted.
const KNOWS: &str = "SELECT 1 FROM incidents WHERE incident_key = ?1
    UNION ALL SELECT 1 FROM events WHERE state = 'waiting' AND incident_key = ?1 LIMIT 1";

const UPDATES: &str = "SELECT webhook_id, incident_key, change, happened_at, received_at, attempts, next_attempt_at
    FROM issue_updates WHERE state = 'waiting' ORDER BY received_at, webhook_id LIMIT ?";

const UPDATED: &str = "SELECT 1 FROM issue_updates
    WHERE incident_key = ? AND change = ? AND (state = 'waiting' OR state = 'done' AND finished_at >= ?) LIMIT 1";

const PROOFS: &str = "SELECT event_id AS id, service_key, state, delivered_at, judged_at, incident_number,
        incident_url, reason
    FROM json_each(?) AS wanted CROSS JOIN proofs ON event_id = wanted.value";

/// A later event of the same service key that is confirmed ends a failure, but not within [`SHOWN_FOR`].
const FAILED_PROOFS: &str = "SELECT event_id AS id, service_key, state, delivered_at, judged_at, incident_number,
        incident_url, reason
    FROM proofs INDEXED BY proofs_failed
    WHERE state IN ('not_opened', 'left_open') AND delivered_at >= ?1 AND (judged_at >= ?2 OR NOT EXISTS (
        SELECT 1 FROM proofs AS later WHERE later.state = 'confirmed' AND later.service_key = proofs.service_key
        AND later.delivered_at > proofs.delivered_at
    )) ORDER BY delivered_at DESC LIMIT ?3";

#[async_trait]
impl ExternalReads for SqliteReads {
    async fn last_triggers(
        &self,
        incidents: &[IncidentKey],
        since: DateTime<Utc>,
    ) -> Result<HashMap<IncidentKey, DateTime<Utc>>, QueueError> {
        let query = sqlx::query(TRIGGERS).bind(json!(incidents).to_string()).bind(since.timestamp_millis());
        let rows = self.query(query, |row| Ok((row.incident_key()?, row.time("at")?))).await?;
        let mut last: HashMap<IncidentKey, DateTime<Utc>> = HashMap::new();
        for (incident_key, at) in rows {
            let known = last.entry(incident_key).or_insert(at);
            *known = at.max(*known);
        }
        Ok(last)
    }

    async fn open_incidents(&self, limit: u32) -> Result<Vec<OpenIncident>, QueueError> {
        let mut rows = Vec::new();
        for statement in [OPEN, OPEN_ISSUES] {
            let query = sqlx::query(statement).bind(limit);
            rows.extend(self.query(query, |row| Ok((row.incident_key()?, row.time("changed_at")?))).await?);
        }
        Ok(OpenIncident::newest(rows, limit))
    }

    async fn sentry_issues(&self, incidents: &[IncidentKey]) -> Result<Vec<IssueNote>, QueueError> {
        self.query(sqlx::query(NOTES).bind(json!(incidents).to_string()), rows::issue_note).await
    }

    async fn catch_up(&self) -> Result<Option<CatchUpRun>, QueueError> {
        let query = sqlx::query("SELECT until, ran_at, found, enqueued, reported, summarized FROM catch_up");
        Ok(self.query(query, rows::catch_up_run).await?.pop())
    }

    async fn knows_incident(&self, incident_key: &IncidentKey) -> Result<bool, QueueError> {
        let rows = self.query(sqlx::query(KNOWS).bind(incident_key.as_str()), |_| Ok(())).await?;
        Ok(!rows.is_empty())
    }

    async fn issue_updates(&self) -> Result<Vec<IssueUpdate>, QueueError> {
        self.query(sqlx::query(UPDATES).bind(MAX_UPDATES), rows::issue_update).await
    }

    async fn was_updated(
        &self,
        incident_key: &IncidentKey,
        change: StatusChange,
        since: DateTime<Utc>,
    ) -> Result<bool, QueueError> {
        let query = sqlx::query(UPDATED).bind(incident_key.as_str()).bind(change.name()).bind(since.timestamp_millis());
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
            .bind(MAX_FAILURES);
        self.query(query, rows::proof).await
    }
}

#[cfg(test)]
pub(in crate::queue::sqlite) const QUERIES: [&str; 9] =
    [TRIGGERS, OPEN, OPEN_ISSUES, NOTES, KNOWS, UPDATES, UPDATED, PROOFS, FAILED_PROOFS];
