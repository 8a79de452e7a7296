//! Retention: delivered events are forgotten, oldest first.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::numbers;
use crate::metrics::{Activity, PersistedMetrics};
use crate::queue::store::Prune;
use crate::queue::{EventId, OutageNotice};

/// How many open incidents are remembered at most; about 30 MB.
const MOST_OPEN: u32 = 200_000;

/// Deletes delivered events and returns how many.
pub(super) async fn prune(connection: &mut SqliteConnection, prune: Prune) -> sqlx::Result<u64> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM events WHERE state = 'delivered' AND finished_at < ? ORDER BY finished_at, id LIMIT ?",
    )
    .bind(prune.before.timestamp_millis())
    .bind(prune.limit)
    .fetch_all(&mut *connection)
    .await?;
    let ids: Vec<_> = ids.into_iter().map(EventId::new).collect();
    for delete in [
        "DELETE FROM bodies WHERE id IN (SELECT value FROM json_each(?))",
        "DELETE FROM proofs WHERE event_id IN (SELECT value FROM json_each(?))",
        "DELETE FROM events WHERE id IN (SELECT value FROM json_each(?))",
    ] {
        sqlx::query(delete).bind(numbers(&ids)).execute(&mut *connection).await?;
    }
    // Keys that no event is left of.
    sqlx::query("DELETE FROM tallies WHERE events = 0").execute(&mut *connection).await?;
    forget_incidents(connection, prune.incidents_before, prune.limit).await?;
    Ok(ids.len() as u64)
}

/// Forgets at most `limit` incidents, and issues of shared ones, that were closed before `before`, and as many of those that are open where there are
/// too many. Those are not forgotten by age: a clock that is set forward would forget them all.
async fn forget_incidents(connection: &mut SqliteConnection, before: DateTime<Utc>, limit: u32) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM incidents WHERE (incident_key, service_key) IN \
         (SELECT incident_key, service_key FROM incidents WHERE is_open = 0 AND changed_at < ? \
          ORDER BY changed_at LIMIT ?)",
    )
    .bind(before.timestamp_millis())
    .bind(limit)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM incidents WHERE (incident_key, service_key) IN \
         (SELECT incident_key, service_key FROM incidents WHERE is_open <> 0 \
          ORDER BY changed_at DESC LIMIT ? OFFSET ?)",
    )
    .bind(limit)
    .bind(MOST_OPEN)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM incident_issues WHERE rowid IN \
         (SELECT rowid FROM incident_issues WHERE is_open = 0 AND received_at < ? ORDER BY received_at LIMIT ?)",
    )
    .bind(before.timestamp_millis())
    .bind(limit)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM incident_issues WHERE rowid IN \
         (SELECT rowid FROM incident_issues WHERE is_open <> 0 ORDER BY received_at DESC LIMIT ? OFFSET ?)",
    )
    .bind(limit)
    .bind(MOST_OPEN)
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds what was counted and writes what has changed, and forgets what is older than a day before it.
pub(super) async fn keep_metrics(connection: &mut SqliteConnection, memory: &PersistedMetrics) -> sqlx::Result<()> {
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
    for (key, failing) in &memory.failing {
        let query = match failing {
            Some(failing) => {
                sqlx::query("INSERT OR REPLACE INTO failing_keys (service_key, kind, since) VALUES (?, ?, ?)")
                    .bind(key.expose())
                    .bind(failing.kind.name())
                    .bind(failing.since.timestamp_millis())
            }
            None => sqlx::query("DELETE FROM failing_keys WHERE service_key = ?").bind(key.expose()),
        };
        query.execute(&mut *connection).await?;
    }
    if let Some(row) = &memory.wrong_signatures {
        sqlx::query(
            "INSERT OR REPLACE INTO wrong_signatures (id, number, first_at, lasted_ms, senders, more) \
             VALUES (1, ?, ?, ?, ?, ?)",
        )
        .bind(row.number)
        .bind(row.first_at.as_ref().map(DateTime::timestamp_millis))
        .bind(i64::try_from(row.lasted.as_millis()).unwrap_or(i64::MAX))
        .bind(row.senders.addresses())
        .bind(row.senders.more)
        .execute(&mut *connection)
        .await?;
    }
    for bucket in &memory.buckets {
        sqlx::query(
            "INSERT INTO activity (began_at, received, delivered, throttled, failed) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (began_at) DO UPDATE SET received = received + excluded.received, \
             delivered = delivered + excluded.delivered, throttled = throttled + excluded.throttled, \
             failed = failed + excluded.failed",
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

/// Replaces what the fallback webhook was told last.
pub(super) async fn write_outage_notice(connection: &mut SqliteConnection, notice: OutageNotice) -> sqlx::Result<()> {
    sqlx::query("INSERT OR REPLACE INTO fallback (id, told_at, outage_since) VALUES (1, ?, ?)")
        .bind(notice.told_at.timestamp_millis())
        .bind(notice.outage_since.as_ref().map(DateTime::timestamp_millis))
        .execute(connection)
        .await
        .map(drop)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
