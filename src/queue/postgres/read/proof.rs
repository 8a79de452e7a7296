//! What PagerDuty's REST API shows of delivered events.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::PostgresReads;
use crate::queue::postgres::rows::numbers;
use crate::queue::proof::{FORGOTTEN_AFTER, MOST_FAILURES, Proof, SHOWN_FOR};
use crate::queue::reader::ProofReads;
use crate::queue::rows::proof;
use crate::queue::{EventId, QueueError};

const OF_EVENTS: &str = "SELECT event_id AS id, service_key, state, delivered_at, judged_at, incident_number,
        incident_url, reason
    FROM proofs WHERE event_id = ANY($1::bigint[])";

/// A later event of the same service key that is confirmed ends a failure, but not within [`SHOWN_FOR`].
const FAILURES: &str = "SELECT event_id AS id, service_key, state, delivered_at, judged_at, incident_number,
        incident_url, reason
    FROM proofs
    WHERE state IN ('not_opened', 'left_open') AND delivered_at >= $1 AND (judged_at >= $2 OR NOT EXISTS (
        SELECT 1 FROM proofs AS later WHERE later.state = 'confirmed' AND later.service_key = proofs.service_key
        AND later.delivered_at > proofs.delivered_at
    )) ORDER BY delivered_at DESC LIMIT $3";

#[async_trait]
impl ProofReads for PostgresReads {
    async fn proofs(&self, events: &[EventId]) -> Result<Vec<Proof>, QueueError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.query(sqlx::query(OF_EVENTS).bind(numbers(events)), proof).await
    }

    async fn failed_proofs(&self, now: DateTime<Utc>) -> Result<Vec<Proof>, QueueError> {
        let query = sqlx::query(FAILURES)
            .bind((now - FORGOTTEN_AFTER).timestamp_millis())
            .bind((now - SHOWN_FOR).timestamp_millis())
            .bind(i64::from(MOST_FAILURES));
        self.query(query, proof).await
    }
}
