//! What wants somebody's attention.

use super::load::incident;
use super::read::{Reads, with_keys};
use super::row::{ColumnError, Columns};
use super::salvage::first_in_line;
use crate::pagerduty::{IncidentKey, ServiceKey};
use crate::queue::{Backlog, DeadLetters, IncidentState, QueueError};

/// The first in line of every service key. A few events of the incidents left out may stand before it.
const FIRST_IN_LINE: &str = with_keys!(
    "SELECT id, service_key, first_seen, revived_at, reason FROM events WHERE id IN (
        SELECT (
            SELECT line.id FROM events AS line WHERE line.state = 'waiting' AND line.service_key = keys.service_key
            AND line.incident_key NOT IN (SELECT value FROM json_each(?)) ORDER BY line.id LIMIT 1
        ) FROM keys
    )"
);

macro_rules! dead_letters {
    () => {
        "SELECT newest.id, newest.service_key, tallies.events AS number, newest.finished_at, \
     newest.reason FROM tallies JOIN events AS newest ON newest.id = (
        SELECT line.id FROM events AS line
        WHERE line.state = 'dead' AND line.service_key = tallies.service_key AND line.finished_at IS NOT NULL
        ORDER BY line.finished_at DESC LIMIT 1
    ) WHERE tallies.state = 'dead' AND tallies.events > 0"
    };
}

const DEAD_LETTERS: &str = dead_letters!();

const DEAD_LETTERS_OF_KEY: &str = concat!(dead_letters!(), " AND tallies.service_key = ?");

const DIED: &str = "SELECT 0 AS id, MAX(finished_at) AS died_at, COUNT(*) AS dead FROM events \
     WHERE state = 'dead' AND service_key = ? AND incident_key = ?";

impl Reads {
    pub(in crate::queue) async fn attention(&self, without: &[IncidentKey]) -> Result<Backlog, QueueError> {
        let without: Vec<_> = without.iter().map(IncidentKey::as_str).collect();
        let without = serde_json::to_string(&without).unwrap_or_default();
        let first = self.look(sqlx::query(FIRST_IN_LINE).bind(&without), |columns| Ok(first_in_line(columns).ok()));
        let mut first = match self.soon(first).await {
            Err(error) if error.is_damage() => self.soon(self.first_readable(&without)).await?,
            first => first?.into_iter().flatten().collect(),
        };
        first.sort_by(|one, other| one.service_key.cmp(&other.service_key));
        let mut dead = match self.soon(self.look(sqlx::query(DEAD_LETTERS), dead_letters)).await {
            Err(error) if error.is_damage() => self.soon(self.readable_dead_letters()).await?,
            dead => dead?,
        };
        dead.sort_by(|one, other| one.service_key.cmp(&other.service_key));
        Ok(Backlog { first, dead })
    }

    /// Those of each key whose newest can be read.
    async fn readable_dead_letters(&self) -> Result<Vec<DeadLetters>, QueueError> {
        let keys = "SELECT 0 AS id, service_key FROM tallies WHERE state = 'dead' AND events > 0";
        let keys = self.look(sqlx::query(keys), |columns| Ok(columns.service_key().ok())).await?;
        let mut dead = Vec::new();
        for key in keys.into_iter().flatten() {
            let query = sqlx::query(DEAD_LETTERS_OF_KEY).bind(key.expose().to_owned());
            match self.look(query, dead_letters).await {
                Ok(mut found) => dead.append(&mut found),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(dead)
    }

    pub(in crate::queue) async fn incident(
        &self,
        incident_key: &IncidentKey,
        service_key: &ServiceKey,
    ) -> Result<IncidentState, QueueError> {
        let died = sqlx::query(DIED).bind(service_key.expose()).bind(incident_key.as_str());
        let died = self.look(died, |columns| Ok((columns.optional_time("died_at")?, columns.number("dead")?)));
        let (died_at, dead) = self.soon(died).await?.pop().unwrap_or_default();
        let known = self.look_with(async |connection| incident(connection, incident_key).await);
        let known = self.soon(known).await?;
        Ok(IncidentState {
            is_open: known.after_delivery().into_values().any(|incident| incident.is_open),
            died_at,
            dead,
        })
    }
}

fn dead_letters(columns: &Columns) -> Result<DeadLetters, ColumnError> {
    Ok(DeadLetters {
        service_key: columns.service_key()?,
        number: columns.number("number")?,
        newest: columns.id(),
        died_at: columns.time("finished_at")?,
        reason: columns.optional_text("reason")?,
    })
}

#[cfg(test)]
pub(super) const QUERIES: [&str; 3] = [FIRST_IN_LINE, DEAD_LETTERS, DIED];
