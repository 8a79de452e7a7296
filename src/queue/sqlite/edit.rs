//! What people change from outside, beside a running bridge or without one: short transactions that it notices.

use std::path::Path;

use async_trait::async_trait;
use sqlx::{Connection, SqliteConnection};

use super::database::Database;
use super::load::{Loaded, load};
use super::statement_batch::StatementBatch;
use super::{SqliteReads, schema, write};
use crate::queue::QueueError;
use crate::queue::store::{Committed, Edits, Known, Plan, Wanted};

/// A connection that writes beside that of a bridge.
#[derive(Debug)]
pub(in crate::queue) struct SqliteEdits {
    database: Database,
    connection: SqliteConnection,
    /// While a transaction is open: the last number that was given to an event.
    last: Option<i64>,
}

impl SqliteEdits {
    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        let database = Database::new(path);
        if !path.exists() {
            return Err(QueueError::Missing { database: database.name() });
        }
        let mut connection = database.connect().await?;
        schema::check(&mut connection, &database).await?;
        Ok(Self { database, connection, last: None })
    }

    pub(in crate::queue) fn reads(&self) -> SqliteReads {
        SqliteReads::beside(&self.database)
    }

    /// Ends the transaction after an error, so that the connection can be used again.
    async fn roll_back(&mut self, error: sqlx::Error) -> QueueError {
        self.last = None;
        // It fails where there is nothing to roll back, which is as good.
        let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        self.database.error(error)
    }
}

#[async_trait]
impl Edits for SqliteEdits {
    async fn load(&mut self, wanted: &Wanted) -> Result<Known, QueueError> {
        if self.last.take().is_some() {
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        }
        let loaded = async {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
            load(&mut StatementBatch::on(&mut self.connection), wanted).await
        };
        match loaded.await {
            Ok(Loaded { known, last }) => {
                self.last = Some(last);
                Ok(known)
            }
            Err(error) => Err(self.roll_back(error).await),
        }
    }

    async fn apply(&mut self, plan: &Plan<'_>) -> Result<Committed, QueueError> {
        let last = self.last.take().ok_or(QueueError::Closed)?;
        let applied = async {
            let mut statements = StatementBatch::on(&mut self.connection);
            let committed = write::apply(&mut statements, plan, last).await?;
            // The sign by which a running bridge notices.
            statements.add("UPDATE changes SET generation = generation + 1").add("COMMIT").run().await?;
            Ok(committed)
        };
        match applied.await {
            Ok(committed) => Ok(committed),
            Err(error) => Err(self.roll_back(error).await),
        }
    }

    async fn close(self: Box<Self>) -> Result<(), QueueError> {
        self.connection.close().await.map_err(|error| self.database.error(error))
    }
}
