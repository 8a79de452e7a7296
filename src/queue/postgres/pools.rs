//! The server, and the connections to it: one for each task that writes, and a small pool for each group of readers.
//!
//! Every call has a timeout, because the server may be gone: a connection whose other end vanished never responds, not
//! even with an error. A connection that did not respond in time is closed at once, without a clean shutdown: its
//! transaction may still be in progress, and nothing more may be sent on it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow, PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use super::error::{PgFailure, failure};
use crate::config::{DatabaseConfig, PostgresUrl};
use crate::queue::QueueError;

/// A connection that was idle for this long is tested before it is used.
const IDLE: Duration = Duration::from_secs(1);

/// How long that test may take.
const PING: Duration = Duration::from_millis(200);

/// How long a reader waits for a connection that others use.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a read may take.
const READ: Duration = Duration::from_secs(5);

/// How long the connections in the pools for people and for deliveries are kept.
const LIFETIME: Duration = Duration::from_mins(30);

/// How statements are planned on a connection that no pooler shares. A plan is kept for the lifetime of the connection,
/// and one that was made while a table was small, or before it was analysed, would scan the whole table once it is
/// large. Every statement has an index for what it looks up. With these settings, scans that cannot be avoided seem so
/// expensive that PostgreSQL would compile them first, so JIT is off as well.
const PLANS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; ";

/// A PostgreSQL server and the database on it; clones are the same one.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: PostgresUrl,
    options: PgConnectOptions,
    direct: PgConnectOptions,
    /// Whether a pooler may be in between, which assigns a connection of the server for one transaction only.
    is_pooled: bool,
    timeout: Duration,
    /// Connections that were opened before this moment are not used any more.
    distrusted: Mutex<Option<Instant>>,
}

/// Refuses a standby, and a server whose version, as in `server_version_num`, is too old.
fn check(version: i32, is_standby: bool, database: String) -> Result<(), QueueError> {
    if is_standby {
        return Err(QueueError::ReadOnly { database });
    }
    if version < 130_000 {
        let reason = "the server is older than PostgreSQL 13";
        return Err(QueueError::CannotOpen { database, reason, advice: "upgrade it" });
    }
    Ok(())
}

impl Server {
    pub(super) fn new(config: &DatabaseConfig, url: &PostgresUrl) -> Result<Self, QueueError> {
        let is_pooled = config.direct_url.is_some();
        let mut options = options(url)?;
        let direct = config.direct_url.as_ref().map_or_else(|| Ok(options.clone()), self::options)?;
        if is_pooled {
            options = options.statement_cache_capacity(0);
        }
        let (url, timeout) = (url.clone(), config.timeout);
        Ok(Self(Arc::new(Inner { url, options, direct, is_pooled, timeout, distrusted: Mutex::new(None) })))
    }

    /// The address of the database, without the user and the password.
    pub(super) fn name(&self) -> String {
        self.0.url.to_string()
    }

    /// How long a transaction may take.
    pub(super) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// Opens a connection that belongs to no pool, through the pooler if there is one.
    pub(super) async fn connect(&self) -> Result<PgConnection, QueueError> {
        self.connect_by(&self.0.options).await
    }

    /// Opens a connection with a session of its own.
    pub(in crate::queue) async fn connect_directly(&self) -> Result<PgConnection, QueueError> {
        self.connect_by(&self.0.direct).await
    }

    /// The options of a connection with a session of its own.
    pub(super) fn direct_options(&self) -> PgConnectOptions {
        self.0.direct.clone()
    }

    async fn connect_by(&self, options: &PgConnectOptions) -> Result<PgConnection, QueueError> {
        let connected = async {
            let mut connection = options.connect().await.map_err(|error| self.error(error))?;
            self.greet(&mut connection).await?;
            Ok(connection)
        };
        timeout(self.timeout(), connected).await.unwrap_or_else(|_| Err(self.timed_out()))
    }

    /// Refuses a standby, which takes no writes and may lag behind, and a server that is too old.
    async fn greet(&self, connection: &mut PgConnection) -> Result<(), QueueError> {
        // Others use the connections of a pooler as well, so nothing is set on them.
        let plans = if self.0.is_pooled { "" } else { PLANS };
        let greeting =
            "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS is_standby";
        let row = sqlx::raw_sql(AssertSqlSafe([plans, greeting].concat())).fetch_one(connection).await;
        let (version, is_standby) =
            row.and_then(|row| <(i32, bool)>::from_row(&row)).map_err(|error| self.error(error))?;
        check(version, is_standby, self.name())
    }

    /// Begins a transaction with these statements.
    ///
    /// A pooler may assign any of its connections to it. Prepared statements that others left there would conflict with
    /// those that this transaction prepares for itself alone, so they are deallocated.
    pub(super) async fn begin(&self, connection: &mut PgConnection, begin: &str) -> sqlx::Result<()> {
        let prepare = if self.0.is_pooled { "; DEALLOCATE ALL" } else { "" };
        sqlx::raw_sql(AssertSqlSafe([begin, prepare].concat())).execute(connection).await.map(drop)
    }

    /// Reads on one connection of the server, even if a pooler may assign another one for each statement.
    async fn read<T>(
        &self,
        connection: &mut PgConnection,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        if !self.0.is_pooled {
            return work(connection).await;
        }
        self.begin(connection, "BEGIN").await?;
        let done = work(connection).await?;
        sqlx::raw_sql("COMMIT").execute(connection).await?;
        Ok(done)
    }

    /// Prevents all connections that are open now from being used again: the server behind them is gone, or is no
    /// longer the primary.
    pub(super) fn distrust(&self) {
        *self.0.distrusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_trusted(&self, since: Option<Instant>) -> bool {
        let distrusted = *self.0.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
        distrusted.is_none_or(|moment| since.is_some_and(|since| since > moment))
    }

    /// Whether a connection that was opened at `opened` and last used at `used` can be used.
    pub(super) async fn is_usable(&self, connection: &mut PgConnection, opened: Instant, used: Instant) -> bool {
        self.is_trusted(Some(opened)) && (used.elapsed() < IDLE || answers(connection).await)
    }

    /// Creates a pool of at most this many connections, which are opened when they are needed.
    pub(super) fn pool(&self, connections: u32) -> ReadPool {
        let (greeted, server) = (self.clone(), self.clone());
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECTION_TIMEOUT)
            .max_lifetime(LIFETIME)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let server = greeted.clone();
                Box::pin(async move { server.greet(connection).await.map_err(sqlx::Error::config) })
            })
            .before_acquire(move |connection, about| {
                let server = server.clone();
                Box::pin(async move {
                    let opened = Instant::now().checked_sub(about.age);
                    Ok(server.is_trusted(opened) && (about.idle_for < IDLE || answers(connection).await))
                })
            })
            .connect_lazy_with(self.0.options.clone());
        ReadPool { server: self.clone(), pool, connections }
    }
}

async fn answers(connection: &mut PgConnection) -> bool {
    matches!(timeout(PING, connection.ping()).await, Ok(Ok(())))
}

fn options(url: &PostgresUrl) -> Result<PgConnectOptions, QueueError> {
    let options = PgConnectOptions::from_url(url.expose()).map_err(|_| QueueError::CannotOpen {
        database: url.to_string(),
        reason: "its address is invalid, or names a file that cannot be read",
        advice: "check the files that sslrootcert, sslcert and sslkey name in BRIDGE_DATABASE_URL",
    })?;
    // A pooler refuses start-up parameters that it does not know.
    let options = options.application_name("sentry-pagerduty-bridge").extra_float_digits(None);
    Ok(options.disable_statement_logging())
}

/// Connections that several readers share; clones share them, too.
#[derive(Clone, Debug)]
pub(in crate::queue) struct ReadPool {
    server: Server,
    pool: PgPool,
    /// How many connections there are at most.
    connections: u32,
}

/// A connection of a pool, which is returned only if nothing is left unread on it.
struct BorrowedConnection {
    connection: Option<PoolConnection<Postgres>>,
    is_clean: bool,
}

impl Drop for BorrowedConnection {
    fn drop(&mut self) {
        if !self.is_clean {
            // Closed without a clean shutdown: the other end may be gone, and a response may be on its way.
            drop(self.connection.take().map(PoolConnection::detach));
        }
    }
}

impl ReadPool {
    pub(in crate::queue) fn server(&self) -> &Server {
        &self.server
    }

    /// Runs `work` on one of the connections, within the time that a read may take.
    pub(in crate::queue) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        self.within(READ, work).await
    }

    /// Does the same as [`with`](Self::with), within another time.
    pub(in crate::queue) async fn within<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        let connection = self.pool.acquire().await.map_err(|error| self.acquire_error(error))?;
        let mut borrowed = BorrowedConnection { connection: Some(connection), is_clean: false };
        let Some(connection) = borrowed.connection.as_mut() else { return Err(QueueError::Closed) };
        match bounded(limit, self.server.read(connection, work)).await {
            Some(Ok(done)) => {
                borrowed.is_clean = true;
                Ok(done)
            }
            Some(Err(error)) => {
                match failure(&error) {
                    PgFailure::Connection => self.server.distrust(),
                    // A transaction that failed is still open.
                    PgFailure::Conflict | PgFailure::Statement => borrowed.is_clean = !self.server.0.is_pooled,
                }
                Err(self.server.error(error))
            }
            None => {
                self.server.distrust();
                Err(QueueError::Stuck { database: self.server.name(), seconds: limit.as_secs() })
            }
        }
    }

    pub(in crate::queue) async fn close(&self) {
        // It waits for connections that are in use, whose server may not respond.
        let _ = timeout(CONNECTION_TIMEOUT, self.pool.close()).await;
    }

    /// Translates the error of a connection that could not be had. A refusal by `greet` is returned as it is.
    fn acquire_error(&self, error: sqlx::Error) -> QueueError {
        match error {
            sqlx::Error::Configuration(refused) => match refused.downcast::<QueueError>() {
                Ok(refused) => *refused,
                Err(other) => self.server.error(sqlx::Error::Configuration(other)),
            },
            // The pool has room for more connections, so they are not in use by others: none could be opened.
            sqlx::Error::PoolTimedOut if self.pool.size() < self.connections => QueueError::Unreachable {
                database: self.server.name(),
                reason: format!("no connection within {} s", CONNECTION_TIMEOUT.as_secs()),
            },
            error => self.server.error(error),
        }
    }
}

/// Returns the result of `work`, or `None` if it takes longer than `limit`.
pub(super) async fn bounded<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(limit, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_and_a_server_before_version_13_are_refused() {
        let said = |version, is_standby| {
            check(version, is_standby, "db/bridge".to_owned()).err().map(|error| error.to_string()).unwrap_or_default()
        };
        for version in [130_000, 150_020, 180_001] {
            assert_eq!(said(version, false), "");
        }
        for version in [90_624, 120_022] {
            let expected = "cannot open the database db/bridge: the server is older than PostgreSQL 13; upgrade it";
            assert_eq!(said(version, false), expected);
        }
        assert!(said(150_020, true).contains("has to name the primary server"));
    }
}
