//! What pages and commands read: events and rejected webhooks, as lists or one by one.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Pool, SqliteReads};
use crate::pagerduty::{IncidentKey, ServiceKey};
use crate::queue::reader::{ListReads, MAX_SUMMARIES, Search, like};
use crate::queue::rows::{self, TypedRow, summaries_from};
use crate::queue::sqlite::numbers;
use crate::queue::{
    EventId, EventRecord, EventSummary, QueueError, RejectedId, RejectedSummary, RejectedWebhook, State,
};

/// The first waiting event after the number `$after`, over all service keys.
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

/// Skips from one event to the next, because the index is ordered by service key, and another index would make every
/// alert cost more. The caller sorts the rows.
const WAITING: &str = concat!(
    "WITH RECURSIVE found (id) AS (SELECT ",
    next_in_line!("?1"),
    " UNION ALL SELECT ",
    next_in_line!("found.id"),
    " FROM found WHERE found.id IS NOT NULL LIMIT ?2) ",
    summaries_from!("found JOIN events ON events.id = found.id")
);

/// Names the index, so that SQLite does not scan all delivered events for the few dead letters.
const DEAD: &str =
    summaries_from!("events INDEXED BY events_dead WHERE state = 'dead' AND id < ?1 ORDER BY id DESC LIMIT ?2");

/// The second condition is that of the partial index.
const DELIVERED: &str = summaries_from!(
    "events INDEXED BY events_finished WHERE state = 'delivered' AND finished_at IS NOT NULL
     AND (finished_at, id) < (
        CASE ?1 WHEN 9223372036854775807 THEN ?1 ELSE (SELECT finished_at FROM events WHERE id = ?1) END, ?1
     ) ORDER BY finished_at DESC, id DESC LIMIT ?2"
);

/// Only the range of numbers limits what is read: no index can be used for a search for text.
const MATCHING: &str = summaries_from!(
    "events WHERE id >= ?1 AND id < ?2 AND (
        description LIKE '%' || ?3 || '%' ESCAPE '\\' OR incident_key LIKE '%' || ?3 ESCAPE '\\'
        OR service_key IN (SELECT value FROM json_each(?4))
    ) ORDER BY id DESC LIMIT ?5"
);

/// Only the numbers, from indexes, for when the table is damaged. Their cost grows with the number of events in the
/// queue.
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

/// A number that is greater than all others.
const END: i64 = i64::MAX;

#[async_trait]
impl ListReads for SqliteReads {
    async fn recent(&self, before: Option<EventId>, limit: u32) -> Result<Vec<EventSummary>, QueueError> {
        self.summaries_of(RECENT, RECENT_IDS, before.map_or(END, EventId::get), limit).await
    }

    async fn matching(
        &self,
        search: &Search,
        from: EventId,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<EventSummary>, QueueError> {
        let keys: Vec<_> = search.service_keys.iter().map(ServiceKey::expose).collect();
        let query = sqlx::query(MATCHING)
            .bind(from.get())
            .bind(before.get())
            .bind(like(&search.text))
            .bind(serde_json::to_string(&keys).unwrap_or_default())
            .bind(limit);
        self.query(query, rows::summary).await
    }

    async fn bodies(&self, ids: &[EventId]) -> Result<HashMap<EventId, Vec<u8>>, QueueError> {
        let query = sqlx::query("SELECT id, body FROM bodies WHERE id IN (SELECT value FROM json_each(?))");
        let bodies = self.query(query.bind(numbers(ids)), |row| Ok((row.id()?, row.bytes("body")?)));
        Ok(bodies.await?.into_iter().collect())
    }

    async fn list(&self, state: State, after: Option<EventId>, limit: u32) -> Result<Vec<EventSummary>, QueueError> {
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

    async fn rejected_list(&self, before: Option<RejectedId>, limit: u32) -> Result<Vec<RejectedSummary>, QueueError> {
        let query = sqlx::query(REJECTED).bind(before.map_or(END, RejectedId::get)).bind(limit);
        self.query(query, rows::rejected_summary).await
    }

    async fn get(&self, id: EventId) -> Result<Option<EventRecord>, QueueError> {
        let query = sqlx::query(
            "SELECT id, state, service_key, api, incident_key, event_type, count, received_at, first_seen, attempts, \
             last_attempt_at, next_attempt_at, blamed_ms, finished_at, resolved_at, reason, description, body, \
             counts_at \
             FROM events JOIN bodies USING (id) WHERE id = ?",
        )
        .bind(id.get());
        Ok(self.query(query, rows::record).await?.pop())
    }

    async fn ids(&self, state: State, limit: u64) -> Result<Vec<EventId>, QueueError> {
        // Each statement reads only an index; the conditions are those of the partial indexes.
        let query = match state {
            State::Waiting => "SELECT id FROM events WHERE state = 'waiting' ORDER BY id LIMIT ?",
            State::Dead => {
                "SELECT id FROM events WHERE state = 'dead' AND finished_at IS NOT NULL ORDER BY finished_at, id LIMIT ?"
            }
            State::Delivered => {
                "SELECT id FROM events WHERE state = 'delivered' AND finished_at IS NOT NULL \
                 ORDER BY finished_at DESC, id DESC LIMIT ?"
            }
        };
        let query = sqlx::query(query).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.query(query, TypedRow::id).await
    }

    async fn summaries(&self, ids: &[EventId]) -> Result<Vec<EventSummary>, QueueError> {
        let mut summaries = Vec::with_capacity(ids.len());
        for page in ids.chunks(MAX_SUMMARIES) {
            // `wanted.key` is the place of a number in the list, and keeps the order of the list.
            let query = sqlx::query(summaries_from!(
                "json_each(?) AS wanted JOIN events ON events.id = wanted.value ORDER BY wanted.key"
            ))
            .bind(numbers(page));
            summaries.append(&mut match self.query(query, rows::summary).await {
                Err(error) if error.is_damage() => {
                    let ids = sqlx::query("SELECT value AS id FROM json_each(?)").bind(numbers(page));
                    self.readable_summaries(ids).await?
                }
                found => found?,
            });
        }
        Ok(summaries)
    }

    async fn rejected_summaries(&self, limit: u64) -> Result<Vec<RejectedSummary>, QueueError> {
        let query = sqlx::query("SELECT id, received_at, reason, size FROM rejected ORDER BY id LIMIT ?")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.query(query, rows::rejected_summary).await
    }

    async fn rejected(&self, id: RejectedId) -> Result<Option<RejectedWebhook>, QueueError> {
        let query = sqlx::query(
            "SELECT id, received_at, resource, idempotency_key, sent_at, from_sentrys_pages, is_signed, reason, body \
             FROM rejected WHERE id = ?",
        )
        .bind(id.get());
        Ok(self.query(query, rows::rejected).await?.pop())
    }

    async fn still_waiting(&self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = sqlx::query(
            "SELECT id FROM events INDEXED BY events_waiting \
             WHERE state = 'waiting' AND id IN (SELECT value FROM json_each(?)) ORDER BY id",
        );
        self.all(Pool::People, query.bind(numbers(ids)), TypedRow::id).await
    }

    async fn triggers_around(
        &self,
        service_key: &ServiceKey,
        incident_key: &IncidentKey,
        around: DateTime<Utc>,
        reach: TimeDelta,
    ) -> Result<Vec<Vec<u8>>, QueueError> {
        let (since, until) = ((around - reach).timestamp_millis(), (around + reach).timestamp_millis());
        // What came in this time was delivered later, unless the clock was set back: so `finished_at` limits what is
        // read.
        let query = sqlx::query(
            "SELECT events.id, body FROM events JOIN bodies ON bodies.id = events.id \
             WHERE (state = 'waiting' OR state = 'dead' OR state = 'delivered' AND finished_at >= ?) \
             AND service_key = ? AND incident_key = ? AND event_type = 'trigger' \
             AND received_at >= ? AND first_seen <= ?",
        )
        .bind(since)
        .bind(service_key.expose())
        .bind(incident_key.as_str())
        .bind(since)
        .bind(until);
        self.query(query, |row| row.bytes("body")).await
    }
}

impl SqliteReads {
    /// Reads events with `query`; if there is damage, reads those that can be read of the numbers that `ids` finds.
    async fn summaries_of(
        &self,
        query: &'static str,
        ids: &'static str,
        cursor: i64,
        limit: u32,
    ) -> Result<Vec<EventSummary>, QueueError> {
        match self.query(sqlx::query(query).bind(cursor).bind(limit), rows::summary).await {
            Err(error) if error.is_damage() => self.readable_summaries(sqlx::query(ids).bind(cursor).bind(limit)).await,
            found => found,
        }
    }
}

#[cfg(test)]
pub(in crate::queue::sqlite) const QUERIES: [&str; 6] = [RECENT, WAITING, DEAD, DELIVERED, REJECTED, MATCHING];
