//! What PagerDuty's REST API told about delivered events.

use sqlx::SqliteConnection;

use crate::queue::proof::Proof;

/// Writes what became of an event, unless that is gone.
pub(super) async fn write(connection: &mut SqliteConnection, proof: &Proof) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT OR REPLACE INTO proofs \
         (event_id, service_key, state, delivered_at, judged_at, incident_number, incident_url, reason) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM events WHERE id = ?1)",
    )
    .bind(proof.event.get())
    .bind(proof.service_key.expose())
    .bind(proof.state.name())
    .bind(proof.delivered_at.timestamp_millis())
    .bind(proof.judged_at.timestamp_millis())
    .bind(proof.incident_number.and_then(|number| i64::try_from(number).ok()))
    .bind(&proof.incident_url)
    .bind(&proof.reason)
    .execute(connection)
    .await
    .map(drop)
}
