//! What the deliveries read: the waiting events of each key, and the attempts that the rate limiter has to count after a
//! restart.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;

use super::{PostgresReads, with_keys};
use crate::pagerduty::ServiceKey;
use crate::queue::reader::DeliveryReads;
use crate::queue::rows::{ColumnError, TypedRow, attempt, waiting_event};
use crate::queue::{EventId, Page, QueueError, RecentAttempts, Recheck, Unreadable, WaitingKeys};

const KEYS_WAITING: &str = with_keys!("SELECT service_key FROM keys WHERE service_key IS NOT NULL");

const WAITING: &str =
    "SELECT id, service_key, incident_key, event_type, received_at, attempts, last_attempt_at, blamed_ms
    FROM events WHERE state = 'waiting' AND id > 0 AND service_key = $1 AND id > $2 ORDER BY id LIMIT $3";

const EVENT: &str = "SELECT events.id, service_key, incident_key, event_type, received_at, attempts, last_attempt_at,
        blamed_ms, body
    FROM events JOIN bodies ON bodies.id = events.id WHERE state = 'waiting' AND events.id = $1";

/// The waiting events whose stored service key is not valid.
const STRAY: &str =
    "SELECT id FROM events WHERE state = 'waiting' AND id > 0 AND service_key = $1 ORDER BY id LIMIT 1000";

/// The newest last attempts of each service key between two times, including those of discarded events: at most `$3` per
/// service key.
const NEWEST: &str = "SELECT service_key, last_attempt_at, attempts FROM (
        SELECT service_key, last_attempt_at, attempts,
            ROW_NUMBER() OVER (PARTITION BY service_key ORDER BY last_attempt_at DESC) AS place
        FROM (
            SELECT service_key, last_attempt_at, attempts FROM events WHERE last_attempt_at BETWEEN $1 AND $2
            UNION ALL
            SELECT service_key, last_attempt_at, attempts FROM discarded WHERE last_attempt_at BETWEEN $1 AND $2
        ) AS attempted
    ) AS placed WHERE place <= $3 ORDER BY last_attempt_at";

/// The time of the last of all attempts after `$1`; `$1` if there is none.
const LAST: &str = "SELECT GREATEST($1,
        (SELECT MAX(last_attempt_at) FROM events WHERE last_attempt_at > $1),
        (SELECT MAX(last_attempt_at) FROM discarded WHERE last_attempt_at > $1)
    ) AS last";

#[async_trait]
impl DeliveryReads for PostgresReads {
    async fn page(&self, key: &ServiceKey, after: Option<EventId>, limit: u32) -> Result<Page, QueueError> {
        let query = sqlx::query(WAITING).bind(key.expose()).bind(number(after)).bind(i64::from(limit));
        // A row with a value that the bridge does not write must not keep the others from being read.
        let rows = self.delivery_query(query, |row| Ok((row.id()?, waiting_event(row, key)))).await?;
        let mut page = Page {
            end: rows.last().map(|(id, _)| *id),
            is_last: rows.len() < usize::try_from(limit).unwrap_or(usize::MAX),
            ..Page::default()
        };
        for (id, event) in rows {
            match event {
                Ok(event) => page.events.push(event),
                Err(ColumnError::Invalid(column)) => {
                    let (service_key, reason) = (Some(key.clone()), self.unreadable(id, column).of_one_event());
                    page.unreadable.push(Unreadable { id, service_key, reason });
                }
                Err(ColumnError::Sqlx(error)) => return Err(self.deliveries.server().error(error)),
            }
        }
        Ok(page)
    }

    async fn waiting_keys(&self) -> Result<WaitingKeys, QueueError> {
        let mut keys = WaitingKeys::default();
        for text in self.delivery_query(sqlx::query(KEYS_WAITING), |row| row.text("service_key")).await? {
            if let Ok(key) = ServiceKey::parse(&text) {
                keys.keys.push(key);
                continue;
            }
            for id in self.delivery_query(sqlx::query(STRAY).bind(text), TypedRow::id).await? {
                let reason = self.unreadable(id, "service_key").to_string();
                keys.unreadable.push(Unreadable { id, service_key: None, reason });
            }
        }
        keys.keys.sort();
        Ok(keys)
    }

    async fn recheck(&self, id: EventId) -> Result<Recheck, QueueError> {
        let read = |row: &PgRow| {
            row.bytes("body")?;
            Ok(waiting_event(row, &row.service_key()?)?.service_key)
        };
        match self.delivery_query(sqlx::query(EVENT).bind(id.get()), read).await {
            Ok(mut found) => Ok(found.pop().map_or(Recheck::Gone, Recheck::Readable)),
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
        let mut attempts = self.attempts_between(since, now, most, 0).await?;
        let last = self.delivery_query(sqlx::query(LAST).bind(now), |row| row.number::<i64>("last")).await?;
        let last = last.first().copied().unwrap_or(now);
        if last > now {
            // A clock was ahead: look as far back from its last attempt as `since` is before `now`.
            let ahead = last.saturating_sub(now);
            let since = since.saturating_add(ahead).max(now.saturating_add(1));
            attempts.extend(self.attempts_between(since, last, most, ahead).await?);
            attempts.sort_by_key(|(_, at, _)| *at);
        }
        Ok(attempts)
    }

    async fn generation(&self) -> Result<u64, QueueError> {
        let query = sqlx::query("SELECT generation FROM changes");
        Ok(self.delivery_query(query, |row| row.number("generation")).await?.pop().unwrap_or_default())
    }
}

impl PostgresReads {
    /// The attempts between two times of a clock that was `ahead` milliseconds ahead.
    async fn attempts_between(
        &self,
        since: i64,
        until: i64,
        most: u32,
        ahead: i64,
    ) -> Result<RecentAttempts, QueueError> {
        let query = sqlx::query(NEWEST).bind(since).bind(until).bind(i64::from(most));
        // One attempt that is not counted is better than no delivery for any key.
        let rows = self.delivery_query(query, |row| Ok(attempt(row, ahead).ok())).await?;
        Ok(rows.into_iter().flatten().collect())
    }
}

fn number(after: Option<EventId>) -> i64 {
    after.map_or(i64::MIN, EventId::get)
}
