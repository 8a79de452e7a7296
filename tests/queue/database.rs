//! A database for one test: of PostgreSQL if the test binary is `postgres`, else an SQLite file. In this way the same tests
//! run on both engines: `tests/postgres/` includes the files that are not about SQLite itself.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use chrono::DateTime;
use futures_util::future::join;
use sentry_pagerduty_bridge::config::{DatabaseConfig, DatabaseUrl};
use sentry_pagerduty_bridge::queue::{Disposition, EventId, Queue, SettleRequest};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use temporary_postgres::PostgresCluster;
use tokio::sync::mpsc;

/// Whether this test binary uses PostgreSQL.
pub(crate) const IS_POSTGRES: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"postgres");

/// A database that only one test uses.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    url: DatabaseUrl,
    /// The folder of the SQLite file.
    directory: Option<TempDir>,
}

impl From<&TestDatabase> for DatabaseConfig {
    fn from(database: &TestDatabase) -> Self {
        // On a machine that is busy with other tests, PostgreSQL may be slow.
        Self { timeout: Duration::from_secs(30), ..database.url.clone().into() }
    }
}

/// A connection to either engine.
enum Open {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl TestDatabase {
    /// Creates an empty database.
    pub(crate) fn new() -> Self {
        if IS_POSTGRES {
            let url = PostgresCluster::shared().database().unwrap();
            return Self { url: DatabaseUrl::parse(&url).unwrap(), directory: None };
        }
        let directory = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(directory.path().join("bridge.db"));
        Self { url, directory: Some(directory) }
    }

    /// The value of `BRIDGE_DATABASE_URL` for this database.
    pub(crate) fn setting(&self) -> String {
        match &self.url {
            DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
            DatabaseUrl::Postgres(url) => url.expose().to_string(),
        }
    }

    /// The SQLite file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder().join("bridge.db")
    }

    /// The folder of the SQLite file.
    pub(crate) fn folder(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    async fn connect(&self) -> Open {
        match &self.url {
            DatabaseUrl::Sqlite(path) => {
                Open::Sqlite(SqliteConnectOptions::new().filename(path).connect().await.unwrap())
            }
            DatabaseUrl::Postgres(url) => {
                Open::Postgres(PgConnectOptions::from_url(url.expose()).unwrap().connect().await.unwrap())
            }
        }
    }

    /// Executes a statement on the database.
    pub(crate) async fn execute_sql(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.connect().await {
            // Closed, so that all of it is in the file.
            Open::Sqlite(mut connection) => {
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            Open::Postgres(mut connection) => {
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }

    /// The number that a query returns.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(sql.to_owned());
        match self.connect().await {
            Open::Sqlite(mut connection) => sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap(),
            Open::Postgres(mut connection) => sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap(),
        }
    }

    /// The rows of a query that returns two texts and a number.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<(String, String, Option<i64>)> {
        let query = sqlx::AssertSqlSafe(sql.to_owned());
        match self.connect().await {
            Open::Sqlite(mut connection) => sqlx::query_as(query).fetch_all(&mut connection).await.unwrap(),
            Open::Postgres(mut connection) => sqlx::query_as(query).fetch_all(&mut connection).await.unwrap(),
        }
    }

    /// Makes every insert of a body fail with this reason, until [`allow`](Self::allow).
    pub(crate) async fn refuse_bodies(&self, reason: &str) {
        let sql = if IS_POSTGRES {
            format!(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{reason}'; END $$;
                 CREATE TRIGGER refuse BEFORE INSERT ON bodies FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
            )
        } else {
            format!("CREATE TRIGGER refuse BEFORE INSERT ON bodies BEGIN SELECT RAISE(ABORT, '{reason}'); END")
        };
        self.execute_sql(&sql).await;
    }

    /// Makes inserts succeed again.
    pub(crate) async fn allow(&self) {
        self.execute_sql(if IS_POSTGRES { "DROP FUNCTION refuse() CASCADE" } else { "DROP TRIGGER refuse" }).await;
    }
}

/// Sends all requests of `operations` before any of them is committed, and returns the answers and the number of commits.
/// It may be called once for a queue that has no other observer.
///
/// SQLite's writer has its own thread and would begin with the first request: an empty commit keeps it busy until all are
/// sent.
pub(crate) async fn send_together<T>(queue: &Queue, operations: impl Future<Output = T>) -> (T, u64) {
    let before = queue.commits();
    if IS_POSTGRES {
        let answers = operations.await;
        return (answers, queue.commits() - before);
    }
    let ((began, mut begins), (hold, end)) = (mpsc::unbounded_channel(), std::sync::mpsc::channel::<()>());
    let end = Mutex::new(end);
    queue.observe(move |_| {
        let _ = began.send(());
        let _ = end.lock().unwrap().recv();
    });
    let nothing = queue.settle(SettleRequest::new(
        EventId::new(i64::MAX),
        Disposition::Delivered { note: None },
        DateTime::UNIX_EPOCH,
    ));
    let together = async {
        begins.recv().await.unwrap();
        // The second future is polled after the first has sent everything.
        join(operations, async { drop(hold) }).await.0
    };
    let (refused, answers) = join(nothing, together).await;
    refused.unwrap_err();
    (answers, queue.commits() - before - 1)
}
