//! What the deliveries read: the waiting events of each key, and the attempts that the rate limiter has to count after a
//! restart.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::damage::{EVENT, MAX_READ_SINGLY, TALLIED_KEYS, WHOLE_EVENT};
use super::{Pool, SqliteReads, with_keys};
use crate::pagerduty::ServiceKey;
use crate::queue::reader::DeliveryReads;
use crate::queue::rows::{ColumnError, TypedRow as _, attempt, waiting_event};
use crate::queue::{EventId, Page, QueueError, RecentAttempts, Recheck, Unreadable, WaitingEvent, WaitingKeys};

const KEYS_WAITING: &str = with_keys!("SELECT service_key FROM keys WHERE service_key IS NOT NULL");

/// The newest last attempts of each service key between two times, including those of discarded events: at most `?3` per
/// service key. They are found by their time; only the rows between the two times are sorted.
const NEWEST: &str = "SELECT service_key, last_attempt_at, attempts FROM (
        SELECT service_key, last_attempt_at, attempts,
            ROW_NUMBER() OVER (PARTITION BY service_key ORDER BY last_attempt_at DESC) AS place
        FROM (
            SELECT service_key, last_attempt_at, attempts FROM events WHERE last_attempt_at BETWEEN ?1 AND ?2
            UNION ALL
            SELECT service_key, last_attempt_at, attempts FROM discarded WHERE last_attempt_at BETWEEN ?1 AND ?2
        )
    ) WHERE place <= ?3 ORDER BY last_attempt_at";

/// The time of the last of all attempts after `?1`; `?1` if there is none.
const LAST: &str = "SELECT MAX(
        COALESCE((SELECT MAX(last_attempt_at) FROM events WHERE last_attempt_at > ?1), ?1),
        COALESCE((SELECT MAX(last_attempt_at) FROM discarded WHERE last_attempt_at > ?1), ?1)
    )";

impl SqliteReads {
    /// The first `limit` waiting events of `key` after `after`, in order; an error if one of them cannot be read.
    async fn waiting(
        &self,
        key: &ServiceKey,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<WaitingEvent>, QueueError> {
        let query = sqlx::query(
            "SELECT id, incident_key, event_type, received_at, attempts, last_attempt_at, blamed_ms FROM events \
             WHERE state = 'waiting' AND service_key = ? AND id > ? ORDER BY id LIMIT ?",
        )
        .bind(key.expose())
        .bind(after.map_or(i64::MIN, EventId::get))
        .bind(limit);
        self.delivery_query(query, |row| waiting_event(row, key)).await
    }
}

#[async_trait]
impl DeliveryReads for SqliteReads {
    async fn page(&self, key: &ServiceKey, after: Option<EventId>, limit: u32) -> Result<Page, QueueError> {
        let full = |events: usize| events >= limit as usize;
        match self.waiting(key, after, limit).await {
            Ok(events) => {
                let (end, is_last) = (events.last().map(|event| event.id), !full(events.len()));
                return Ok(Page { events, unreadable: Vec::new(), end, is_last });
            }
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
        let ids = self.line(key.expose().as_bytes(), after, limit).await?;
        let mut page = Page { end: ids.last().copied(), is_last: !full(ids.len()), ..Page::default() };
        for id in ids {
            match self.one(Pool::Deliveries, sqlx::query(EVENT).bind(id.get()), |row| waiting_event(row, key)).await {
                Ok(event) => page.events.extend(event),
                Err(error) if error.is_damage() => {
                    let (service_key, reason) = (Some(key.clone()), error.of_one_event());
                    page.unreadable.push(Unreadable { id, service_key, reason });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    async fn waiting_keys(&self) -> Result<WaitingKeys, QueueError> {
        // The bytes of the text, which need not be valid UTF-8.
        let text = |row: &SqliteRow| Ok(row.try_get_unchecked::<Vec<u8>, _>("service_key")?);
        let found = match self.all(Pool::Deliveries, sqlx::query(KEYS_WAITING), text).await {
            Err(error) if error.is_damage() => self.all(Pool::Deliveries, sqlx::query(TALLIED_KEYS), text).await?,
            found => found?,
        };
        let mut keys = WaitingKeys::default();
        for text in found {
            let key = std::str::from_utf8(&text).ok().and_then(|text| ServiceKey::parse(text).ok());
            if let Some(key) = key {
                keys.keys.push(key);
                continue;
            }
            for id in self.line(&text, None, MAX_READ_SINGLY).await? {
                let error = self.unreadable(id, "service_key");
                keys.unreadable.push(Unreadable { id, service_key: None, reason: error.to_string() });
            }
        }
        keys.keys.sort();
        Ok(keys)
    }

    async fn recheck(&self, id: EventId) -> Result<Recheck, QueueError> {
        let read = |row: &SqliteRow| {
            row.bytes("body")?;
            Ok(waiting_event(row, &row.service_key()?)?.service_key)
        };
        match self.one(Pool::Deliveries, sqlx::query(WHOLE_EVENT).bind(id.get()), read).await {
            Ok(Some(key)) => Ok(Recheck::Readable(key)),
            Ok(None) => Ok(Recheck::Gone),
            Err(error) if error.is_damage() => Ok(Recheck::Unreadable),
            Err(error) => Err(error),
        }
    }

    async fn attempts_since(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        most: u32,
    ) -> Result<RecentAttempts, QueueError> {
        let (since, now) = (since.timestamp_millis(), now.timestamp_millis());
        let found = self.with_connection(Pool::Deliveries, async |connection| {
            let mut attempts = between(connection, since, now, most, 0).await?;
            let last: i64 = sqlx::query_scalar(LAST).bind(now).fetch_one(&mut *connection).await?;
            if last > now {
                let ahead = last.saturating_sub(now);
                let since = since.saturating_add(ahead).max(now.saturating_add(1));
                attempts.extend(between(connection, since, last, most, ahead).await?);
                attempts.sort_by_key(|(_, at, _)| *at);
            }
            Ok(attempts)
        });
        match found.await {
            Err(error) if error.is_damage() => self.readable_attempts(since, most).await,
            attempts => attempts,
        }
    }

    async fn generation(&self) -> Result<u64, QueueError> {
        let query = sqlx::query("SELECT generation FROM changes");
        Ok(self.delivery_query(query, |row| row.number("generation")).await?.pop().unwrap_or_default())
    }
}

/// The attempts between two times of a clock that was `ahead` milliseconds ahead.
async fn between(
    connection: &mut SqliteConnection,
    since: i64,
    until: i64,
    most: u32,
    ahead: i64,
) -> sqlx::Result<RecentAttempts> {
    let mut rows = sqlx::query(NEWEST).bind(since).bind(until).bind(most).fetch(connection);
    let mut attempts = Vec::new();
    while let Some(row) = rows.try_next().await? {
        match attempt(&row, ahead) {
            Ok(attempt) => attempts.push(attempt),
            // One attempt that is not counted is better than no delivery for any key.
            Err(ColumnError::Invalid(_)) => {}
            Err(ColumnError::Sqlx(error)) => return Err(error),
        }
    }
    Ok(attempts)
}

#[cfg(test)]
pub(in crate::queue::sqlite) const QUERIES: [&str; 2] = [NEWEST, LAST];
