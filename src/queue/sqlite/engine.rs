//! The writing side of the file: the lock that keeps a second bridge out, and the connection that survives errors.

use std::fs::{File, TryLockError};
use std::path::Path;

use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::place::Place;
use super::{Reads, read, schema, write};
use crate::queue::writer::{Batch, Begin, Committed, NotFirst};
use crate::queue::{Begun, QueueError};

/// Commits batches to one SQLite file, which no other bridge can open meanwhile.
#[derive(Debug)]
pub(in crate::queue) struct Engine {
    place: Place,
    connection: Option<SqliteConnection>,
    /// The system unlocks it when it is dropped or the process dies.
    _lock: File,
}

impl Engine {
    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        let place = Place::new(path);
        place.create()?;
        let lock = place.lock_file()?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => QueueError::InUse { path: place.path() },
            TryLockError::Error(error) => place.unopened(&error),
        })?;
        let mut connection = place.connect().await?;
        schema::migrate(&mut connection, &place).await?;
        Ok(Self { place, connection: Some(connection), _lock: lock })
    }

    pub(in crate::queue) fn reads(&self) -> Reads {
        Reads::beside(&self.place)
    }

    /// Commits all of `batch` or nothing of it.
    pub(in crate::queue) async fn commit(&mut self, batch: Batch) -> Result<Committed, QueueError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.place.connect().await?,
        };
        match write::commit(&mut connection, batch).await {
            Ok(committed) => {
                self.connection = Some(connection);
                Ok(committed)
            }
            Err(error) => {
                // It may be broken or still inside the transaction. Closing rolls back, and the next commit starts
                // with a fresh one, so that nothing but the cause itself can keep the queue from working again.
                let _ = connection.close().await;
                Err(self.place.error(error))
            }
        }
    }

    /// What to send of each, read without the connection that writes.
    pub(in crate::queue) async fn begun_unmarked(
        &self,
        begins: &[Begin],
    ) -> Result<Vec<Result<Begun, NotFirst>>, QueueError> {
        let mut begun = Vec::with_capacity(begins.len());
        if begins.is_empty() {
            return Ok(begun);
        }
        let mut connection = self.place.reading().connect().await.map_err(|error| self.place.error(error))?;
        for begin in begins {
            begun.push(read::begun(&mut connection, begin).await.map_err(|error| self.place.error(error))?);
        }
        Ok(begun)
    }

    /// Writes the log into the file, so that it stands alone, and lets go of it.
    pub(in crate::queue) async fn close(mut self) -> Result<(), QueueError> {
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        let written = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
        let closed = connection.close().await;
        written.and(closed).map_err(|error| self.place.error(error))
    }
}

#[cfg(test)]
impl Engine {
    /// Asks the writing connection itself.
    pub(in crate::queue) async fn pragma(&mut self, pragma: &str) -> i64 {
        let connection = self.connection.as_mut().unwrap();
        sqlx::query_scalar(sqlx::AssertSqlSafe(pragma.to_owned())).fetch_one(connection).await.unwrap()
    }
}
