//! Stores what the bridge learned from Sentry's API.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};

use super::write::run;
use crate::queue::sentry::{KEEP_NOTES, SentryNotes};

/// Stores what has changed, and deletes what is too old.
pub(super) fn write(connection: &Connection, notes: &SentryNotes) -> rusqlite::Result<()> {
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
