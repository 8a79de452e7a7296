//! What wants somebody's attention.

use super::incidents;
use super::read::{Reads, with_keys};
use crate::pagerduty::{IncidentKey, ServiceKey};
use crate::queue::{Attention, DeadLetters, FirstInLine, IncidentState, QueueError};

/// The first in line of every service key. A few events of the incidents left out may stand before it.
const FIRST_IN_LINE: &str = with_keys!(
    "SELECT id, service_key, first_seen, revived_at, reason FROM events WHERE id IN (
        SELECT (
            SELECT line.id FROM events AS line WHERE line.state = 'waiting' AND line.service_key = keys.service_key
            AND line.incident_key NOT IN (SELECT value FROM json_each(?)) ORDER BY line.id LIMIT 1
        ) FROM keys
    )"
);

const DEAD_LETTERS: &str = "SELECT newest.id, newest.service_key, tallies.events AS number, newest.finished_at, \
     newest.reason FROM tallies JOIN events AS newest ON newest.id = (
        SELECT line.id FROM events AS line
        WHERE line.state = 'dead' AND line.service_key = tallies.service_key AND line.finished_at IS NOT NULL
        ORDER BY line.finished_at DESC LIMIT 1
    ) WHERE tallies.state = 'dead' AND tallies.events > 0";

const DIED: &str = "SELECT 0 AS id, MAX(finished_at) AS died_at, COUNT(*) AS dead FROM events \
     WHERE state = 'dead' AND service_key = ? AND incident_key = ?";

impl Reads {
    pub(in crate::queue) async fn attention(&self, without: &[IncidentKey]) -> Result<Attention, QueueError> {
        let without: Vec<_> = without.iter().map(IncidentKey::as_str).collect();
        let without = serde_json::to_string(&without).unwrap_or_default();
        let first = self.look(sqlx::query(FIRST_IN_LINE).bind(&without), |columns| {
            let (first_seen, revived_at) = (columns.time("first_seen")?, columns.optional_time("revived_at")?);
            Ok(FirstInLine {
                id: columns.id(),
                service_key: columns.service_key()?,
                since: revived_at.unwrap_or(first_seen),
                is_revived: revived_at.is_some(),
                reason: columns.optional_text("reason")?,
            })
        });
        let mut first = self.soon(first).await?;
        first.sort_by(|one, other| one.service_key.cmp(&other.service_key));
        let dead = self.look(sqlx::query(DEAD_LETTERS), |columns| {
            Ok(DeadLetters {
                service_key: columns.service_key()?,
                number: columns.number("number")?,
                newest: columns.id(),
                died_at: columns.time("finished_at")?,
                reason: columns.optional_text("reason")?,
            })
        });
        let mut dead = self.soon(dead).await?;
        dead.sort_by(|one, other| one.service_key.cmp(&other.service_key));
        Ok(Attention { first, dead })
    }

    pub(in crate::queue) async fn incident(
        &self,
        incident_key: &IncidentKey,
        service_key: &ServiceKey,
    ) -> Result<IncidentState, QueueError> {
        let died = sqlx::query(DIED).bind(service_key.expose()).bind(incident_key.as_str());
        let died = self.look(died, |columns| Ok((columns.optional_time("died_at")?, columns.number("dead")?)));
        let (died_at, dead) = self.soon(died).await?.pop().unwrap_or_default();
        let known = self.look_with(async |connection| incidents::known(connection, incident_key).await);
        let known = self.soon(known).await?;
        Ok(IncidentState { is_open: known.into_values().any(|incident| incident.is_open), died_at, dead })
    }
}

#[cfg(test)]
pub(super) const QUERIES: [&str; 3] = [FIRST_IN_LINE, DEAD_LETTERS, DIED];
