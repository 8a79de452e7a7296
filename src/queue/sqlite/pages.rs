//! What a page shows: the newest, page by page. None of it costs more where more stands in the queue.

use super::read::Reads;
use super::row::Columns;
use crate::queue::{EventId, QueueError, RejectedId, RejectedSummary, State, Summary};

/// The columns of a [`Summary`], from `events` and what follows it.
macro_rules! summaries_from {
    ($events:literal) => {
        concat!(
            "SELECT events.id, state, service_key, incident_key, event_type, description, count, attempts, \
             received_at, first_seen, next_attempt_at, finished_at, reason FROM ",
            $events
        )
    };
}

/// The first event in line behind the number `$after`, over all service keys.
macro_rules! next_in_line {
    ($after:literal) => {
        concat!(
            "(SELECT MIN((
                SELECT MIN(id) FROM events WHERE state = 'waiting' AND service_key = tallies.service_key AND id > ",
            $after,
            ")) FROM tallies WHERE state = 'waiting' AND events > 0)"
        )
    };
}

const RECENT: &str = summaries_from!("events WHERE id < ?1 ORDER BY id DESC LIMIT ?2");

/// Leaps from one event to the next, because the lines of the service keys lie apart in the index, and another index would
/// cost every alert more. Sorted by the reader.
const WAITING: &str = concat!(
    "WITH RECURSIVE found (id) AS (SELECT ",
    next_in_line!("?1"),
    " UNION ALL SELECT ",
    next_in_line!("found.id"),
    " FROM found WHERE found.id IS NOT NULL LIMIT ?2) ",
    summaries_from!("found JOIN events ON events.id = found.id")
);

/// Says which index, lest it leaf through the history for the few dead letters in it.
const DEAD: &str =
    summaries_from!("events INDEXED BY events_dead WHERE state = 'dead' AND id < ?1 ORDER BY id DESC LIMIT ?2");

/// The second condition is that of the index.
const DELIVERED: &str = summaries_from!(
    "events INDEXED BY events_finished WHERE state = 'delivered' AND finished_at IS NOT NULL
     AND (finished_at, id) < (
        CASE ?1 WHEN 9223372036854775807 THEN ?1 ELSE (SELECT finished_at FROM events WHERE id = ?1) END, ?1
     ) ORDER BY finished_at DESC, id DESC LIMIT ?2"
);

/// The numbers alone, from indexes: for when the table is damaged. They cost more where more stands in the queue.
const RECENT_IDS: &str = "SELECT id FROM (
        SELECT id FROM events INDEXED BY events_waiting WHERE state = 'waiting'
        UNION ALL SELECT id FROM events INDEXED BY events_dead WHERE state = 'dead'
        UNION ALL SELECT id FROM events INDEXED BY events_finished WHERE state = 'delivered' AND finished_at IS NOT NULL
    ) WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
const WAITING_IDS: &str =
    "SELECT id FROM events INDEXED BY events_waiting WHERE state = 'waiting' AND id > ?1 ORDER BY id LIMIT ?2";
const DEAD_IDS: &str =
    "SELECT id FROM events INDEXED BY events_dead WHERE state = 'dead' AND id < ?1 ORDER BY id DESC LIMIT ?2";
const DELIVERED_IDS: &str = "SELECT id FROM events INDEXED BY events_finished
    WHERE state = 'delivered' AND finished_at IS NOT NULL AND id < ?1 ORDER BY finished_at DESC, id DESC LIMIT ?2";

const REJECTED: &str = "SELECT id, received_at, reason, size FROM rejected WHERE id < ?1 ORDER BY id DESC LIMIT ?2";

/// A number before which all others stand.
const END: i64 = i64::MAX;

impl Reads {
    pub(in crate::queue) async fn recent(
        &self,
        before: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<Summary>, QueueError> {
        self.summaries_of(RECENT, RECENT_IDS, before.map_or(END, EventId::get), limit).await
    }

    pub(in crate::queue) async fn list(
        &self,
        state: State,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<Summary>, QueueError> {
        let end = after.map_or(END, EventId::get);
        match state {
            State::Waiting => {
                let after = after.map_or(i64::MIN, EventId::get);
                let mut line = self.summaries_of(WAITING, WAITING_IDS, after, limit).await?;
                line.sort_unstable_by_key(|event| event.id);
                Ok(line)
            }
            State::Dead => self.summaries_of(DEAD, DEAD_IDS, end, limit).await,
            State::Delivered => self.summaries_of(DELIVERED, DELIVERED_IDS, end, limit).await,
        }
    }

    pub(in crate::queue) async fn rejected_list(
        &self,
        before: Option<RejectedId>,
        limit: u32,
    ) -> Result<Vec<RejectedSummary>, QueueError> {
        let query = sqlx::query(REJECTED).bind(before.map_or(END, RejectedId::get)).bind(limit);
        self.look(query, Columns::rejected_summary).await
    }

    /// Reads them by `query`, or where there is damage those that can be read of the numbers that `ids` finds.
    async fn summaries_of(
        &self,
        query: &'static str,
        ids: &'static str,
        cursor: i64,
        limit: u32,
    ) -> Result<Vec<Summary>, QueueError> {
        match self.look(sqlx::query(query).bind(cursor).bind(limit), Columns::summary).await {
            Err(error) if error.is_damage() => self.readable_summaries(sqlx::query(ids).bind(cursor).bind(limit)).await,
            found => found,
        }
    }
}

#[cfg(test)]
pub(super) const QUERIES: [&str; 5] = [RECENT, WAITING, DEAD, DELIVERED, REJECTED];
