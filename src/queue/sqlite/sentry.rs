//! What the bridge learned from Sentry's API.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use crate::queue::sentry::{KEEP_NOTES, SentryNotes};

/// Writes what has changed, and forgets what is too old.
pub(super) async fn write(connection: &mut SqliteConnection, notes: &SentryNotes) -> sqlx::Result<()> {
    let millis = |at: &Option<DateTime<Utc>>| at.as_ref().map(DateTime::timestamp_millis);
    for note in &notes.issues {
        sqlx::query(
            "INSERT INTO sentry_issues (incident_key, fired_at, seen_at, noted_at) VALUES (?, ?, ?, ?) \
             ON CONFLICT (incident_key) DO UPDATE SET fired_at = COALESCE(excluded.fired_at, sentry_issues.fired_at), \
             seen_at = COALESCE(excluded.seen_at, sentry_issues.seen_at), noted_at = excluded.noted_at",
        )
        .bind(note.incident_key.as_str())
        .bind(millis(&note.fired_at))
        .bind(millis(&note.seen_at))
        .bind(notes.at.timestamp_millis())
        .execute(&mut *connection)
        .await?;
    }
    if let Some(run) = &notes.run {
        sqlx::query(
            "INSERT INTO catch_up (id, until, ran_at, found, enqueued, reported, summarized) VALUES (1, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET until = excluded.until, ran_at = excluded.ran_at, found = excluded.found, \
             enqueued = excluded.enqueued, reported = excluded.reported, summarized = excluded.summarized",
        )
        .bind(run.until.timestamp_millis())
        .bind(run.ran_at.timestamp_millis())
        .bind(signed(run.found))
        .bind(signed(run.enqueued))
        .bind(signed(run.reported))
        .bind(signed(run.summarized))
        .execute(&mut *connection)
        .await?;
    }
    let before = (notes.at - KEEP_NOTES).timestamp_millis();
    sqlx::query("DELETE FROM sentry_issues WHERE noted_at < ?").bind(before).execute(connection).await.map(drop)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
