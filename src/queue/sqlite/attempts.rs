//! The attempts that the rate limiter has to count after a restart.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::SqliteConnection;

use super::read::Reads;
use super::row::{ColumnError, Columns};
use crate::pagerduty::ServiceKey;
use crate::queue::QueueError;

/// The newest last attempts of each service key between two times, those of discarded events included: at most `?3` of
/// each. Found by their time; sorted is only what lies between the two.
const NEWEST: &str = "SELECT 0 AS id, service_key, last_attempt_at, attempts FROM (
        SELECT service_key, last_attempt_at, attempts,
            ROW_NUMBER() OVER (PARTITION BY service_key ORDER BY last_attempt_at DESC) AS place
        FROM (
            SELECT service_key, last_attempt_at, attempts FROM events WHERE last_attempt_at BETWEEN ?1 AND ?2
            UNION ALL
            SELECT service_key, last_attempt_at, attempts FROM discarded WHERE last_attempt_at BETWEEN ?1 AND ?2
        )
    ) WHERE place <= ?3 ORDER BY last_attempt_at";

/// The last of all attempts after a time.
const LAST: &str = "SELECT MAX(
        COALESCE((SELECT MAX(last_attempt_at) FROM events WHERE last_attempt_at > ?1), ?1),
        COALESCE((SELECT MAX(last_attempt_at) FROM discarded WHERE last_attempt_at > ?1), ?1)
    )";

type Attempts = Vec<(ServiceKey, DateTime<Utc>, u32)>;

impl Reads {
    pub(in crate::queue) async fn attempts_since(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        most: u32,
    ) -> Result<Attempts, QueueError> {
        let (since, now) = (since.timestamp_millis(), now.timestamp_millis());
        let found = self.work_with(async |connection| {
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
}

/// The attempts between two times of a clock that was `ahead`, in milliseconds.
async fn between(
    connection: &mut SqliteConnection,
    since: i64,
    until: i64,
    most: u32,
    ahead: i64,
) -> sqlx::Result<Attempts> {
    let mut rows = sqlx::query(NEWEST).bind(since).bind(until).bind(most).fetch(connection);
    let mut attempts = Vec::new();
    while let Some(row) = rows.try_next().await? {
        match attempt(&Columns::of(row)?, ahead) {
            Ok(attempt) => attempts.push(attempt),
            // One attempt that is not counted is better than no delivery for any key.
            Err(ColumnError::Odd(_)) => {}
            Err(ColumnError::Sqlx(error)) => return Err(error),
        }
    }
    Ok(attempts)
}

fn attempt(columns: &Columns, ahead: i64) -> Result<(ServiceKey, DateTime<Utc>, u32), ColumnError> {
    let at = columns.number::<i64>("last_attempt_at")?.saturating_sub(ahead);
    let at = DateTime::from_timestamp_millis(at).ok_or(ColumnError::Odd("last_attempt_at"))?;
    Ok((columns.service_key()?, at, columns.number("attempts")?))
}

#[cfg(test)]
pub(super) const QUERIES: [&str; 2] = [NEWEST, LAST];
