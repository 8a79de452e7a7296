//! Statements on their way to SQLite.
//!
//! `sqlx` runs SQLite on a thread of its own, and on a busy machine a visit there costs more than most statements do. So
//! those whose results nobody waits for are held back and go together with the next one.

use std::iter;

use sqlx::encode::Encode;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Sqlite, SqliteConnection, Type};

/// The statements of one transaction. What is not [`run`](StatementBatch::run) in the end is not done.
#[derive(Debug)]
pub(super) struct StatementBatch<'c> {
    connection: &'c mut SqliteConnection,
    /// What is held back: statements, each with its semicolon. SQLite prepares every such text once, so there should be
    /// few of them.
    held: String,
    arguments: SqliteArguments,
    failed: Option<BoxDynError>,
}

impl<'c> StatementBatch<'c> {
    pub(super) fn on(connection: &'c mut SqliteConnection) -> Self {
        Self { connection, held: String::new(), arguments: SqliteArguments::default(), failed: None }
    }

    /// Adds a statement that is run with the next one whose result matters. Its values are bound right after.
    pub(super) fn add(&mut self, sql: &str) -> &mut Self {
        self.held.push_str(sql);
        self.held.push(';');
        self
    }

    /// Binds the next value of the statement added last.
    pub(super) fn bind<'t>(&mut self, value: impl Encode<'t, Sqlite> + Type<Sqlite>) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.failed.get_or_insert(error);
        }
        self
    }

    /// Whether nothing is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Runs what was added.
    pub(super) async fn run(&mut self) -> sqlx::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.take()?.execute(&mut *self.connection).await.map(drop)
    }

    /// Runs what was added; the rows are those of all of it.
    pub(super) async fn rows(&mut self) -> sqlx::Result<Vec<SqliteRow>> {
        self.take()?.fetch_all(&mut *self.connection).await
    }

    /// Runs what was added, and lends the connection for statements that are asked one by one.
    pub(super) async fn connection(&mut self) -> sqlx::Result<&mut SqliteConnection> {
        self.run().await?;
        Ok(self.connection)
    }

    fn take(&mut self) -> sqlx::Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>> {
        if let Some(error) = self.failed.take() {
            return Err(sqlx::Error::Encode(error));
        }
        let (sql, arguments) = (std::mem::take(&mut self.held), std::mem::take(&mut self.arguments));
        // Nothing but this room's own texts was added.
        Ok(sqlx::query_with(AssertSqlSafe(sql), arguments))
    }
}

/// So many rows of so many values. Their number is a power of two, so that a handful of prepared statements serves every
/// number of events; the rows too many are filled with NULL.
pub(super) fn values(columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    vec![row; rows].join(",")
}

pub(super) fn fill(statements: &mut StatementBatch<'_>, values: usize) {
    for null in iter::repeat_n(None::<i64>, values) {
        statements.bind(null);
    }
}
