//! What pages and commands read: events and rejected webhooks, as lists or one by one.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::PostgresReads;
use crate::pagerduty::{IncidentKey, ServiceKey};
use crate::queue::postgres::rows::{numbers, stored};
use crate::queue::reader::{ListReads, MAX_SUMMARIES, Search, like};
use crate::queue::rows::{self, ColumnError, TypedRow, summaries_from};
use crate::queue::{
    EventId, EventRecord, EventSummary, QueueError, RejectedId, RejectedSummary, RejectedWebhook, State,
};

const RECENT: &str = summaries_from!("events WHERE id < $1 ORDER BY id DESC LIMIT $2");

/// The first events of each service key, which include the first events of all keys: the index is ordered by service key.
const WAITING: &str = concat!(
    "WITH RECURSIVE keys (service_key) AS (
        SELECT MIN(service_key) FROM events WHERE state = 'waiting' AND id > 0
        UNION ALL
        SELECT (SELECT MIN(service_key) FROM events WHERE state = 'waiting' AND id > 0 AND service_key > keys.service_key)
        FROM keys WHERE keys.service_key IS NOT NULL
    ), found (id) AS (
        SELECT first.id FROM keys CROSS JOIN LATERAL (
            SELECT id FROM events
            WHERE state = 'waiting' AND id > 0 AND service_key = keys.service_key AND id > $1 ORDER BY id LIMIT $2
        ) AS first ORDER BY id LIMIT $2
    ) ",
    summaries_from!("found JOIN events ON events.id = found.id ORDER BY events.id")
);

const DEAD: &str = summaries_from!("events WHERE state = 'dead' AND id > 0 AND id < $1 ORDER BY id DESC LIMIT $2");

/// After an event that is gone nothing is found, because the oldest are deleted first.
const DELIVERED: &str = summaries_from!(
    "events WHERE state = 'delivered' AND (finished_at, id) < (
        CASE WHEN $1 = 9223372036854775807 THEN $1 ELSE (SELECT finished_at FROM events WHERE id = $1) END, $1
     ) ORDER BY finished_at DESC, id DESC LIMIT $2"
);

/// Only the range of numbers limits what is read: no index can be used for a search for text.
const MATCHING: &str = summaries_from!(
    "events WHERE id >= $1 AND id < $2 AND (
        description ILIKE '%' || $3 || '%' ESCAPE '\\' OR incident_key ILIKE '%' || $3 ESCAPE '\\'
        OR service_key = ANY ($4::text[])
    ) ORDER BY id DESC LIMIT $5"
);

const SUMMARIES: &str = summaries_from!(
    "unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, line) JOIN events ON events.id = wanted.id ORDER BY line"
);

const RECORD: &str =
    "SELECT events.id, state, service_key, api, incident_key, event_type, count, received_at, first_seen, attempts,
        last_attempt_at, next_attempt_at, blamed_ms, finished_at, resolved_at, reason, description, body, counts_at
    FROM events JOIN bodies ON bodies.id = events.id WHERE events.id = $1";

const REJECTED: &str =
    "SELECT id, received_at, resource, idempotency_key, sent_at, from_sentrys_pages, is_signed, reason, body
    FROM rejected WHERE id = $1";

/// What came in this time was delivered later, unless the clock was set back: so `finished_at` limits what is read.
const TRIGGERS_AROUND: &str = "SELECT events.id, body FROM events JOIN bodies ON bodies.id = events.id
    WHERE (state = 'waiting' OR state = 'dead' OR state = 'delivered' AND finished_at >= $1)
    AND service_key = $3 AND incident_key = $4 AND event_type = 'trigger' AND received_at >= $1 AND first_seen <= $2";

/// A number that is greater than all others.
const END: i64 = i64::MAX;

#[async_trait]
impl ListReads for PostgresReads {
    async fn recent(&self, before: Option<EventId>, limit: u32) -> Result<Vec<EventSummary>, QueueError> {
        self.summaries_of(RECENT, before.map_or(END, EventId::get), limit).await
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
            .bind(like(&stored(&search.text)))
            .bind(keys)
            .bind(i64::from(limit));
        let found = self.query(query, |row| Ok(rows::summary(row))).await?;
        self.readable(found)
    }

    async fn bodies(&self, ids: &[EventId]) -> Result<HashMap<EventId, Vec<u8>>, QueueError> {
        let query = sqlx::query("SELECT id, body FROM bodies WHERE id = ANY($1::bigint[])").bind(numbers(ids));
        let bodies = self.query(query, |row| Ok((row.id()?, row.bytes("body")?)));
        Ok(bodies.await?.into_iter().collect())
    }

    async fn list(&self, state: State, after: Option<EventId>, limit: u32) -> Result<Vec<EventSummary>, QueueError> {
        let end = after.map_or(END, EventId::get);
        match state {
            State::Waiting => self.summaries_of(WAITING, after.map_or(i64::MIN, EventId::get), limit).await,
            State::Dead => self.summaries_of(DEAD, end, limit).await,
            State::Delivered => self.summaries_of(DELIVERED, end, limit).await,
        }
    }

    async fn rejected_list(&self, before: Option<RejectedId>, limit: u32) -> Result<Vec<RejectedSummary>, QueueError> {
        let query = "SELECT id, received_at, reason, size FROM rejected WHERE id < $1 ORDER BY id DESC LIMIT $2";
        let query = sqlx::query(query).bind(before.map_or(END, RejectedId::get)).bind(i64::from(limit));
        self.query(query, rows::rejected_summary).await
    }

    async fn get(&self, id: EventId) -> Result<Option<EventRecord>, QueueError> {
        Ok(self.query(sqlx::query(RECORD).bind(id.get()), rows::record).await?.pop())
    }

    async fn ids(&self, state: State, limit: u64) -> Result<Vec<EventId>, QueueError> {
        let query = match state {
            State::Waiting => "SELECT id FROM events WHERE state = 'waiting' AND id > 0 ORDER BY id LIMIT $1",
            State::Dead => "SELECT id FROM events WHERE state = 'dead' AND id > 0 ORDER BY finished_at, id LIMIT $1",
            State::Delivered => {
                "SELECT id FROM events WHERE state = 'delivered' ORDER BY finished_at DESC, id DESC LIMIT $1"
            }
        };
        let query = sqlx::query(query).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.query(query, TypedRow::id).await
    }

    async fn summaries(&self, ids: &[EventId]) -> Result<Vec<EventSummary>, QueueError> {
        let mut summaries = Vec::with_capacity(ids.len());
        for page in ids.chunks(MAX_SUMMARIES) {
            let found = self.query(sqlx::query(SUMMARIES).bind(numbers(page)), |row| Ok(rows::summary(row))).await?;
            summaries.extend(self.readable(found)?);
        }
        Ok(summaries)
    }

    async fn rejected_summaries(&self, limit: u64) -> Result<Vec<RejectedSummary>, QueueError> {
        let query = sqlx::query("SELECT id, received_at, reason, size FROM rejected ORDER BY id LIMIT $1")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.query(query, rows::rejected_summary).await
    }

    async fn rejected(&self, id: RejectedId) -> Result<Option<RejectedWebhook>, QueueError> {
        Ok(self.query(sqlx::query(REJECTED).bind(id.get()), rows::rejected).await?.pop())
    }

    async fn still_waiting(&self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        let query = sqlx::query("SELECT id FROM events WHERE state = 'waiting' AND id = ANY($1::bigint[]) ORDER BY id");
        self.query(query.bind(numbers(ids)), TypedRow::id).await
    }

    async fn triggers_around(
        &self,
        service_key: &ServiceKey,
        incident_key: &IncidentKey,
        around: DateTime<Utc>,
        reach: TimeDelta,
    ) -> Result<Vec<Vec<u8>>, QueueError> {
        let query = sqlx::query(TRIGGERS_AROUND)
            .bind((around - reach).timestamp_millis())
            .bind((around + reach).timestamp_millis())
            .bind(service_key.expose())
            .bind(stored(incident_key.as_str()));
        self.query(query, |row| row.bytes("body")).await
    }
}

impl PostgresReads {
    async fn summaries_of(
        &self,
        query: &'static str,
        cursor: i64,
        limit: u32,
    ) -> Result<Vec<EventSummary>, QueueError> {
        let query = sqlx::query(query).bind(cursor).bind(i64::from(limit));
        let found = self.query(query, |row| Ok(rows::summary(row))).await?;
        self.readable(found)
    }

    /// Leaves out rows with values that the bridge does not write.
    fn readable<T>(&self, rows: Vec<Result<T, ColumnError>>) -> Result<Vec<T>, QueueError> {
        let mut readable = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Ok(row) => readable.push(row),
                Err(ColumnError::Invalid(_)) => {}
                Err(ColumnError::Sqlx(error)) => return Err(self.people.server().error(error)),
            }
        }
        Ok(readable)
    }
}
