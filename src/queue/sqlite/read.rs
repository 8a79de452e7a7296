//! Everything that only looks.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePoolOptions};
use sqlx::{Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::time::timeout;

use super::place::Place;
use super::row::{ColumnError, Columns};
use super::schema;
use crate::pagerduty::ServiceKey;
use crate::queue::{EventId, QueueError, Record, STUCK, WaitingEvent};

/// How many connections serve the deliveries at the same time.
const WORKING: u32 = 2;

/// How long the deliveries wait for one of them.
const WORKING_PATIENCE: Duration = Duration::from_secs(10);

/// How many connections serve those who look, apart from the others: whatever people ask for, no delivery waits for it.
const LOOKING: u32 = 2;

/// How long somebody who looks waits for one of them. Nothing that a page asks for takes a fraction of it.
const LOOKING_PATIENCE: Duration = Duration::from_secs(3);

/// A query that begins with the service keys in line as the table `keys`, whose last row is null.
///
/// They are found by leaping from one to the next in the index, so what it costs depends on the number of keys and not
/// on that of events. The tallies tell them, too, but what is delivered should not depend on a second account.
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
pub(super) use with_keys;

pub(super) const KEYS_WAITING: &str = with_keys!("SELECT 0 AS id, service_key FROM keys WHERE service_key IS NOT NULL");

/// Who reads by which connections.
#[derive(Debug)]
struct Pools {
    working: SqlitePool,
    looking: SqlitePool,
}

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pool {
    /// The deliveries.
    Deliveries,
    /// People who look, and what checks whether the bridge is well.
    People,
}

impl Pools {
    fn of(&self, who: Pool) -> &SqlitePool {
        match who {
            Pool::Deliveries => &self.working,
            Pool::People => &self.looking,
        }
    }

    fn beside(place: &Place, looking: Duration) -> Self {
        let pool = |connections, patience| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(patience)
                .connect_lazy_with(place.reading())
        };
        Self { working: pool(WORKING, WORKING_PATIENCE), looking: pool(LOOKING, looking) }
    }

    async fn close(&self) {
        self.working.close().await;
        self.looking.close().await;
    }
}

/// Keeps everybody from reading until it is dropped; no connection is open meanwhile.
pub(super) struct Pause<'a> {
    pools: RwLockWriteGuard<'a, Pools>,
    reads: &'a Reads,
}

impl Pause<'_> {
    /// Lets everybody read again, by new connections.
    pub(super) fn go_on(&mut self) {
        *self.pools = Pools::beside(&self.reads.place, self.reads.looking_patience);
    }
}

/// Connections that cannot write.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Reads {
    place: Place,
    /// Locked for writing while the files are opened anew.
    pools: Arc<RwLock<Pools>>,
    /// How long those who look wait for a connection.
    looking_patience: Duration,
    /// How long what is looked at [soon](Self::soon) may take.
    patience: Duration,
}

impl Reads {
    pub(super) fn beside(place: &Place) -> Self {
        Self::patient(place, LOOKING_PATIENCE)
    }

    /// Those who look wait for a connection for so long.
    fn patient(place: &Place, looking: Duration) -> Self {
        let pools = Arc::new(RwLock::new(Pools::beside(place, looking)));
        Self { place: place.clone(), pools, looking_patience: looking, patience: STUCK }
    }

    /// Waits until nobody reads, and keeps it so.
    pub(super) async fn pause(&self) -> Pause<'_> {
        let pools = self.pools.write().await;
        pools.close().await;
        Pause { pools, reads: self }
    }

    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        if !path.exists() {
            return Err(QueueError::Missing { path: path.to_owned() });
        }
        let reads = Self::beside(&Place::new(path));
        let pools = reads.pools.read().await;
        let mut connection = pools.looking.acquire().await.map_err(|error| reads.place.error(error))?;
        schema::check(&mut connection, &reads.place).await?;
        drop((connection, pools));
        Ok(reads)
    }

    pub(in crate::queue) fn path(&self) -> PathBuf {
        self.place.path()
    }

    pub(in crate::queue) async fn close(&self) {
        self.pools.read().await.close().await;
    }

    pub(in crate::queue) async fn keys_waiting(&self) -> Result<Vec<ServiceKey>, QueueError> {
        self.work(sqlx::query(KEYS_WAITING), Columns::service_key).await
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
        self.work(query, waiting_event).await
    }

    pub(in crate::queue) async fn generation(&self) -> Result<u64, QueueError> {
        let query = sqlx::query("SELECT 0 AS id, generation FROM changes");
        Ok(self.work(query, |columns| columns.number("generation")).await?.pop().unwrap_or_default())
    }

    /// How many delivered events are kept.
    pub(in crate::queue) async fn delivered(&self) -> Result<u64, QueueError> {
        let query = sqlx::query("SELECT 0 AS id, SUM(events) AS events FROM tallies WHERE state = 'delivered'");
        Ok(self.work(query, |columns| columns.optional_number("events")).await?.pop().flatten().unwrap_or_default())
    }

    pub(in crate::queue) async fn get(&self, id: EventId) -> Result<Option<Record>, QueueError> {
        let query = sqlx::query(
            "SELECT id, state, service_key, incident_key, event_type, count, received_at, first_seen, attempts, \
             last_attempt_at, next_attempt_at, blamed_ms, finished_at, resolved_at, reason, description, body, \
             counts_at \
             FROM events JOIN bodies USING (id) WHERE id = ?",
        )
        .bind(id.get());
        Ok(self.look(query, Columns::record).await?.pop())
    }

    /// What a look brings that costs next to nothing, unless the disk does not answer: nobody who watches over the bridge
    /// may wait for that.
    pub(super) async fn soon<T>(&self, look: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
        let stuck = |_| Err(QueueError::Stuck { path: self.place.path(), seconds: self.patience.as_secs() });
        timeout(self.patience, look).await.unwrap_or_else(stuck)
    }

    /// Looks at something with other statements than [`look`](Self::look) reads.
    pub(super) async fn look_with<T>(
        &self,
        look: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        let pools = self.pools.read().await;
        let looked = async { look(&mut *pools.looking.acquire().await?).await };
        looked.await.map_err(|error| self.place.error(error))
    }

    /// The same for the deliveries, with other statements than [`work`](Self::work) reads.
    pub(super) async fn work_with<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        let pools = self.pools.read().await;
        let worked = async { work(&mut *pools.working.acquire().await?).await };
        worked.await.map_err(|error| self.place.error(error))
    }

    /// Runs `query`, whose every row has an `id`, and reads its rows, for those who look.
    pub(super) async fn look<T>(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Columns) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        self.all(Pool::People, query, read).await
    }

    /// The same for the deliveries.
    async fn work<T>(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Columns) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        self.all(Pool::Deliveries, query, read).await
    }

    pub(super) async fn all<T>(
        &self,
        who: Pool,
        query: Query<'_, Sqlite, SqliteArguments>,
        read: impl Fn(&Columns) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        let pools = self.pools.read().await;
        let rows = query.fetch_all(pools.of(who)).await.map_err(|error| self.place.error(error))?;
        drop(pools);
        let read_row = |row| {
            let columns = Columns::of(row).map_err(|error| self.place.error(error))?;
            read(&columns).map_err(|error| match error {
                ColumnError::Sqlx(error) => self.place.error(error),
                ColumnError::Odd(column) => self.unreadable(columns.id(), column),
            })
        };
        rows.into_iter().map(read_row).collect()
    }

    pub(super) fn unreadable(&self, id: EventId, column: &'static str) -> QueueError {
        QueueError::Unreadable { path: self.place.path(), id, column }
    }
}

pub(super) fn waiting_event(columns: &Columns) -> Result<WaitingEvent, ColumnError> {
    Ok(WaitingEvent {
        id: columns.id(),
        incident_key: columns.incident_key()?,
        event_type: columns.event_type()?,
        received_at: columns.time("received_at")?,
        attempts: columns.number("attempts")?,
        last_attempt_at: columns.optional_time("last_attempt_at")?,
        blamed: columns.milliseconds("blamed_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Engine;
    use super::*;
    use crate::pagerduty::IncidentKey;

    #[tokio::test]
    async fn whoever_looks_waits_for_a_while_and_the_deliveries_do_not_wait_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let _engine = Engine::open(&path).await.unwrap();
        let reads = Reads::patient(&Place::new(&path), Duration::from_secs(1));
        let mut held = Vec::new();
        for _ in 0..LOOKING {
            held.push(reads.pools.read().await.looking.acquire().await.unwrap());
        }
        let refused = reads.overview().await;
        assert!(matches!(refused, Err(QueueError::Busy { .. })), "{refused:?}");
        assert_eq!(reads.keys_waiting().await.unwrap(), []);
        assert_eq!(reads.generation().await.unwrap(), 0);
        assert_eq!(reads.delivered().await.unwrap(), 0);
        drop(held);
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let _engine = Engine::open(&path).await.unwrap();
        // Whoever waits for a connection waits as for a disk.
        let mut reads = Reads::patient(&Place::new(&path), Duration::from_hours(1));
        reads.patience = Duration::from_millis(1);
        let mut held = Vec::new();
        for _ in 0..LOOKING {
            held.push(reads.pools.read().await.looking.acquire().await.unwrap());
        }
        let key = ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap();
        let incident = IncidentKey::parse("1").unwrap();
        let errors = [
            reads.overview().await.unwrap_err(),
            reads.attention(&[]).await.unwrap_err(),
            reads.incident(&incident, &key).await.unwrap_err(),
        ];
        assert!(errors.iter().all(|error| matches!(error, QueueError::Stuck { .. })), "{errors:?}");
    }
}
