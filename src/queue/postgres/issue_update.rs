//! Stores what happens to the updates of issues.

use sqlx::PgConnection;

use super::text::stored;
use crate::queue::issue_update::{IssueUpdateChange, KEEP_UPDATES, REOPENED, StatusChange};

const RECEIVED: &str = "INSERT INTO issue_updates
        (webhook_id, incident_key, change, state, happened_at, received_at, attempts, next_attempt_at)
    VALUES ($1, $2, $3, 'waiting', $4, $5, 0, $6) ON CONFLICT (webhook_id) DO NOTHING";

const FAILED: &str = "UPDATE issue_updates SET attempts = attempts + 1, next_attempt_at = $2, reason = $3
    WHERE webhook_id = $1 AND state = 'waiting'";

const ENDED: &str = "UPDATE issue_updates SET attempts = attempts + 1, state = $2, finished_at = $3, reason = $4
    WHERE webhook_id = $1 AND state = 'waiting'";

const WITHDRAWN: &str = "UPDATE issue_updates SET state = 'done', finished_at = $3, reason = $4
    WHERE incident_key = $1 AND change = 'resolve' AND state = 'waiting' AND happened_at <= $2";

/// Marks the incident as open, so that Sentry can resolve it again.
const OPENED: &str = "UPDATE incidents SET is_open = TRUE WHERE incident_key = $1";

const OLD: &str = "DELETE FROM issue_updates WHERE state IN ('done', 'dead') AND received_at < $1";

/// Stores what happened to an update, and returns whether anything changed: not for a webhook that was received before,
/// nor for an update that has ended.
pub(super) async fn write(connection: &mut PgConnection, change: &IssueUpdateChange) -> sqlx::Result<bool> {
    let query = match change {
        IssueUpdateChange::Received(update) => sqlx::query(RECEIVED)
            .bind(stored(&update.webhook_id).into_owned())
            .bind(stored(update.incident_key.as_str()).into_owned())
            .bind(update.change.name())
            .bind(update.happened_at.timestamp_millis())
            .bind(update.received_at.timestamp_millis())
            .bind(update.next_attempt_at.timestamp_millis()),
        IssueUpdateChange::Failed { webhook_id, next_attempt_at, reason } => sqlx::query(FAILED)
            .bind(stored(webhook_id).into_owned())
            .bind(next_attempt_at.timestamp_millis())
            .bind(stored(reason).into_owned()),
        IssueUpdateChange::Ended { webhook_id, at, end, reason } => {
            let state: &'static str = end.into();
            sqlx::query(ENDED)
                .bind(stored(webhook_id).into_owned())
                .bind(state)
                .bind(at.timestamp_millis())
                .bind(reason.as_deref().map(|reason| stored(reason).into_owned()))
        }
        IssueUpdateChange::Reopened { incident_key, reopened_at, at } => sqlx::query(WITHDRAWN)
            .bind(stored(incident_key.as_str()).into_owned())
            .bind(reopened_at.timestamp_millis())
            .bind(at.timestamp_millis())
            .bind(REOPENED),
    };
    let is_news = query.execute(&mut *connection).await?.rows_affected() > 0;
    if let IssueUpdateChange::Received(update) = change {
        if is_news && update.change == StatusChange::Unresolve {
            let incident_key = stored(update.incident_key.as_str()).into_owned();
            sqlx::query(OPENED).bind(incident_key).execute(&mut *connection).await?;
        }
        let before = (update.received_at - KEEP_UPDATES).timestamp_millis();
        sqlx::query(OLD).bind(before).execute(connection).await?;
    }
    Ok(is_news)
}
