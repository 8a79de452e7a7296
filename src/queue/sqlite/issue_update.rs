//! Writes what happens to the updates of issues.

use sqlx::SqliteConnection;

use crate::queue::issue_update::{IssueUpdateChange, KEEP_UPDATES, StatusChange};

/// Writes what happened to an update, and returns whether that is news.
pub(super) async fn write(connection: &mut SqliteConnection, change: &IssueUpdateChange) -> sqlx::Result<bool> {
    let query = match change {
        IssueUpdateChange::Received(update) => sqlx::query(
            "INSERT INTO issue_updates \
             (webhook_id, incident_key, change, state, happened_at, received_at, attempts, next_attempt_at) \
             VALUES (?, ?, ?, 'waiting', ?, ?, 0, ?) ON CONFLICT (webhook_id) DO NOTHING",
        )
        .bind(&update.webhook_id)
        .bind(update.incident_key.as_str())
        .bind(update.change.name())
        .bind(update.happened_at.timestamp_millis())
        .bind(update.received_at.timestamp_millis())
        .bind(update.next_attempt_at.timestamp_millis()),
        IssueUpdateChange::Failed { webhook_id, next_attempt_at, reason } => sqlx::query(
            "UPDATE issue_updates SET attempts = attempts + 1, next_attempt_at = ?, reason = ? \
             WHERE webhook_id = ? AND state = 'waiting'",
        )
        .bind(next_attempt_at.timestamp_millis())
        .bind(reason)
        .bind(webhook_id),
        IssueUpdateChange::Ended { webhook_id, at, end, reason } => {
            let state: &'static str = end.into();
            sqlx::query(
                "UPDATE issue_updates SET attempts = attempts + 1, state = ?, finished_at = ?, reason = ? \
                 WHERE webhook_id = ? AND state = 'waiting'",
            )
            .bind(state)
            .bind(at.timestamp_millis())
            .bind(reason)
            .bind(webhook_id)
        }
    };
    let is_news = query.execute(&mut *connection).await?.rows_affected() > 0;
    if let IssueUpdateChange::Received(update) = change {
        if is_news && update.change == StatusChange::Unresolve {
            // So that Sentry can resolve it again.
            sqlx::query("UPDATE incidents SET is_open = 1 WHERE incident_key = ?")
                .bind(update.incident_key.as_str())
                .execute(&mut *connection)
                .await?;
        }
        let before = (update.received_at - KEEP_UPDATES).timestamp_millis();
        sqlx::query("DELETE FROM issue_updates WHERE state IN ('done', 'dead') AND received_at < ?")
            .bind(before)
            .execute(connection)
            .await?;
    }
    Ok(is_news)
}
