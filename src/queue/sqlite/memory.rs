//! What the metrics find again after a restart.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::SqliteConnection;

use super::read::Reads;
use crate::metrics::{Activity, Bucket, Memory};
use crate::pagerduty::ServiceKey;
use crate::queue::QueueError;

/// A delivery is remembered a while after it was made, and marked as such in the commit of its fate: so much may lie
/// between the two, or the disk is in more trouble than what is remembered.
const BETWEEN: TimeDelta = TimeDelta::minutes(1);

/// Writes what has changed, and forgets what is older than a day before it.
pub(super) async fn keep(connection: &mut SqliteConnection, memory: &Memory) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE lately SET last_webhook_at = COALESCE(?, last_webhook_at), \
         last_delivered_at = COALESCE(?, last_delivered_at), untrusted = ?",
    )
    .bind(memory.last_webhook_at.as_ref().map(DateTime::timestamp_millis))
    .bind(memory.last_delivered_at.as_ref().map(DateTime::timestamp_millis))
    .bind(&memory.untrusted)
    .execute(&mut *connection)
    .await?;
    for (key, at) in &memory.delivered {
        sqlx::query("INSERT OR REPLACE INTO lately_delivered (service_key, at) VALUES (?, ?)")
            .bind(key.expose())
            .bind(at.timestamp_millis())
            .execute(&mut *connection)
            .await?;
    }
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
        let lately = sqlx::query("SELECT id, last_webhook_at, last_delivered_at, untrusted FROM lately");
        let lately = self
            .look(lately, |columns| {
                let times = (columns.optional_time("last_webhook_at")?, columns.optional_time("last_delivered_at")?);
                Ok((times, columns.optional_text("untrusted")?))
            })
            .await?;
        let ((last_webhook_at, last_delivered_at), untrusted) = lately.into_iter().next().unwrap_or_default();
        let delivered = self.delivered_lately(last_delivered_at.unwrap_or(since)).await?;
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
        Ok(Memory { last_webhook_at, last_delivered_at, delivered, untrusted, buckets })
    }

    /// When PagerDuty took an event of each service key last. What was delivered after `remembered`, the last that a run
    /// could keep before it was killed, is told by the events themselves.
    async fn delivered_lately(
        &self,
        remembered: DateTime<Utc>,
    ) -> Result<BTreeMap<ServiceKey, DateTime<Utc>>, QueueError> {
        let query = sqlx::query(
            "SELECT 0 AS id, service_key, MAX(at) AS at FROM (
                SELECT service_key, at FROM lately_delivered
                UNION ALL
                SELECT service_key, finished_at FROM events WHERE state = 'delivered' AND finished_at > ?
            ) GROUP BY service_key",
        )
        .bind((remembered - BETWEEN).timestamp_millis());
        let found = self.look(query, |columns| Ok((columns.service_key()?, columns.time("at")?))).await?;
        Ok(found.into_iter().collect())
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
