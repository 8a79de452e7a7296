//! All rows of a database, for a move to another one.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::rows::{PgQuery, stored};
use super::{Server, schema};
use crate::config::{DatabaseConfig, PostgresUrl};
use crate::queue::QueueError;
use crate::queue::tables::{Cell, ColumnKind, LastNumbers, Table};
use crate::queue::transfer::Transfer;

/// The database, on which no bridge runs meanwhile. Everything is done in one transaction.
#[derive(Debug)]
pub(in crate::queue) struct PostgresTransfer {
    server: Server,
    connection: PgConnection,
}

/// The sequences that assign the numbers, in the order of [`LastNumbers::by_table`].
const SEQUENCES: [&str; 4] = ["event_ids", "rejected_id_seq", "seen_webhooks_id_seq", "held_id_seq"];

/// Whether any bridge is running: each one updates its row every second, and deletes it when it has stopped and commits
/// nothing more.
const RUNNING: &str =
    "SELECT EXISTS (SELECT 1 FROM bridges WHERE last_seen > clock_timestamp() - interval '30 seconds')";

impl PostgresTransfer {
    /// Opens the database and brings its tables up to date.
    pub(in crate::queue) async fn open(config: &DatabaseConfig, url: &PostgresUrl) -> Result<Self, QueueError> {
        let server = Server::new(config, url)?;
        // The transaction is long, and a pooler may limit how long it lends a connection.
        let mut connection = server.connect_directly().await?;
        // Bridges of an older version could not use migrated tables.
        refuse_bridges(&mut connection, &server).await?;
        schema::migrate(&server).await?;
        // All reads see the database as of one moment.
        let begun = sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE").execute(&mut connection).await;
        begun.map_err(|error| server.error(error))?;
        refuse_bridges(&mut connection, &server).await?;
        Ok(Self { server, connection })
    }

    async fn execute(&mut self, query: PgQuery<'static>) -> Result<(), QueueError> {
        let done = query.execute(&mut self.connection).await;
        done.map(drop).map_err(|error| self.server.error(error))
    }
}

/// Returns an error if a bridge is running on the database, whose tables may not exist yet.
async fn refuse_bridges(connection: &mut PgConnection, server: &Server) -> Result<(), QueueError> {
    let is_in_use = async {
        let exists: bool =
            sqlx::query_scalar("SELECT to_regclass('bridges') IS NOT NULL").fetch_one(&mut *connection).await?;
        if exists { sqlx::query_scalar(RUNNING).fetch_one(connection).await } else { Ok(false) }
    };
    if is_in_use.await.map_err(|error| server.error(error))? {
        return Err(QueueError::InUse { database: server.name() });
    }
    Ok(())
}

fn bind<'q>(query: PgQuery<'q>, kind: ColumnKind, cell: &Cell) -> PgQuery<'q> {
    match (kind, cell) {
        (ColumnKind::Flag, Cell::Integer(number)) => query.bind(*number != 0),
        (_, Cell::Integer(number)) => query.bind(*number),
        (_, Cell::Text(text)) => query.bind(stored(text).into_owned()),
        (_, Cell::Bytes(bytes)) => query.bind(bytes.clone()),
        (ColumnKind::Integer, Cell::Null) => query.bind(None::<i64>),
        (ColumnKind::Flag, Cell::Null) => query.bind(None::<bool>),
        (ColumnKind::Text, Cell::Null) => query.bind(None::<String>),
        (ColumnKind::Bytes, Cell::Null) => query.bind(None::<Vec<u8>>),
    }
}

/// The first `number` parameters of a statement.
fn places(number: usize) -> String {
    (1..=number).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl Transfer for PostgresTransfer {
    async fn read(
        &mut self,
        table: &Table,
        after: Option<&[Cell]>,
        limit: usize,
    ) -> Result<Vec<Vec<Cell>>, QueueError> {
        let sql = table.select(after.map(|_| places(table.key)), limit);
        let keys = after.unwrap_or_default().iter().zip(table.columns);
        let query = keys.fold(sqlx::query(AssertSqlSafe(sql)), |query, (cell, (_, kind))| bind(query, *kind, cell));
        let rows = query.fetch_all(&mut self.connection).await;
        let cells = rows.and_then(|rows| rows.iter().map(|row| table.cells(row)).collect());
        cells.map_err(|error| self.server.error(error))
    }

    async fn numbers(&mut self) -> Result<LastNumbers, QueueError> {
        let mut numbers = LastNumbers::default();
        for ((_, number), sequence) in numbers.by_table().into_iter().zip(SEQUENCES) {
            let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
            let query = sqlx::query_scalar(AssertSqlSafe(sql));
            *number = query.fetch_one(&mut self.connection).await.map_err(|error| self.server.error(error))?;
        }
        Ok(numbers)
    }

    async fn write(&mut self, table: &Table, rows: &[Vec<Cell>]) -> Result<(), QueueError> {
        let columns: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
        let number = columns.len();
        // The single row of this table always exists.
        let sql = if table.name == "lately" {
            let set: Vec<_> =
                columns.iter().enumerate().map(|(place, name)| format!("{name} = ${}", place + 1)).collect();
            format!("UPDATE lately SET {}", set.join(", "))
        } else {
            format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns.join(", "), places(number))
        };
        for row in rows {
            let cells = row.iter().zip(table.columns);
            let query = sqlx::query(AssertSqlSafe(sql.clone()));
            self.execute(cells.fold(query, |query, (cell, (_, kind))| bind(query, *kind, cell))).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, mut numbers: LastNumbers) -> Result<(), QueueError> {
        for ((_, number), sequence) in numbers.by_table().into_iter().zip(SEQUENCES) {
            // A sequence that has not assigned any number begins with 1.
            let query =
                sqlx::query("SELECT setval($1::regclass, GREATEST($2, 1), $2 > 0)").bind(sequence).bind(*number);
            self.execute(query).await?;
        }
        self.execute(sqlx::query("SELECT set_config('synchronous_commit', 'on', true)")).await?;
        self.execute(sqlx::query("COMMIT")).await?;
        self.close().await
    }

    async fn close(self: Box<Self>) -> Result<(), QueueError> {
        self.connection.close().await.map_err(|error| self.server.error(error))
    }
}
