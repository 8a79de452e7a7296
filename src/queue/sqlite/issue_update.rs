//! Stores what happens to the updates of issues.

use rusqlite::{Connection, params};

use super::write::run;
use crate::queue::issue_update::{IssueUpdateChange, KEEP_UPDATES, REOPENED, StatusChange};

/// Stores what happened to an update, and returns whether anything changed: not for a webhook that was received before,
/// nor for an update that has ended.
pub(super) fn write(connection: &Connection, change: &IssueUpdateChange) -> rusqlite::Result<bool> {
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
