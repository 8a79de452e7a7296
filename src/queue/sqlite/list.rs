//! What the commands look at: events and rejected webhooks, listed, each and all.

use chrono::{DateTime, TimeDelta, Utc};

use super::read::Reads;
use super::row::{ColumnError, Columns};
use crate::pagerduty::{IncidentKey, ServiceKey};
use crate::queue::{EventId, QueueError, Rejected, RejectedId, RejectedSummary, State, Summary};

/// How many events one statement reads.
const PAGE: usize = 500;

impl Reads {
    pub(in crate::queue) async fn ids(&self, state: State, limit: u64) -> Result<Vec<EventId>, QueueError> {
        // Each is served by an index alone; the conditions are those of the indexes.
        let query = match state {
            State::Waiting => "SELECT id FROM events WHERE state = 'waiting' ORDER BY id LIMIT ?",
            State::Dead => {
                "SELECT id FROM events WHERE state = 'dead' AND finished_at IS NOT NULL ORDER BY finished_at, id LIMIT ?"
            }
            State::Delivered => {
                "SELECT id FROM events WHERE state = 'delivered' AND finished_at IS NOT NULL \
                 ORDER BY finished_at DESC, id DESC LIMIT ?"
            }
        };
        let query = sqlx::query(query).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.look(query, |columns| Ok(columns.id())).await
    }

    /// Those of `ids` that are there still, at most [`PAGE`] a statement, in the order of `ids`.
    pub(in crate::queue) async fn summaries(&self, ids: &[EventId]) -> Result<Vec<Summary>, QueueError> {
        let mut summaries = Vec::with_capacity(ids.len());
        for page in ids.chunks(PAGE) {
            // The numbers' places in the list keep their order.
            let query = sqlx::query(
                "SELECT events.id, state, service_key, incident_key, event_type, description, count, attempts, \
                 received_at, first_seen, next_attempt_at, finished_at, reason \
                 FROM json_each(?) AS wanted JOIN events ON events.id = wanted.value ORDER BY wanted.key",
            )
            .bind(numbers(page));
            summaries.append(&mut match self.look(query, Columns::summary).await {
                Err(error) if error.is_damage() => {
                    let ids = sqlx::query("SELECT value AS id FROM json_each(?)").bind(numbers(page));
                    self.readable_summaries(ids).await?
                }
                found => found?,
            });
        }
        Ok(summaries)
    }

    pub(in crate::queue) async fn rejected_summaries(&self, limit: u64) -> Result<Vec<RejectedSummary>, QueueError> {
        let query = sqlx::query("SELECT id, received_at, reason, size FROM rejected ORDER BY id LIMIT ?")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.look(query, Columns::rejected_summary).await
    }

    pub(in crate::queue) async fn rejected(&self, id: RejectedId) -> Result<Option<Rejected>, QueueError> {
        let query = sqlx::query(
            "SELECT id, received_at, resource, idempotency_key, sent_at, from_sentrys_pages, is_signed, reason, body \
             FROM rejected WHERE id = ?",
        )
        .bind(id.get());
        let read = |columns: &Columns| -> Result<Rejected, ColumnError> {
            Ok(Rejected {
                received_at: columns.time("received_at")?,
                resource: columns.optional_text("resource")?,
                idempotency_key: columns.optional_text("idempotency_key")?,
                sent_at: columns.optional_time("sent_at")?,
                from_sentrys_pages: columns.number::<i64>("from_sentrys_pages")? != 0,
                is_signed: columns.number::<i64>("is_signed")? != 0,
                reason: columns.text("reason")?,
                body: columns.bytes("body")?,
            })
        };
        Ok(self.look(query, read).await?.pop())
    }
}

impl Reads {
    /// The bodies of the triggers of an incident at an integration that came within `reach` of `around`, whatever became
    /// of them.
    pub(in crate::queue) async fn triggers_around(
        &self,
        service_key: &ServiceKey,
        incident_key: &IncidentKey,
        around: DateTime<Utc>,
        reach: TimeDelta,
    ) -> Result<Vec<Vec<u8>>, QueueError> {
        let (since, until) = ((around - reach).timestamp_millis(), (around + reach).timestamp_millis());
        // What came then was delivered later, unless the clock was set back.
        let query = sqlx::query(
            "SELECT events.id, body FROM events JOIN bodies ON bodies.id = events.id \
             WHERE (state = 'waiting' OR state = 'dead' OR state = 'delivered' AND finished_at >= ?) \
             AND service_key = ? AND incident_key = ? AND event_type = 'trigger' \
             AND received_at >= ? AND first_seen <= ?",
        )
        .bind(since)
        .bind(service_key.expose())
        .bind(incident_key.as_str())
        .bind(since)
        .bind(until);
        self.look(query, |columns| columns.bytes("body")).await
    }
}

/// Numbers as a JSON array, which a statement takes as one variable.
pub(super) fn numbers(ids: &[EventId]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| id.get()).collect();
    serde_json::to_string(&ids).unwrap_or_default()
}
