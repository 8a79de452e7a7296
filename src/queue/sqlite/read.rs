//! Everything that only looks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePoolOptions};
use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use super::place::Place;
use super::row::{ColumnError, Columns};
use super::schema;
use crate::pagerduty::ServiceKey;
use crate::queue::{Counts, EventId, QueueError, Record, WaitingEvent};

/// How many connections look at the same time: the scheduler must not wait for a page that counts.
const CONNECTIONS: u32 = 2;

/// How long a reader waits for one of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// A query that begins with the service keys in line as the table `keys`, whose last row is null.
///
/// They are found by leaping from one to the next in the index, so what it costs depends on the number of keys and not
/// on that of events.
macro_rules! with_keys {
    ($query:literal) => {
        concat!(
            "WITH RECURSIVE keys (service_key) AS (
                SELECT MIN(service_key) FROM events WHERE state = 'waiting'
                UNION ALL
                SELECT (SELECT MIN(service_key) FROM events WHERE state = 'waiting' AND service_key > keys.service_key)
                FROM keys WHERE keys.service_key IS NOT NULL
            ) ",
            $query
        )
    };
}

/// The body of an event, if it waits.
pub(super) async fn body_waiting(connection: &mut SqliteConnection, id: EventId) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar("SELECT body FROM events JOIN bodies USING (id) WHERE state = 'waiting' AND id = ?")
        .bind(id.get())
        .fetch_optional(connection)
        .await
}

/// Connections that cannot write.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Reads {
    place: Place,
    pool: SqlitePool,
}

impl Reads {
    pub(super) fn beside(place: &Place) -> Self {
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(place.reading());
        Self { place: place.clone(), pool }
    }

    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        if !path.exists() {
            return Err(QueueError::Missing { path: path.to_owned() });
        }
        let reads = Self::beside(&Place::new(path));
        let mut connection = reads.pool.acquire().await.map_err(|error| reads.place.error(error))?;
        schema::check(&mut connection, &reads.place).await?;
        Ok(reads)
    }

    pub(in crate::queue) fn path(&self) -> PathBuf {
        self.place.path()
    }

    pub(in crate::queue) async fn close(&self) {
        self.pool.close().await;
    }

    pub(in crate::queue) async fn keys_waiting(&self) -> Result<Vec<ServiceKey>, QueueError> {
        let query = sqlx::query(with_keys!("SELECT 0 AS id, service_key FROM keys WHERE service_key IS NOT NULL"));
        self.all(query, Columns::service_key).await
    }

    pub(in crate::queue) async fn waiting(
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
        self.all(query, |columns| {
            Ok(WaitingEvent {
                id: columns.id(),
                incident_key: columns.incident_key()?,
                event_type: columns.event_type()?,
                received_at: columns.time("received_at")?,
                attempts: columns.number("attempts")?,
                last_attempt_at: columns.optional_time("last_attempt_at")?,
                blamed: columns.milliseconds("blamed_ms")?,
            })
        })
        .await
    }

    pub(in crate::queue) async fn attempts_since(
        &self,
        since: DateTime<Utc>,
    ) -> Result<Vec<(ServiceKey, DateTime<Utc>, u32)>, QueueError> {
        let query = sqlx::query(
            "SELECT id, service_key, last_attempt_at, attempts FROM events WHERE last_attempt_at >= ? \
             ORDER BY last_attempt_at",
        )
        .bind(since.timestamp_millis());
        self.all(query, |columns| {
            Ok((columns.service_key()?, columns.time("last_attempt_at")?, columns.number("attempts")?))
        })
        .await
    }

    pub(in crate::queue) async fn counts(&self) -> Result<Counts, QueueError> {
        let query = sqlx::query(with_keys!(
            "SELECT 0 AS id,
                (SELECT COUNT(*) FROM events WHERE state = 'waiting') AS waiting,
                (SELECT COUNT(*) FROM events WHERE state = 'dead' AND finished_at IS NOT NULL) AS dead,
                (SELECT COUNT(*) FROM events WHERE state = 'delivered' AND finished_at IS NOT NULL) AS delivered,
                (SELECT MIN(first_seen) FROM events WHERE id IN (
                    SELECT (SELECT MIN(id) FROM events WHERE state = 'waiting' AND service_key = keys.service_key)
                    FROM keys
                )) AS oldest_waiting"
        ));
        let counts = self.all(query, |columns| {
            Ok(Counts {
                waiting: columns.number("waiting")?,
                dead: columns.number("dead")?,
                delivered: columns.number("delivered")?,
                oldest_waiting: columns.optional_time("oldest_waiting")?,
            })
        });
        Ok(counts.await?.pop().unwrap_or_default())
    }

    pub(in crate::queue) async fn get(&self, id: EventId) -> Result<Option<Record>, QueueError> {
        let query = sqlx::query(
            "SELECT id, state, service_key, incident_key, event_type, count, received_at, first_seen, attempts, \
             last_attempt_at, next_attempt_at, blamed_ms, finished_at, reason, description, body \
             FROM events JOIN bodies USING (id) WHERE id = ?",
        )
        .bind(id.get());
        Ok(self.all(query, Columns::record).await?.pop())
    }

    /// Runs `query`, whose every row has an `id`, and reads its rows.
    pub(super) async fn all<T>(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Columns) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        let rows = query.fetch_all(&self.pool).await.map_err(|error| self.place.error(error))?;
        let read_row = |row| {
            let columns = Columns::of(row).map_err(|error| self.place.error(error))?;
            read(&columns).map_err(|error| match error {
                ColumnError::Sqlx(error) => self.place.error(error),
                ColumnError::Odd(column) => {
                    QueueError::Unreadable { path: self.place.path(), id: columns.id(), column }
                }
            })
        };
        rows.into_iter().map(read_row).collect()
    }
}
