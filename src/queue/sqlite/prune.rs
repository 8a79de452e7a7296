//! History: delivered events are forgotten, oldest first.

use sqlx::SqliteConnection;

use crate::queue::writer::Prune;

/// Forgets delivered events and tells how many.
pub(super) async fn delivered(connection: &mut SqliteConnection, prune: Prune) -> sqlx::Result<u64> {
    // The numbers are few and the rows of one moment are many, so both statements have to mean the same rows: deleting
    // from `events` first would leave no way to find the bodies.
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM events WHERE state = 'delivered' AND finished_at < ? ORDER BY finished_at, id LIMIT ?",
    )
    .bind(prune.before.timestamp_millis())
    .bind(prune.limit)
    .fetch_all(&mut *connection)
    .await?;
    let list = serde_json::to_string(&ids).unwrap_or_default();
    for delete in [
        "DELETE FROM bodies WHERE id IN (SELECT value FROM json_each(?))",
        "DELETE FROM events WHERE id IN (SELECT value FROM json_each(?))",
    ] {
        sqlx::query(delete).bind(&list).execute(&mut *connection).await?;
    }
    Ok(ids.len() as u64)
}
