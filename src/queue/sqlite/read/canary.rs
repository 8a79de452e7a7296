//! What is known of canaries.

use chrono::{DateTime, Utc};

use super::SqliteReads;
use crate::queue::QueueError;
use crate::queue::canary::{CanaryRecord, MOST_CANARIES};
use crate::queue::rows;

/// The newest canary that came back, and all that were sent after it, oldest first. Those with a time after `?1` are left
/// out: they were sent while the clock was ahead.
const SINCE_LAST_RETURN: &str = "SELECT event_id, sent_at, taken, failure, returned_at FROM (
        SELECT event_id, sent_at, taken, failure, returned_at FROM canaries WHERE sent_at <= ?1 AND sent_at >= (
            SELECT COALESCE(MAX(sent_at), 0) FROM canaries WHERE returned_at IS NOT NULL AND sent_at <= ?1
        ) ORDER BY sent_at DESC LIMIT ?2
    ) ORDER BY sent_at";

impl SqliteReads {
    pub(super) async fn canaries_since_last_return(&self, now: DateTime<Utc>) -> Result<Vec<CanaryRecord>, QueueError> {
        let query = sqlx::query(SINCE_LAST_RETURN).bind(now.timestamp_millis()).bind(MOST_CANARIES);
        self.soon(self.query(query, rows::canary)).await
    }
}
