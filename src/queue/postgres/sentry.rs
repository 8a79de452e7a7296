//! Stores what the bridge learned from Sentry's API.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::text::stored;
use crate::queue::sentry::{KEEP_NOTES, SentryNotes};

const ISSUES: &str = "INSERT INTO sentry_issues (incident_key, fired_at, seen_at, noted_at)
    SELECT incident_key, fired_at, seen_at, $4 FROM unnest($1::text[], $2::bigint[], $3::bigint[])
        AS notes (incident_key, fired_at, seen_at) ORDER BY incident_key
    ON CONFLICT (incident_key) DO UPDATE SET fired_at = COALESCE(excluded.fired_at, sentry_issues.fired_at),
        seen_at = COALESCE(excluded.seen_at, sentry_issues.seen_at), noted_at = excluded.noted_at";

const RUN: &str = "INSERT INTO catch_up (id, until, ran_at, found, enqueued, reported, summarized)
    VALUES (1, $1, $2, $3, $4, $5, $6)
    ON CONFLICT (id) DO UPDATE SET until = excluded.until, ran_at = excluded.ran_at, found = excluded.found,
        enqueued = excluded.enqueued, reported = excluded.reported, summarized = excluded.summarized";

/// Stores what has changed, and deletes what is too old. If an incident has several notes, the last one counts.
pub(super) async fn write(connection: &mut PgConnection, notes: &SentryNotes) -> sqlx::Result<()> {
    let latest: std::collections::BTreeMap<_, _> =
        notes.issues.iter().map(|note| (note.incident_key.as_str(), note)).collect();
    if !latest.is_empty() {
        let millis = |at: &Option<DateTime<Utc>>| at.as_ref().map(DateTime::timestamp_millis);
        sqlx::query(ISSUES)
            .bind(latest.keys().map(|key| stored(key).into_owned()).collect::<Vec<_>>())
            .bind(latest.values().map(|note| millis(&note.fired_at)).collect::<Vec<_>>())
            .bind(latest.values().map(|note| millis(&note.seen_at)).collect::<Vec<_>>())
            .bind(notes.at.timestamp_millis())
            .execute(&mut *connection)
            .await?;
    }
    if let Some(run) = &notes.run {
        sqlx::query(RUN)
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
    sqlx::query("DELETE FROM sentry_issues WHERE noted_at < $1").bind(before).execute(connection).await.map(drop)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
