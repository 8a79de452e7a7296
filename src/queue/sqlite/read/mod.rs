//! Reads what is committed, by connections that cannot write.
//!
//! - `delivery`, `list`, `status`: what the deliveries, pages and commands, and the monitor read
//! - `canary`: what is known of canaries; `incident`: what is known of one incident
//! - `sentry`: what catch-up and the polling of issues read
//! - `salvage`: reading around damage
//! - `row`: a row's columns as types

mod canary;
pub(super) mod delivery;
mod incident;
pub(super) mod list;
pub(super) mod proof;
mod row;
mod salvage;
pub(super) mod sentry;
pub(super) mod status;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePoolOptions};
use sqlx::{Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::time::timeout;

use super::database::Database;
use super::schema;
use crate::queue::reader::Reads;
use crate::queue::{EventId, QueueError, STUCK};
use row::{ColumnError, Columns};

/// How many connections serve the deliveries at the same time.
const DELIVERIES: u32 = 2;

/// How long the deliveries wait for one of them.
const DELIVERIES_PATIENCE: Duration = Duration::from_secs(10);

/// How many connections serve people, apart from the others: whatever people ask for, no delivery waits for it.
const PEOPLE: u32 = 2;

/// How long somebody who looks waits for one of them. Nothing that a page asks for takes a fraction of it.
const PEOPLE_PATIENCE: Duration = Duration::from_secs(3);

/// A query that begins with the service keys that have waiting events as the table `keys`, whose last row is null.
///
/// They are found by leaping from one to the next in the index, so what it costs depends on the number of keys and not
/// on that of events. The tallies know them, too, but what is delivered should not depend on a second count.
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

/// Who reads by which connections.
#[derive(Debug)]
struct Pools {
    deliveries: SqlitePool,
    people: SqlitePool,
}

/// Who reads.
#[derive(Clone, Copy, Debug)]
enum Pool {
    /// The deliveries.
    Deliveries,
    /// People, and what checks whether the bridge is well.
    People,
}

impl Pools {
    fn of(&self, who: Pool) -> &SqlitePool {
        match who {
            Pool::Deliveries => &self.deliveries,
            Pool::People => &self.people,
        }
    }

    fn beside(database: &Database, patience: Duration) -> Self {
        let pool = |connections, patience| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(patience)
                .connect_lazy_with(database.reading())
        };
        Self { deliveries: pool(DELIVERIES, DELIVERIES_PATIENCE), people: pool(PEOPLE, patience) }
    }

    async fn close(&self) {
        self.deliveries.close().await;
        self.people.close().await;
    }
}

/// Keeps everybody from reading until it is dropped; no connection is open meanwhile.
pub(super) struct Pause<'a> {
    pools: RwLockWriteGuard<'a, Pools>,
    reads: &'a SqliteReads,
}

impl Pause<'_> {
    /// Lets everybody read again, by new connections.
    pub(super) fn go_on(&mut self) {
        *self.pools = Pools::beside(&self.reads.database, self.reads.people_patience);
    }
}

/// Connections that cannot write.
#[derive(Clone, Debug)]
pub(in crate::queue) struct SqliteReads {
    database: Database,
    /// Locked for writing while the files are opened again.
    pools: Arc<RwLock<Pools>>,
    /// How long people wait for a connection.
    people_patience: Duration,
    /// How long what is read [soon](Self::soon) may take.
    patience: Duration,
}

impl SqliteReads {
    pub(super) fn beside(database: &Database) -> Self {
        Self::patient(database, PEOPLE_PATIENCE)
    }

    /// People wait for a connection for so long.
    fn patient(database: &Database, patience: Duration) -> Self {
        let pools = Arc::new(RwLock::new(Pools::beside(database, patience)));
        Self { database: database.clone(), pools, people_patience: patience, patience: STUCK }
    }

    /// Waits until nobody reads, and keeps it so.
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

    /// Refuses tables that are not those of this program.
    pub(super) async fn check(&self) -> Result<(), QueueError> {
        let pools = self.pools.read().await;
        let mut connection = pools.people.acquire().await.map_err(|error| self.database.error(error))?;
        schema::check(&mut connection, &self.database).await
    }

    /// A read that costs next to nothing, unless the disk does not answer: nobody who watches over the bridge
    /// may wait for that.
    async fn soon<T>(&self, read: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
        let stuck = |_| Err(QueueError::Stuck { database: self.database.name(), seconds: self.patience.as_secs() });
        timeout(self.patience, read).await.unwrap_or_else(stuck)
    }

    /// For people, with other statements than [`query`](Self::query) reads.
    async fn query_with<T>(
        &self,
        query: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        let pools = self.pools.read().await;
        let found = async { query(&mut *pools.people.acquire().await?).await };
        found.await.map_err(|error| self.database.error(error))
    }

    /// The same for the deliveries, with other statements than [`delivery_query`](Self::delivery_query) reads.
    async fn delivery_query_with<T>(
        &self,
        query: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        let pools = self.pools.read().await;
        let found = async { query(&mut *pools.deliveries.acquire().await?).await };
        found.await.map_err(|error| self.database.error(error))
    }

    /// Runs `query`, whose every row has an `id`, and reads its rows, for people.
    async fn query<T>(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Columns) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        self.all(Pool::People, query, read).await
    }

    /// The same for the deliveries.
    async fn delivery_query<T>(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Columns) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        self.all(Pool::Deliveries, query, read).await
    }

    async fn all<T>(
        &self,
        who: Pool,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Columns) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        let pools = self.pools.read().await;
        let rows = query.fetch_all(pools.of(who)).await.map_err(|error| self.database.error(error))?;
        drop(pools);
        let read_row = |row| {
            let columns = Columns::of(row).map_err(|error| self.database.error(error))?;
            read(&columns).map_err(|error| match error {
                ColumnError::Sqlx(error) => self.database.error(error),
                ColumnError::Odd(column) => self.unreadable(columns.id(), column),
            })
        };
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

#[cfg(test)]
mod tests {
    use super::super::Engine;
    use super::*;
    use crate::pagerduty::{IncidentKey, ServiceKey};
    use crate::queue::reader::{DeliveryReads as _, StatusReads as _};

    #[tokio::test]
    async fn whoever_looks_waits_for_a_while_and_the_deliveries_do_not_wait_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let _engine = Engine::open(&path).await.unwrap();
        let reads = SqliteReads::patient(&Database::new(&path), Duration::from_secs(1));
        let mut held = Vec::new();
        for _ in 0..PEOPLE {
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
        let _engine = Engine::open(&path).await.unwrap();
        // Waiting for a connection is limited as waiting for a disk is.
        let mut reads = SqliteReads::patient(&Database::new(&path), Duration::from_hours(1));
        reads.patience = Duration::from_millis(1);
        let mut held = Vec::new();
        for _ in 0..PEOPLE {
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
