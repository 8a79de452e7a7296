//! What the metrics find again after a restart.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::read::Reads;
use crate::metrics::{Activity, Bucket, Memory};
use crate::queue::QueueError;

/// Writes what has changed, and forgets what is older than a day before it.
pub(super) async fn keep(connection: &mut SqliteConnection, memory: Memory) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE lately SET last_webhook_at = COALESCE(?, last_webhook_at), \
         last_delivered_at = COALESCE(?, last_delivered_at)",
    )
    .bind(memory.last_webhook_at.as_ref().map(DateTime::timestamp_millis))
    .bind(memory.last_delivered_at.as_ref().map(DateTime::timestamp_millis))
    .execute(&mut *connection)
    .await?;
    for bucket in &memory.buckets {
        sqlx::query(
            "INSERT OR REPLACE INTO activity (began_at, received, delivered, throttled, failed) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(bucket.from.timestamp_millis())
        .bind(signed(bucket.received))
        .bind(signed(bucket.delivered))
        .bind(signed(bucket.throttled))
        .bind(signed(bucket.failed))
        .execute(&mut *connection)
        .await?;
    }
    if let Some(newest) = memory.buckets.last() {
        sqlx::query("DELETE FROM activity WHERE began_at < ?")
            .bind(Activity::horizon(newest.from).timestamp_millis())
            .execute(connection)
            .await?;
    }
    Ok(())
}

impl Reads {
    pub(in crate::queue) async fn memory(&self, since: DateTime<Utc>) -> Result<Memory, QueueError> {
        let lately = sqlx::query("SELECT id, last_webhook_at, last_delivered_at FROM lately");
        let lately = self
            .look(lately, |columns| {
                Ok((columns.optional_time("last_webhook_at")?, columns.optional_time("last_delivered_at")?))
            })
            .await?;
        let (last_webhook_at, last_delivered_at) = lately.first().copied().unwrap_or_default();
        let buckets = sqlx::query(
            "SELECT 0 AS id, began_at, received, delivered, throttled, failed FROM activity \
             WHERE began_at >= ? ORDER BY began_at",
        )
        .bind(since.timestamp_millis());
        let buckets = self
            .look(buckets, |columns| {
                Ok(Bucket {
                    from: columns.time("began_at")?,
                    received: columns.number("received")?,
                    delivered: columns.number("delivered")?,
                    throttled: columns.number("throttled")?,
                    failed: columns.number("failed")?,
                })
            })
            .await?;
        Ok(Memory { last_webhook_at, last_delivered_at, buckets })
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
