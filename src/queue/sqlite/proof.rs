//! Stores what PagerDuty's REST API shows of delivered events.

use rusqlite::{Connection, params};

use super::write::run;
use crate::queue::proof::Proof;

/// Stores the proof of an event, unless the event no longer exists.
pub(super) fn write(connection: &Connection, proof: &Proof) -> rusqlite::Result<()> {
    run(
        connection,
        "INSERT OR REPLACE INTO proofs
         (event_id, service_key, state, delivered_at, judged_at, incident_number, incident_url, reason)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM events WHERE id = ?1)",
        params![
            proof.event.get(),
            proof.service_key.expose(),
            proof.state.name(),
            proof.delivered_at.timestamp_millis(),
            proof.judged_at.timestamp_millis(),
            proof.incident_number.and_then(|number| i64::try_from(number).ok()),
            proof.incident_url,
            proof.reason,
        ],
    )
    .map(drop)
}
