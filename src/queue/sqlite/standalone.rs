//! What is written besides the events and their attempts: retention, the metrics, and what is known from the APIs of
//! Sentry and PagerDuty.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::write::run;
use super::{numbers, schema};
use crate::metrics::{DailyActivity, PersistedMetrics};
use crate::queue::external::{
    CanaryChange, IssueUpdateChange, KEEP_NOTES, KEEP_UPDATES, MAX_CANARIES, Proof, REOPENED, SentryNotes, StatusChange,
};
use crate::queue::store::Prune;
use crate::queue::{EventId, OutageNotice};

/// How many open incidents are remembered at most; about 30 MB.
const MAX_OPEN: u32 = 200_000;

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
        [limit, MAX_OPEN],
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
        [limit, MAX_OPEN],
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
pub(super) fn write_metrics(connection: &Connection, memory: &PersistedMetrics) -> rusqlite::Result<()> {
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
        // The only bridge on this file knows the whole series.
        run(
            connection,
            "INSERT INTO wrong_signatures (id, number, first_at, lasted_ms, senders, more) VALUES (1, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET number = excluded.number + iif(?, 0, number), first_at = excluded.first_at,
             lasted_ms = excluded.lasted_ms, senders = excluded.senders, more = excluded.more",
            params![
                row.number,
                row.first_at.as_ref().map(DateTime::timestamp_millis),
                i64::try_from(row.lasted.as_millis()).unwrap_or(i64::MAX),
                row.senders.addresses(),
                row.senders.has_more,
                row.ended_at.is_some(),
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

/// Stores what happened to a canary. Returns when it was sent, or `None` if nothing changed.
pub(super) fn write_canary(connection: &Connection, change: &CanaryChange) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let sent_at: Option<i64> = match change {
        CanaryChange::Sent { id, at } => connection
            .prepare_cached(
                "INSERT INTO canaries (sent_at, event_id) VALUES (?, ?)
                 ON CONFLICT (event_id) DO NOTHING RETURNING sent_at",
            )?
            .query_row(params![at.timestamp_millis(), id.to_string()], |row| row.get(0)),
        CanaryChange::Answered { id, failure } => connection
            .prepare_cached("UPDATE canaries SET taken = ?, failure = ? WHERE event_id = ? RETURNING sent_at")?
            .query_row(params![failure.is_none(), failure, id.to_string()], |row| row.get(0)),
        CanaryChange::Returned { id, at } => connection
            .prepare_cached(
                "UPDATE canaries SET returned_at = ? WHERE event_id = ? AND returned_at IS NULL RETURNING sent_at",
            )?
            .query_row(params![at.timestamp_millis(), id.to_string()], |row| row.get(0)),
    }
    .optional()?;
    if let CanaryChange::Sent { at, .. } = change {
        // Those with a later time were sent while the clock was ahead, and must not displace new ones.
        run(
            connection,
            "DELETE FROM canaries WHERE event_id IN (
                 SELECT event_id FROM canaries ORDER BY sent_at > ?, sent_at DESC LIMIT -1 OFFSET ?
             )",
            params![at.timestamp_millis(), MAX_CANARIES],
        )?;
    }
    Ok(sent_at.and_then(DateTime::from_timestamp_millis))
}

/// Stores what happened to an update, and returns whether anything changed: not for a webhook that was received before,
/// nor for an update that has ended.
pub(super) fn write_issue_update(connection: &Connection, change: &IssueUpdateChange) -> rusqlite::Result<bool> {
    let changed = match change {
        IssueUpdateChange::Received(update) => run(
            connection,
            "INSERT INTO issue_updates
             (webhook_id, incident_key, change, state, happened_at, received_at, attempts, next_attempt_at)
             VALUES (?, ?, ?, 'waiting', ?, ?, 0, ?) ON CONFLICT (webhook_id) DO NOTHING",
            params![
                update.webhook_id,
                update.incident_key.as_str(),
                update.change.name(),
                update.happened_at.timestamp_millis(),
                update.received_at.timestamp_millis(),
                update.next_attempt_at.timestamp_millis(),
            ],
        )?,
        IssueUpdateChange::Failed { webhook_id, next_attempt_at, reason } => run(
            connection,
            "UPDATE issue_updates SET attempts = attempts + 1, next_attempt_at = ?, reason = ?
             WHERE webhook_id = ? AND state = 'waiting'",
            params![next_attempt_at.timestamp_millis(), reason, webhook_id],
        )?,
        IssueUpdateChange::Ended { webhook_id, at, end, reason } => {
            let state: &'static str = end.into();
            run(
                connection,
                "UPDATE issue_updates SET attempts = attempts + 1, state = ?, finished_at = ?, reason = ?
                 WHERE webhook_id = ? AND state = 'waiting'",
                params![state, at.timestamp_millis(), reason, webhook_id],
            )?
        }
        IssueUpdateChange::Reopened { incident_key, reopened_at, at } => run(
            connection,
            "UPDATE issue_updates SET state = 'done', finished_at = ?, reason = ?
             WHERE incident_key = ? AND change = 'resolve' AND state = 'waiting' AND happened_at <= ?",
            params![at.timestamp_millis(), REOPENED, incident_key.as_str(), reopened_at.timestamp_millis()],
        )?,
    };
    let is_news = changed > 0;
    if let IssueUpdateChange::Received(update) = change {
        if is_news && update.change == StatusChange::Unresolve {
            // The incident counts as open, so that Sentry can resolve it again.
            let incident_key = update.incident_key.as_str();
            run(connection, "UPDATE incidents SET is_open = 1 WHERE incident_key = ?", [incident_key])?;
        }
        let before = (update.received_at - KEEP_UPDATES).timestamp_millis();
        run(connection, "DELETE FROM issue_updates WHERE state IN ('done', 'dead') AND received_at < ?", [before])?;
    }
    Ok(is_news)
}

/// Stores the proof of an event, unless the event no longer exists.
pub(super) fn write_proof(connection: &Connection, proof: &Proof) -> rusqlite::Result<()> {
    run(
        connection,
        "INSERT OR REPLACE INTO proofs
         (event_id, service_key, state, delivered_at, judged_at, incident_number, incident_url, reason)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM events WHERE id = ?1)",
        params![
            proof.event.get(),
            proof.service_key.expose(),
            proof.state.name(),
            proof.delivered_at.timestamp_millis(),
            proof.judged_at.timestamp_millis(),
            proof.incident_number.and_then(|number| i64::try_from(number).ok()),
            proof.incident_url,
            proof.reason,
        ],
    )
    .map(drop)
}

/// Stores what has changed, and deletes what is too old.
pub(super) fn write_sentry_notes(connection: &Connection, notes: &SentryNotes) -> rusqlite::Result<()> {
    let millis = |at: &Option<DateTime<Utc>>| at.as_ref().map(DateTime::timestamp_millis);
    for note in &notes.issues {
        run(
            connection,
            "INSERT INTO sentry_issues (incident_key, fired_at, seen_at, noted_at) VALUES (?, ?, ?, ?)
             ON CONFLICT (incident_key) DO UPDATE SET fired_at = COALESCE(excluded.fired_at, sentry_issues.fired_at),
             seen_at = COALESCE(excluded.seen_at, sentry_issues.seen_at), noted_at = excluded.noted_at",
            params![
                note.incident_key.as_str(),
                millis(&note.fired_at),
                millis(&note.seen_at),
                notes.at.timestamp_millis(),
            ],
        )?;
    }
    if let Some(done) = &notes.run {
        run(
            connection,
            "INSERT INTO catch_up (id, until, ran_at, found, enqueued, reported, summarized) VALUES (1, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET until = excluded.until, ran_at = excluded.ran_at, found = excluded.found,
             enqueued = excluded.enqueued, reported = excluded.reported, summarized = excluded.summarized",
            params![
                done.until.timestamp_millis(),
                done.ran_at.timestamp_millis(),
                signed(done.found),
                signed(done.enqueued),
                signed(done.reported),
                signed(done.summarized),
            ],
        )?;
    }
    let before = (notes.at - KEEP_NOTES).timestamp_millis();
    run(connection, "DELETE FROM sentry_issues WHERE noted_at < ?", [before]).map(drop)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
