//! Retention: deletes delivered events, oldest first.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};

use super::write::run;
use super::{numbers, schema};
use crate::metrics::{DailyActivity, PersistedMetrics};
use crate::queue::store::Prune;
use crate::queue::{EventId, OutageNotice};

/// How many open incidents are remembered at most; about 30 MB.
const MOST_OPEN: u32 = 200_000;

/// Deletes delivered events and returns how many.
pub(super) fn prune(connection: &Connection, prune: Prune) -> rusqlite::Result<u64> {
    let mut finished = connection.prepare_cached(
        "SELECT id FROM events WHERE state = 'delivered' AND finished_at < ? ORDER BY finished_at, id LIMIT ?",
    )?;
    let ids = finished.query_map(params![prune.before.timestamp_millis(), prune.limit], |row| row.get(0))?;
    let ids = ids.map(|id| id.map(EventId::new)).collect::<rusqlite::Result<Vec<_>>>()?;
    if !ids.is_empty() {
        let numbers = numbers(&ids);
        run(connection, "DELETE FROM bodies WHERE id IN (SELECT value FROM json_each(?))", [&numbers])?;
        run(connection, "DELETE FROM proofs WHERE event_id IN (SELECT value FROM json_each(?))", [&numbers])?;
        run(connection, "DELETE FROM events WHERE id IN (SELECT value FROM json_each(?))", [&numbers])?;
    }
    // Tallies of keys that no event is left of.
    run(connection, "DELETE FROM tallies WHERE events = 0", [])?;
    forget_incidents(connection, prune.incidents_before, prune.limit)?;
    Ok(ids.len() as u64)
}

/// Deletes incidents that were closed before `before`, and open ones if there are too many, at most `limit` of each;
/// the same for the issues of shared incidents. Open ones are not deleted by age: after a clock was set forward, all of
/// them would be deleted.
fn forget_incidents(connection: &Connection, before: DateTime<Utc>, limit: u32) -> rusqlite::Result<()> {
    let before = before.timestamp_millis();
    run(
        connection,
        "DELETE FROM incidents WHERE (incident_key, service_key) IN
         (SELECT incident_key, service_key FROM incidents WHERE is_open = 0 AND changed_at < ?
          ORDER BY changed_at LIMIT ?)",
        params![before, limit],
    )?;
    run(
        connection,
        "DELETE FROM incidents WHERE (incident_key, service_key) IN
         (SELECT incident_key, service_key FROM incidents WHERE is_open <> 0
          ORDER BY changed_at DESC LIMIT ? OFFSET ?)",
        [limit, MOST_OPEN],
    )?;
    run(
        connection,
        "DELETE FROM incident_issues WHERE rowid IN
         (SELECT rowid FROM incident_issues WHERE is_open = 0 AND received_at < ? ORDER BY received_at LIMIT ?)",
        params![before, limit],
    )?;
    run(
        connection,
        "DELETE FROM incident_issues WHERE rowid IN
         (SELECT rowid FROM incident_issues WHERE is_open <> 0 ORDER BY received_at DESC LIMIT ? OFFSET ?)",
        [limit, MOST_OPEN],
    )?;
    Ok(())
}

/// Gives at most `pages` empty pages back to the file system, and returns how many are left to give back.
pub(super) fn shrink(connection: &Connection, pages: u32) -> rusqlite::Result<u64> {
    let (all, free) = schema::pages(connection)?;
    if pages > 0 && schema::is_wasteful(all, free) {
        // The pragma returns a row for each page, and stops when the next row is not fetched.
        let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    let (all, free) = schema::pages(connection)?;
    if schema::is_wasteful(all, free) {
        return Ok(u64::try_from(free).unwrap_or_default());
    }
    if pages > 0 {
        // Only a checkpoint makes the file itself shorter.
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    }
    Ok(0)
}

/// Adds what was counted, stores what has changed, and deletes activity that is more than a day older than the newest.
pub(super) fn keep_metrics(connection: &Connection, memory: &PersistedMetrics) -> rusqlite::Result<()> {
    run(
        connection,
        "UPDATE lately SET last_webhook_at = COALESCE(?, last_webhook_at),
         last_delivered_at = COALESCE(?, last_delivered_at), untrusted = ?",
        params![
            memory.last_webhook_at.as_ref().map(DateTime::timestamp_millis),
            memory.last_delivered_at.as_ref().map(DateTime::timestamp_millis),
            memory.untrusted,
        ],
    )?;
    for (key, at) in &memory.delivered {
        let values = params![key.expose(), at.timestamp_millis()];
        run(connection, "INSERT OR REPLACE INTO lately_delivered (service_key, at) VALUES (?, ?)", values)?;
    }
    for (key, failing) in &memory.failing {
        match failing {
            Some(failing) => run(
                connection,
                "INSERT OR REPLACE INTO failing_keys (service_key, kind, since) VALUES (?, ?, ?)",
                params![key.expose(), failing.kind.name(), failing.since.timestamp_millis()],
            )?,
            None => run(connection, "DELETE FROM failing_keys WHERE service_key = ?", [key.expose()])?,
        };
    }
    if let Some(row) = &memory.wrong_signatures {
        run(
            connection,
            "INSERT OR REPLACE INTO wrong_signatures (id, number, first_at, lasted_ms, senders, more)
             VALUES (1, ?, ?, ?, ?, ?)",
            params![
                row.number,
                row.first_at.as_ref().map(DateTime::timestamp_millis),
                i64::try_from(row.lasted.as_millis()).unwrap_or(i64::MAX),
                row.senders.addresses(),
                row.senders.more,
            ],
        )?;
    }
    for bucket in &memory.buckets {
        run(
            connection,
            "INSERT INTO activity (began_at, received, delivered, throttled, failed) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (began_at) DO UPDATE SET received = received + excluded.received,
             delivered = delivered + excluded.delivered, throttled = throttled + excluded.throttled,
             failed = failed + excluded.failed",
            params![
                bucket.from.timestamp_millis(),
                signed(bucket.received),
                signed(bucket.delivered),
                signed(bucket.throttled),
                signed(bucket.failed),
            ],
        )?;
    }
    if let Some(newest) = memory.buckets.last() {
        let horizon = DailyActivity::horizon(newest.from).timestamp_millis();
        run(connection, "DELETE FROM activity WHERE began_at < ?", [horizon])?;
    }
    Ok(())
}

/// Replaces the stored notice that was last sent to the fallback webhook.
pub(super) fn write_outage_notice(connection: &Connection, notice: OutageNotice) -> rusqlite::Result<()> {
    let since = notice.outage_since.as_ref().map(DateTime::timestamp_millis);
    run(
        connection,
        "INSERT OR REPLACE INTO fallback (id, told_at, outage_since) VALUES (1, ?, ?)",
        params![notice.told_at.timestamp_millis(), since],
    )
    .map(drop)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
