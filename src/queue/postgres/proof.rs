//! Stores what PagerDuty's REST API shows of delivered events.

use sqlx::PgConnection;

use super::text::stored;
use crate::queue::proof::Proof;

/// Stores the proof of an event, unless the event no longer exists.
pub(super) async fn write(connection: &mut PgConnection, proof: &Proof) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO proofs \
         (event_id, service_key, state, delivered_at, judged_at, incident_number, incident_url, reason) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE EXISTS (SELECT 1 FROM events WHERE id = $1) \
         ON CONFLICT (event_id) DO UPDATE SET state = excluded.state, judged_at = excluded.judged_at, \
         incident_number = excluded.incident_number, incident_url = excluded.incident_url, reason = excluded.reason",
    )
    .bind(proof.event.get())
    .bind(proof.service_key.expose())
    .bind(proof.state.name())
    .bind(proof.delivered_at.timestamp_millis())
    .bind(proof.judged_at.timestamp_millis())
    .bind(proof.incident_number.and_then(|number| i64::try_from(number).ok()))
    .bind(proof.incident_url.as_deref().map(stored))
    .bind(proof.reason.as_deref().map(stored))
    .execute(connection)
    .await
    .map(drop)
}
