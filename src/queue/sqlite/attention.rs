//! What wants somebody's attention.

use super::read::{Reads, with_keys};
use crate::pagerduty::IncidentKey;
use crate::queue::{Attention, DeadLetters, OldestWaiting, QueueError};

impl Reads {
    pub(in crate::queue) async fn attention(&self, without: &[IncidentKey]) -> Result<Attention, QueueError> {
        let without: Vec<_> = without.iter().map(IncidentKey::as_str).collect();
        let without = serde_json::to_string(&without).unwrap_or_default();
        // A few of the incidents left out may stand before the first of the others.
        let oldest = sqlx::query(with_keys!(
            "SELECT id, service_key, first_seen, reason FROM events WHERE id IN (
                SELECT (
                    SELECT id FROM events WHERE state = 'waiting' AND service_key = keys.service_key
                    AND incident_key NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT 1
                ) FROM keys
            ) ORDER BY first_seen, id LIMIT 1"
        ))
        .bind(&without);
        let oldest = self.look(oldest, |columns| {
            Ok(OldestWaiting {
                id: columns.id(),
                service_key: columns.service_key()?,
                since: columns.time("first_seen")?,
                reason: columns.optional_text("reason")?,
            })
        });
        // Where MAX() is asked for, SQLite takes the other columns from the row that has it.
        let dead = sqlx::query(
            "SELECT newest.id, newest.service_key, number, newest.finished_at, newest.reason FROM (
                SELECT id, COUNT(*) AS number, MAX(finished_at) FROM events
                WHERE state = 'dead' AND finished_at IS NOT NULL
                AND incident_key NOT IN (SELECT value FROM json_each(?)) GROUP BY service_key
            ) AS letters JOIN events AS newest ON newest.id = letters.id ORDER BY newest.service_key",
        )
        .bind(&without);
        let dead = self.look(dead, |columns| {
            Ok(DeadLetters {
                service_key: columns.service_key()?,
                number: columns.number("number")?,
                newest: columns.id(),
                died_at: columns.time("finished_at")?,
                reason: columns.optional_text("reason")?,
            })
        });
        Ok(Attention { oldest: oldest.await?.pop(), dead: dead.await? })
    }
}
