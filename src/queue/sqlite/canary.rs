//! Writes what happens to canaries.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use crate::queue::canary::{CanaryChange, MOST_CANARIES};

/// Writes what happened to a canary, and returns when it was sent, if that is news.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    change: &CanaryChange,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let (id, query) = match change {
        CanaryChange::Sent { id, at } => {
            let insert = "INSERT INTO canaries (sent_at, event_id) VALUES (?, ?) \
                          ON CONFLICT (event_id) DO NOTHING RETURNING sent_at";
            (id, sqlx::query_scalar(insert).bind(at.timestamp_millis()))
        }
        CanaryChange::Answered { id, failure } => {
            let update = "UPDATE canaries SET taken = ?, failure = ? WHERE event_id = ? RETURNING sent_at";
            (id, sqlx::query_scalar(update).bind(failure.is_none()).bind(failure.clone()))
        }
        CanaryChange::Returned { id, at } => {
            let update =
                "UPDATE canaries SET returned_at = ? WHERE event_id = ? AND returned_at IS NULL RETURNING sent_at";
            (id, sqlx::query_scalar(update).bind(at.timestamp_millis()))
        }
    };
    let sent_at: Option<i64> = query.bind(id.to_string()).fetch_optional(&mut *connection).await?;
    if matches!(change, CanaryChange::Sent { .. }) {
        sqlx::query(
            "DELETE FROM canaries WHERE event_id IN (SELECT event_id FROM canaries ORDER BY sent_at DESC LIMIT -1 OFFSET ?)",
        )
        .bind(MOST_CANARIES)
        .execute(connection)
        .await?;
    }
    Ok(sent_at.and_then(DateTime::from_timestamp_millis))
}
