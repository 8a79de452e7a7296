//! What was received once and does nothing a second time: signed resolves, which anybody can replay who has seen one, and
//! what rejected webhooks became.

use sqlx::SqliteConnection;

use crate::ingest::DedupKey;
use crate::pagerduty::{EventType, IncidentKey};

/// How many are remembered at most; about 20 MB. Sentry would have to send more than two resolves a second all day for
/// one to be forgotten within a day.
const MOST: u32 = 200_000;

/// Whether this was received before.
pub(super) async fn knows(connection: &mut SqliteConnection, key: &DedupKey) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM seen_webhooks WHERE digest = ?)")
        .bind(key.as_bytes())
        .fetch_one(connection)
        .await
}

/// Remembers that something was received, and forgets the oldest where there is too much.
pub(super) async fn remember(
    connection: &mut SqliteConnection,
    key: &DedupKey,
    incident_key: &IncidentKey,
    event_type: EventType,
) -> sqlx::Result<()> {
    sqlx::query("INSERT OR IGNORE INTO seen_webhooks (digest, incident_key, event_type) VALUES (?, ?, ?)")
        .bind(key.as_bytes())
        .bind(incident_key.as_str())
        .bind(event_type.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM seen_webhooks WHERE id <= (SELECT MAX(id) FROM seen_webhooks) - ?")
        .bind(MOST)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets the resolves of an incident: the next one may be the same as the last.
pub(super) async fn forget_resolves(connection: &mut SqliteConnection, incident_key: &IncidentKey) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM seen_webhooks WHERE incident_key = ? AND event_type = ?")
        .bind(incident_key.as_str())
        .bind(EventType::Resolve.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
