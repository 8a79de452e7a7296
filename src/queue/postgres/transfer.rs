//! All rows of a database, for a move to another one.

use async_trait::async_trait;
use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres, Row as _};

use super::rows::{restored, stored};
use super::{Server, schema};
use crate::config::{DatabaseConfig, PostgresUrl};
use crate::queue::QueueError;
use crate::queue::transfer::{Cell, Kind, NUMBERED, Numbers, Table, Transfer};

type Query = sqlx::query::Query<'static, Postgres, PgArguments>;

/// The database, on which no bridge runs meanwhile. Everything is done in one transaction.
#[derive(Debug)]
pub(in crate::queue) struct PostgresTransfer {
    server: Server,
    connection: PgConnection,
}

/// The sequences that assign the numbers of each table of [`NUMBERED`].
const SEQUENCES: [&str; 4] = ["event_ids", "rejected_id_seq", "seen_webhooks_id_seq", "held_id_seq"];

/// Whether any bridge is running: each one updates its row every few seconds, and deletes it when it has given up its
/// leases.
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

    async fn execute(&mut self, query: Query) -> Result<(), QueueError> {
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

fn bind(query: Query, kind: Kind, cell: &Cell) -> Query {
    match (kind, cell) {
        (Kind::Flag, Cell::Integer(number)) => query.bind(*number != 0),
        (_, Cell::Integer(number)) => query.bind(*number),
        (_, Cell::Text(text)) => query.bind(stored(text).into_owned()),
        (_, Cell::Bytes(bytes)) => query.bind(bytes.clone()),
        (Kind::Integer, Cell::Null) => query.bind(None::<i64>),
        (Kind::Flag, Cell::Null) => query.bind(None::<bool>),
        (Kind::Text, Cell::Null) => query.bind(None::<String>),
        (Kind::Bytes, Cell::Null) => query.bind(None::<Vec<u8>>),
    }
}

fn places(from: usize, number: usize) -> String {
    (from..from + number).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl Transfer for PostgresTransfer {
    async fn read(
        &mut self,
        table: &Table,
        after: Option<&[Cell]>,
        limit: usize,
    ) -> Result<Vec<Vec<Cell>>, QueueError> {
        let columns: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
        let (columns, key) = (columns.join(", "), columns[..table.key].join(", "));
        let order = if table.key == 0 { &columns } else { &key };
        let condition = after.map_or_else(String::new, |_| format!("WHERE ({key}) > ({})", places(1, table.key)));
        let limit = if table.key == 0 { "ALL".to_owned() } else { limit.to_string() };
        let sql = format!("SELECT {columns} FROM {} {condition} ORDER BY {order} LIMIT {limit}", table.name);
        let keys = after.unwrap_or_default().iter().zip(table.columns);
        let query = keys.fold(sqlx::query(AssertSqlSafe(sql)), |query, (cell, (_, kind))| bind(query, *kind, cell));
        let read = async {
            let rows = query.fetch_all(&mut self.connection).await?;
            let row = |row: &sqlx::postgres::PgRow| {
                let cells = table.columns.iter().enumerate().map(|(place, (_, kind))| {
                    Ok(match kind {
                        Kind::Integer => row.try_get::<Option<i64>, _>(place)?.map(Cell::Integer),
                        Kind::Flag => row.try_get::<Option<bool>, _>(place)?.map(|flag| Cell::Integer(flag.into())),
                        Kind::Text => {
                            row.try_get::<Option<&str>, _>(place)?.map(|text| Cell::Text(restored(text).into_owned()))
                        }
                        Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(place)?.map(Cell::Bytes),
                    }
                    .unwrap_or(Cell::Null))
                });
                cells.collect::<sqlx::Result<Vec<_>>>()
            };
            rows.iter().map(row).collect::<sqlx::Result<Vec<_>>>()
        };
        read.await.map_err(|error| self.server.error(error))
    }

    async fn numbers(&mut self) -> Result<Numbers, QueueError> {
        let mut numbers = Numbers::default();
        for (number, sequence) in numbers.iter_mut().zip(SEQUENCES) {
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
            format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns.join(", "), places(1, number))
        };
        for row in rows {
            let cells = row.iter().zip(table.columns);
            let query = sqlx::query(AssertSqlSafe(sql.clone()));
            self.execute(cells.fold(query, |query, (cell, (_, kind))| bind(query, *kind, cell))).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, numbers: Numbers) -> Result<(), QueueError> {
        for ((number, sequence), _) in numbers.into_iter().zip(SEQUENCES).zip(NUMBERED) {
            // A sequence that has not assigned any number begins with 1.
            let query = sqlx::query("SELECT setval($1::regclass, GREATEST($2, 1), $2 > 0)").bind(sequence).bind(number);
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
