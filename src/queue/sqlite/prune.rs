//! History: delivered events are forgotten, oldest first.

use sqlx::SqliteConnection;

use super::incidents;
use super::list::numbers;
use crate::queue::EventId;
use crate::queue::writer::Prune;

/// Forgets delivered events and tells how many.
pub(super) async fn delivered(connection: &mut SqliteConnection, prune: Prune) -> sqlx::Result<u64> {
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
        "DELETE FROM events WHERE id IN (SELECT value FROM json_each(?))",
    ] {
        sqlx::query(delete).bind(numbers(&ids)).execute(&mut *connection).await?;
    }
    // Keys that no event is left of.
    sqlx::query("DELETE FROM tallies WHERE events = 0").execute(&mut *connection).await?;
    incidents::forget(connection, prune.incidents_before, prune.limit).await?;
    Ok(ids.len() as u64)
}
