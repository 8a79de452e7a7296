//! All rows of a file, for a move to another database.

use std::path::Path;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::database::{Database, SqliteQuery};
use super::files::Files;
use super::schema;
use crate::queue::QueueError;
use crate::queue::tables::{Cell, LastNumbers, Table};
use crate::queue::transfer::Transfer;

/// The file, which no bridge has open meanwhile. Everything is done in one transaction.
#[derive(Debug)]
pub(in crate::queue) struct SqliteTransfer {
    database: Database,
    connection: SqliteConnection,
    /// Locked until it is dropped, after the connection.
    _files: Files,
}

impl SqliteTransfer {
    /// Opens the file and brings its tables up to date. Creates the file only if `creates` is set.
    pub(in crate::queue) async fn open(path: &Path, creates: bool) -> Result<Self, QueueError> {
        let database = Database::new(path);
        if !creates && !path.exists() {
            return Err(QueueError::Missing { database: database.name() });
        }
        database.create()?;
        let files = Files::open(&database)?;
        let mut connection = database.connect_aside().await?;
        schema::migrate(&mut connection, &database).await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.map_err(|error| database.error(error))?;
        Ok(Self { database, connection, _files: files })
    }

    async fn execute(&mut self, query: SqliteQuery<'static>) -> Result<(), QueueError> {
        let done = query.execute(&mut self.connection).await;
        done.map(drop).map_err(|error| self.database.error(error))
    }
}

fn bind<'q>(query: SqliteQuery<'q>, cell: &Cell) -> SqliteQuery<'q> {
    match cell {
        Cell::Null => query.bind(None::<i64>),
        Cell::Integer(number) => query.bind(*number),
        Cell::Text(text) => query.bind(text.clone()),
        Cell::Bytes(bytes) => query.bind(bytes.clone()),
    }
}

fn places(number: usize) -> String {
    vec!["?"; number].join(", ")
}

#[async_trait]
impl Transfer for SqliteTransfer {
    async fn read(
        &mut self,
        table: &Table,
        after: Option<&[Cell]>,
        limit: usize,
    ) -> Result<Vec<Vec<Cell>>, QueueError> {
        let sql = table.select(after.map(|_| places(table.key)), limit);
        let query = after.unwrap_or_default().iter().fold(sqlx::query(AssertSqlSafe(sql)), bind);
        let rows = query.fetch_all(&mut self.connection).await;
        let cells = rows.and_then(|rows| rows.iter().map(|row| table.cells(row)).collect());
        cells.map_err(|error| self.database.error(error))
    }

    async fn numbers(&mut self) -> Result<LastNumbers, QueueError> {
        let mut numbers = LastNumbers::default();
        for (table, number) in numbers.by_table() {
            let query = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = ?").bind(table);
            let found: Option<i64> =
                query.fetch_optional(&mut self.connection).await.map_err(|error| self.database.error(error))?;
            *number = found.unwrap_or_default();
        }
        Ok(numbers)
    }

    async fn write(&mut self, table: &Table, rows: &[Vec<Cell>]) -> Result<(), QueueError> {
        let columns: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
        let (columns, places) = (columns.join(", "), places(columns.len()));
        for row in rows {
            let sql = format!("INSERT OR REPLACE INTO {} ({columns}) VALUES ({places})", table.name);
            self.execute(row.iter().fold(sqlx::query(AssertSqlSafe(sql)), bind)).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, mut numbers: LastNumbers) -> Result<(), QueueError> {
        for (table, number) in numbers.by_table() {
            self.execute(sqlx::query("DELETE FROM sqlite_sequence WHERE name = ?").bind(table)).await?;
            let insert = sqlx::query("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)").bind(table).bind(*number);
            self.execute(insert).await?;
        }
        self.execute(sqlx::query("COMMIT")).await?;
        self.close().await
    }

    async fn close(self: Box<Self>) -> Result<(), QueueError> {
        // Closing rolls back an open transaction, and SQLite leaves a single file.
        self.connection.close().await.map_err(|error| self.database.error(error))
    }
}
