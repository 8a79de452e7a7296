//! Reads around damage: the events that an index contains are read row by row, so that a page or a row that cannot be
//! read does not affect the others.
//!
//! Nothing here is tried before the usual statement has failed because of [damage](QueueError::is_damage), because it
//! costs a statement per row.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;

use super::{Pool, SqliteReads};
use crate::pagerduty::ServiceKey;
use crate::queue::reader::DeliveryReads as _;
use crate::queue::rows::{self, ColumnError, TypedRow, summaries_from};
use crate::queue::sqlite::database::SqliteQuery;
use crate::queue::{EventId, EventSummary, FirstWaiting, QueueError, RecentAttempts};

/// How many events with the same invalid service key are read one by one at most, and how many attempts are read after a
/// restart.
pub(super) const MAX_READ_SINGLY: u32 = 10_000;

/// How many events of one service key are tried to find the first that can be read: few at first, and then more.
const FIRST: [u32; 2] = [8, 1_000];

const LINE: &str = "SELECT id FROM events INDEXED BY events_waiting \
     WHERE state = 'waiting' AND service_key = CAST(? AS TEXT) AND id > ? ORDER BY id LIMIT ?";

/// The same from another index: slower, since it has to be read as a whole.
const LINE_BY_INCIDENT: &str = "SELECT id FROM events INDEXED BY events_line \
     WHERE state = 'waiting' AND service_key = CAST(? AS TEXT) AND id > ? ORDER BY id LIMIT ?";

pub(super) const EVENT: &str = "SELECT id, incident_key, event_type, received_at, attempts, last_attempt_at, blamed_ms FROM events \
     WHERE state = 'waiting' AND id = ?";

pub(super) const WHOLE_EVENT: &str = "SELECT id, service_key, incident_key, event_type, received_at, attempts, last_attempt_at, \
     blamed_ms, body FROM events JOIN bodies USING (id) WHERE state = 'waiting' AND id = ?";

const FIRST_SEEN: &str = "SELECT id, service_key, first_seen, revived_at, reason FROM events WHERE state = 'waiting' AND id = ? \
     AND incident_key NOT IN (SELECT value FROM json_each(?))";

const SUMMARY: &str = summaries_from!("events WHERE id = ?");

pub(super) const TALLIED_KEYS: &str = "SELECT service_key FROM tallies WHERE state = 'waiting' AND events > 0";

const ATTEMPTED: &str = "SELECT id FROM events INDEXED BY events_attempted WHERE last_attempt_at >= ? \
     ORDER BY last_attempt_at DESC LIMIT ?";

const ATTEMPT: &str = "SELECT id, service_key, last_attempt_at, attempts FROM events WHERE id = ?";

const DISCARDED: &str = "SELECT service_key, last_attempt_at, attempts FROM discarded WHERE last_attempt_at >= ? \
     ORDER BY last_attempt_at DESC LIMIT ?";

impl SqliteReads {
    /// The numbers of the waiting events whose stored service key is `key`, which may be invalid.
    pub(super) async fn line(
        &self,
        key: &[u8],
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<EventId>, QueueError> {
        let after = after.map_or(i64::MIN, EventId::get);
        let ids = |statement: &'static str| {
            let query = sqlx::query(statement).bind(key.to_vec()).bind(after).bind(limit);
            self.all(Pool::Deliveries, query, TypedRow::id)
        };
        match ids(LINE).await {
            Err(error) if error.is_damage() => ids(LINE_BY_INCIDENT).await,
            found => found,
        }
    }

    /// The attempts since `since` that can be read, at most `most` of each service key, earliest first.
    pub(super) async fn readable_attempts(&self, since: i64, most: u32) -> Result<RecentAttempts, QueueError> {
        let ids = sqlx::query(ATTEMPTED).bind(since).bind(MAX_READ_SINGLY);
        let ids = self.all(Pool::Deliveries, ids, TypedRow::id).await?;
        let mut attempts = self.readable(Pool::Deliveries, ids, ATTEMPT, |row| rows::attempt(row, 0)).await?;
        let discarded = sqlx::query(DISCARDED).bind(since).bind(MAX_READ_SINGLY);
        let discarded = self.all(Pool::Deliveries, discarded, |row| Ok(rows::attempt(row, 0).ok())).await?;
        attempts.extend(discarded.into_iter().flatten());
        // The newest of each key are kept.
        attempts.sort_by_key(|(_, at, _)| std::cmp::Reverse(*at));
        let mut counts: HashMap<ServiceKey, u32> = HashMap::new();
        attempts.retain(|(key, ..)| {
            let count = counts.entry(key.clone()).or_default();
            *count += 1;
            *count <= most
        });
        attempts.reverse();
        Ok(attempts)
    }

    /// The first waiting event of each service key that can be read and does not belong to the incidents `without`, a
    /// JSON array.
    pub(super) async fn first_readable(&self, without: &str) -> Result<Vec<FirstWaiting>, QueueError> {
        let mut first = Vec::new();
        for key in self.waiting_keys().await?.keys {
            let mut after = None;
            'key: for limit in FIRST {
                for id in self.line(key.expose().as_bytes(), after, limit).await? {
                    let query = sqlx::query(FIRST_SEEN).bind(id.get()).bind(without.to_owned());
                    match self.one(Pool::People, query, rows::first_waiting).await {
                        Ok(Some(event)) => {
                            first.push(event);
                            break 'key;
                        }
                        Ok(None) => {}
                        Err(error) if error.is_damage() => {}
                        Err(error) => return Err(error),
                    }
                    after = Some(id);
                }
            }
        }
        Ok(first)
    }

    /// The summaries that can be read of the events that `ids` finds by an index, in its order.
    pub(super) async fn readable_summaries(&self, ids: SqliteQuery<'_>) -> Result<Vec<EventSummary>, QueueError> {
        let ids = self.all(Pool::People, ids, TypedRow::id).await?;
        self.readable(Pool::People, ids, SUMMARY, rows::summary).await
    }

    /// Reads the rows of `ids` with `statement`, which takes a number, in their order, and leaves out rows that cannot be
    /// read.
    pub(super) async fn readable<T>(
        &self,
        pool: Pool,
        ids: Vec<EventId>,
        statement: &'static str,
        read: impl Fn(&SqliteRow) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            match self.one(pool, sqlx::query(statement).bind(id.get()), &read).await {
                Ok(row) => found.extend(row),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    pub(super) async fn one<T>(
        &self,
        pool: Pool,
        query: SqliteQuery<'static>,
        read: impl Fn(&SqliteRow) -> Result<T, ColumnError>,
    ) -> Result<Option<T>, QueueError> {
        Ok(self.all(pool, query, read).await?.pop())
    }
}
