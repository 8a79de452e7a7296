//! Stores what happens to canaries.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::write::run;
use crate::queue::canary::{CanaryChange, MOST_CANARIES};

/// Stores what happened to a canary. Returns when it was sent, or `None` if nothing changed.
pub(super) fn write(connection: &Connection, change: &CanaryChange) -> rusqlite::Result<Option<DateTime<Utc>>> {
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
            params![at.timestamp_millis(), MOST_CANARIES],
        )?;
    }
    Ok(sent_at.and_then(DateTime::from_timestamp_millis))
}
