//! Reads what is committed, through connections that cannot write.
//!
//! - `delivery`, `list`, `status`: what the deliveries, pages and commands, and the monitor read
//! - `external`: what is known from the APIs of Sentry and PagerDuty
//! - `damage`: reading around damage

mod damage;
pub(super) mod delivery;
pub(super) mod external;
pub(super) mod list;
pub(super) mod status;

use std::borrow::Cow;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqlitePoolOptions, SqliteRow};
use sqlx::{Row as _, SqliteConnection, SqlitePool};
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::time::timeout;

use super::database::{Database, SqliteQuery};
use super::schema;
use crate::queue::reader::Reads;
use crate::queue::rows::{ColumnError, TypedRow};
use crate::queue::{EventId, QueueError, STUCK};

/// How many connections serve the deliveries at the same time.
const DELIVERY_CONNECTIONS: u32 = 2;

/// How long the deliveries wait for one of them.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// How many other connections serve people, so that no delivery waits for what people ask for.
const PEOPLE_CONNECTIONS: u32 = 2;

/// How long a read for people waits for one of them. No query of a page takes even a fraction of this time.
const PEOPLE_TIMEOUT: Duration = Duration::from_secs(3);

/// A query that begins with a table `keys` of the service keys that have waiting events. Its last row is null.
///
/// The keys are found by skipping from one to the next in the index, so the cost depends on the number of keys and not on
/// the number of events. The tallies contain them, too, but what is delivered should not depend on a second count.
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
use with_keys;

/// The connection pools, one for each kind of reader.
#[derive(Debug)]
struct Pools {
    deliveries: SqlitePool,
    people: SqlitePool,
}

/// Selects a connection pool.
#[derive(Clone, Copy, Debug)]
enum Pool {
    /// The deliveries.
    Deliveries,
    /// People, and the checks of the bridge's health.
    People,
}

impl Pools {
    fn of(&self, pool: Pool) -> &SqlitePool {
        match pool {
            Pool::Deliveries => &self.deliveries,
            Pool::People => &self.people,
        }
    }

    fn beside(database: &Database, timeout: Duration) -> Self {
        let pool = |connections, timeout| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(timeout)
                .connect_lazy_with(database.reading())
        };
        Self { deliveries: pool(DELIVERY_CONNECTIONS, DELIVERY_TIMEOUT), people: pool(PEOPLE_CONNECTIONS, timeout) }
    }

    async fn close(&self) {
        self.deliveries.close().await;
        self.people.close().await;
    }
}

/// Blocks all reads until it is dropped; no connection is open meanwhile.
pub(super) struct Pause<'a> {
    pools: RwLockWriteGuard<'a, Pools>,
    reads: &'a SqliteReads,
}

impl Pause<'_> {
    /// Replaces the closed pools, so that reads can go on with new connections.
    pub(super) fn go_on(&mut self) {
        *self.pools = Pools::beside(&self.reads.database, self.reads.acquire_timeout);
    }
}

/// Reads a queue in SQLite, through connections that cannot write.
#[derive(Clone, Debug)]
pub(in crate::queue) struct SqliteReads {
    database: Database,
    /// Locked for writing while the files are opened again.
    pools: Arc<RwLock<Pools>>,
    /// How long people wait for a connection.
    acquire_timeout: Duration,
    /// The time limit of [`limited`](Self::limited).
    read_timeout: Duration,
}

impl SqliteReads {
    pub(super) fn beside(database: &Database) -> Self {
        Self::with_timeout(database, PEOPLE_TIMEOUT)
    }

    /// Creates a reader in which people wait at most `timeout` for a connection.
    fn with_timeout(database: &Database, timeout: Duration) -> Self {
        let pools = Arc::new(RwLock::new(Pools::beside(database, timeout)));
        Self { database: database.clone(), pools, acquire_timeout: timeout, read_timeout: STUCK }
    }

    /// Waits until no read is running, and blocks further reads.
    pub(super) async fn pause(&self) -> Pause<'_> {
        let pools = self.pools.write().await;
        pools.close().await;
        Pause { pools, reads: self }
    }

    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        if !path.exists() {
            return Err(QueueError::Missing { database: path.display().to_string() });
        }
        let reads = Self::beside(&Database::new(path));
        reads.check().await?;
        Ok(reads)
    }

    /// Returns an error if the tables are not those of this program.
    pub(super) async fn check(&self) -> Result<(), QueueError> {
        let pools = self.pools.read().await;
        let mut connection = pools.people.acquire().await.map_err(|error| self.database.error(error))?;
        schema::check(&mut connection, &self.database).await
    }

    /// Limits the time of a read that costs next to nothing, unless the disk does not respond: what monitors the bridge
    /// must not wait for that.
    async fn limited<T>(&self, read: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
        let stuck = |_| Err(QueueError::Stuck { database: self.database.name(), seconds: self.read_timeout.as_secs() });
        timeout(self.read_timeout, read).await.unwrap_or_else(stuck)
    }

    /// Runs statements one after the other on the same connection.
    async fn with_connection<T>(
        &self,
        pool: Pool,
        run: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        let pools = self.pools.read().await;
        let found = async { run(&mut *pools.of(pool).acquire().await?).await };
        found.await.map_err(|error| self.database.error(error))
    }

    /// Runs `query` on the connections for people, and reads its rows.
    async fn query<T>(
        &self,
        query: SqliteQuery<'_>,
        read: impl Fn(&SqliteRow) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        self.all(Pool::People, query, read).await
    }

    /// The same on the connections of the deliveries.
    async fn delivery_query<T>(
        &self,
        query: SqliteQuery<'_>,
        read: impl Fn(&SqliteRow) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        self.all(Pool::Deliveries, query, read).await
    }

    async fn all<T>(
        &self,
        pool: Pool,
        query: SqliteQuery<'_>,
        read: impl Fn(&SqliteRow) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        let pools = self.pools.read().await;
        let rows = query.fetch_all(pools.of(pool)).await.map_err(|error| self.database.error(error))?;
        drop(pools);
        let read_row = |row: SqliteRow| {
            read(&row).map_err(|error| match error {
                ColumnError::Sqlx(error) => self.database.error(error),
                ColumnError::Invalid(column) => self.unreadable(row.id().unwrap_or(EventId::new(0)), column),
            })
        };
        // Each row is dropped as soon as it is read, because its bytes may be many.
        rows.into_iter().map(read_row).collect()
    }

    fn unreadable(&self, id: EventId, column: &'static str) -> QueueError {
        QueueError::Unreadable { database: self.database.name(), id, column }
    }
}

#[async_trait]
impl Reads for SqliteReads {
    fn database(&self) -> String {
        self.database.name()
    }

    async fn close(&self) {
        self.pools.read().await.close().await;
    }
}

impl TypedRow for SqliteRow {
    fn decode_integer(&self, column: &'static str) -> sqlx::Result<Option<i64>> {
        self.try_get(column)
    }

    fn decode_flag(&self, column: &'static str) -> sqlx::Result<Option<bool>> {
        self.try_get(column)
    }

    fn decode_text(&self, column: &'static str) -> sqlx::Result<Option<Cow<'_, str>>> {
        Ok(self.try_get::<Option<&str>, _>(column)?.map(Cow::Borrowed))
    }

    fn decode_bytes(&self, column: &'static str) -> sqlx::Result<Option<Vec<u8>>> {
        self.try_get(column)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SqliteEngine;
    use super::*;
    use crate::pagerduty::{IncidentKey, ServiceKey};
    use crate::queue::reader::{DeliveryReads as _, StatusReads as _};

    #[tokio::test]
    async fn whoever_looks_waits_for_a_while_and_the_deliveries_do_not_wait_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let _engine = SqliteEngine::open(&path).await.unwrap();
        let reads = SqliteReads::with_timeout(&Database::new(&path), Duration::from_secs(1));
        let mut held = Vec::new();
        for _ in 0..PEOPLE_CONNECTIONS {
            held.push(reads.pools.read().await.people.acquire().await.unwrap());
        }
        let refused = reads.overview().await;
        assert!(matches!(refused, Err(QueueError::Busy { .. })), "{refused:?}");
        assert_eq!(reads.waiting_keys().await.unwrap().keys, []);
        assert_eq!(reads.generation().await.unwrap(), 0);
        assert_eq!(reads.delivered().await.unwrap(), 0);
        drop(held);
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let _engine = SqliteEngine::open(&path).await.unwrap();
        // The same time limit applies to waiting for a connection and to waiting for the disk.
        let mut reads = SqliteReads::with_timeout(&Database::new(&path), Duration::from_hours(1));
        reads.read_timeout = Duration::from_millis(1);
        let mut held = Vec::new();
        for _ in 0..PEOPLE_CONNECTIONS {
            held.push(reads.pools.read().await.people.acquire().await.unwrap());
        }
        let key = ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap();
        let incident = IncidentKey::parse("1").unwrap();
        let errors = [
            reads.overview().await.unwrap_err(),
            reads.backlog(&[]).await.unwrap_err(),
            reads.incident(&incident, &key).await.unwrap_err(),
        ];
        assert!(errors.iter().all(|error| matches!(error, QueueError::Stuck { .. })), "{errors:?}");
    }
}
