//! Changes that people make from outside, with or without a running bridge: short transactions that a running bridge
//! notices.

use std::path::Path;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::task::spawn_blocking;

use super::database::Database;
use super::load::load;
use super::write::{self, run};
use super::{SqliteReads, standalone};
use crate::queue::QueueError;
use crate::queue::external::SentryNotes;
use crate::queue::store::{Committed, Dependencies, EditorStore, Known, Plan};

/// A connection that writes, next to that of a bridge.
///
/// It is also used inside a running bridge, on the thread that serves webhooks. So everything that may wait for a lock
/// or for the disk is done on another thread; before the COMMIT, the plan is only written to memory.
#[derive(Debug)]
pub(in crate::queue) struct SqliteEditorStore {
    database: Database,
    reads: SqliteReads,
    /// `None` after an error: closing the connection rolls back a transaction that was left open.
    connection: Option<Connection>,
    /// The transaction whose first half is done. Its connection is not in `connection` meanwhile.
    transaction: Option<(Connection, i64)>,
}

impl SqliteEditorStore {
    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        let database = Database::new(path);
        if !path.exists() {
            return Err(QueueError::Missing { database: database.name() });
        }
        let mut store = Self { reads: SqliteReads::beside(&database), database, connection: None, transaction: None };
        let (connection, ()) = store.aside(|_| Ok(())).await?;
        store.connection = Some(connection);
        store.reads.check().await?;
        Ok(store)
    }

    pub(in crate::queue) fn reads(&self) -> SqliteReads {
        self.reads.clone()
    }

    /// Runs `task` with the connection, on a thread that may block.
    async fn aside<T: Send + 'static>(
        &mut self,
        task: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Connection, T), QueueError> {
        let (database, connection) = (self.database.clone(), self.connection.take());
        let done = spawn_blocking(move || {
            let connection = connection.map_or_else(|| database.connect(), Ok)?;
            let done = task(&connection).map_err(|error| database.write_error(error))?;
            Ok((connection, done))
        });
        // The task does not run if the program is just shutting down.
        done.await.map_err(|_| QueueError::Closed)?
    }
}

#[async_trait]
impl EditorStore for SqliteEditorStore {
    async fn load(&mut self, dependencies: &Dependencies) -> Result<Known, QueueError> {
        self.transaction = None;
        let dependencies = dependencies.clone();
        let (connection, (known, last)) = self
            .aside(move |connection| {
                run(connection, "BEGIN IMMEDIATE", [])?;
                load(connection, &dependencies)
            })
            .await?;
        self.transaction = Some((connection, last));
        Ok(known)
    }

    async fn apply(&mut self, plan: &Plan<'_>) -> Result<Committed, QueueError> {
        let (connection, last) = self.transaction.take().ok_or(QueueError::Closed)?;
        let written = write::apply(&connection, plan, last);
        let committed = written.map_err(|error| self.database.write_error(error))?;
        self.connection = Some(connection);
        let commit = |connection: &Connection| {
            // By this counter, a running bridge notices the change.
            run(connection, "UPDATE changes SET generation = generation + 1", [])?;
            run(connection, "COMMIT", [])
        };
        let (connection, _) = self.aside(commit).await?;
        self.connection = Some(connection);
        Ok(committed)
    }

    async fn write_sentry_notes(&mut self, notes: &SentryNotes) -> Result<(), QueueError> {
        let notes = notes.clone();
        let (connection, _) = self
            .aside(move |connection| {
                run(connection, "BEGIN IMMEDIATE", [])?;
                standalone::write_sentry_notes(connection, &notes)?;
                run(connection, "COMMIT", [])
            })
            .await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), QueueError> {
        let Some(connection) = self.connection else { return Ok(()) };
        connection.close().map_err(|(_, error)| self.database.write_error(error))
    }
}
