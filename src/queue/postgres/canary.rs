//! Stores what happens to canaries.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::text::stored;
use crate::queue::canary::{CanaryChange, MOST_CANARIES};

const SENT: &str =
    "INSERT INTO canaries (event_id, sent_at) VALUES ($1, $2) ON CONFLICT (event_id) DO NOTHING RETURNING sent_at";

const ANSWERED: &str = "UPDATE canaries SET taken = $2, failure = $3 WHERE event_id = $1 RETURNING sent_at";

const RETURNED: &str =
    "UPDATE canaries SET returned_at = $2 WHERE event_id = $1 AND returned_at IS NULL RETURNING sent_at";

/// Canaries with a time after `$2` were sent while the clock was ahead, and must not displace new ones.
const SURPLUS: &str = "DELETE FROM canaries WHERE event_id IN (
        SELECT event_id FROM canaries ORDER BY sent_at > $2, sent_at DESC OFFSET $1 FOR UPDATE SKIP LOCKED
    )";

/// Stores what happened to a canary. Returns when it was sent, or `None` if nothing changed.
pub(super) async fn write(connection: &mut PgConnection, change: &CanaryChange) -> sqlx::Result<Option<DateTime<Utc>>> {
    let query = match change {
        CanaryChange::Sent { id, at } => sqlx::query_scalar(SENT).bind(id.to_string()).bind(at.timestamp_millis()),
        CanaryChange::Answered { id, failure } => {
            let failure = failure.as_deref().map(stored);
            sqlx::query_scalar(ANSWERED).bind(id.to_string()).bind(failure.is_none()).bind(failure)
        }
        CanaryChange::Returned { id, at } => {
            sqlx::query_scalar(RETURNED).bind(id.to_string()).bind(at.timestamp_millis())
        }
    };
    let sent_at: Option<i64> = query.fetch_optional(&mut *connection).await?;
    if let CanaryChange::Sent { at, .. } = change {
        let surplus = sqlx::query(SURPLUS).bind(i64::from(MOST_CANARIES)).bind(at.timestamp_millis());
        surplus.execute(connection).await?;
    }
    Ok(sent_at.and_then(DateTime::from_timestamp_millis))
}
