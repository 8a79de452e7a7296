//! How much stands where, read from the tallies.

use chrono::{DateTime, Utc};

use super::read::Reads;
use super::row::{ColumnError, Columns};
use crate::pagerduty::ServiceKey;
use crate::queue::{Destination, Overview, QueueError, State};

/// One row for each service key and state, and one without them when no event is kept at all. At most a thousand webhooks
/// are rejected, so those are counted.
const OVERVIEW: &str = "SELECT 0 AS id, held.rejected, service_key, state, events,
        CASE state WHEN 'waiting' THEN (
            SELECT COALESCE(revived_at, first_seen) FROM events AS line
            WHERE line.state = 'waiting' AND line.service_key = tallies.service_key ORDER BY line.id LIMIT 1
        ) END AS oldest_waiting
    FROM (SELECT COUNT(*) AS rejected FROM rejected) AS held LEFT JOIN tallies ON events > 0";

/// The same without looking at any event.
const TALLIES: &str = "SELECT 0 AS id, held.rejected, service_key, state, events, NULL AS oldest_waiting
    FROM (SELECT COUNT(*) AS rejected FROM rejected) AS held LEFT JOIN tallies ON events > 0";

/// What one row tells.
struct Row {
    rejected: u64,
    tally: Option<Tally>,
}

struct Tally {
    /// `None` where something else stands in its place; its events are counted all the same.
    service_key: Option<ServiceKey>,
    state: State,
    events: u64,
    oldest_waiting: Option<DateTime<Utc>>,
}

impl Reads {
    pub(in crate::queue) async fn overview(&self) -> Result<Overview, QueueError> {
        // One statement, so that all of it is true at the same moment.
        match self.soon(self.look(sqlx::query(OVERVIEW), row)).await {
            Err(error) if error.is_damage() => self.soon(self.overview_around_damage()).await,
            rows => Ok(rows?.into_iter().fold(Overview::default(), add)),
        }
    }

    /// What the tallies say, and the oldest event of each key that can be read.
    async fn overview_around_damage(&self) -> Result<Overview, QueueError> {
        let rows = self.look(sqlx::query(TALLIES), row).await?;
        let mut overview = rows.into_iter().fold(Overview::default(), add);
        for oldest in self.first_readable("[]").await? {
            overview.oldest_waiting = overview.oldest_waiting.into_iter().chain([oldest.since]).min();
            let mut destinations = overview.destinations.iter_mut();
            if let Some(own) = destinations.find(|destination| destination.service_key == oldest.service_key) {
                own.oldest_waiting = Some(oldest.since);
            }
        }
        Ok(overview)
    }
}

fn row(columns: &Columns) -> Result<Row, ColumnError> {
    let tally = match columns.optional_number("events")? {
        None => None,
        Some(events) => Some(Tally {
            service_key: columns.service_key().ok(),
            state: columns.state()?,
            events,
            oldest_waiting: columns.optional_time("oldest_waiting")?,
        }),
    };
    Ok(Row { rejected: columns.number("rejected")?, tally })
}

/// Adds a row to what those before it told.
fn add(mut overview: Overview, row: Row) -> Overview {
    overview.rejected = row.rejected;
    let Some(Tally { service_key, state, events, oldest_waiting }) = row.tally else { return overview };
    let total = match state {
        State::Waiting => &mut overview.waiting,
        State::Dead => &mut overview.dead,
        State::Delivered => &mut overview.delivered,
    };
    *total += events;
    overview.oldest_waiting = overview.oldest_waiting.into_iter().chain(oldest_waiting).min();
    let Some(service_key) = service_key else { return overview };
    let place = overview.destinations.partition_point(|known| known.service_key < service_key);
    if overview.destinations.get(place).is_none_or(|known| known.service_key != service_key) {
        let new = Destination { service_key, waiting: 0, dead: 0, delivered: 0, oldest_waiting: None };
        overview.destinations.insert(place, new);
    }
    let destination = &mut overview.destinations[place];
    match state {
        State::Waiting => destination.waiting = events,
        State::Dead => destination.dead = events,
        State::Delivered => destination.delivered = events,
    }
    destination.oldest_waiting = destination.oldest_waiting.or(oldest_waiting);
    overview
}

#[cfg(test)]
pub(super) const QUERY: &str = OVERVIEW;
