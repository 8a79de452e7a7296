//! The writing side: a connection that recovers from errors, and commits whose response was lost.
//!
//! A transaction has one timeout, from its beginning to the response to its COMMIT, which the bridge itself enforces.
//! It is never cancelled: if a COMMIT that waits for a synchronous standby is cancelled, PostgreSQL reports success,
//! although nothing was replicated.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use log::{info, warn};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::timeout;

use super::error::{PgFailure, failure};
use super::load::load;
use super::pools::bounded;
use super::{PostgresReads, Server, schema, standalone, write};
use crate::config::{DatabaseConfig, PostgresUrl};
use crate::metrics::PersistedMetrics;
use crate::queue::external::SentryNotes;
use crate::queue::store::{Committed, Dependencies, Known, Plan, Prune, Store};
use crate::queue::{CanaryChange, IssueUpdateChange, OutageNotice, Proof, QueueError};

/// How many bytes a probe writes; few alerts are larger.
const PROBE_BYTES: usize = 64 * 1024;

/// How many bytes of bodies are written per millisecond at least. The timeout of a large transaction is extended
/// accordingly.
const BYTES_PER_MILLISECOND: u64 = 8 * 1024;

/// The timeout of maintenance, which may take longer than what an alert waits for.
const MAINTENANCE: Duration = Duration::from_secs(5);

/// Returns the statements that begin a transaction. Whatever the settings of the server, the database or the role: its
/// commit waits for the disk, and for a synchronous standby if there is one; it does not wait long for locks; and the
/// server ends it if this bridge stops in the middle of it, because it holds locks.
fn begin(limit: Duration) -> String {
    let (milliseconds, at_most) = (limit.as_millis(), (limit + MAINTENANCE).as_millis());
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT set_config('synchronous_commit',
            CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true),
            set_config('lock_timeout', '{milliseconds}', true), set_config('statement_timeout', '{at_most}', true),
            set_config('idle_in_transaction_session_timeout', '{milliseconds}', true)"
    )
}

/// Commits to PostgreSQL.
#[derive(Debug)]
pub(in crate::queue) struct PostgresEngine {
    pub(super) server: Server,
    connection: Option<Live>,
    /// The transaction whose first half is done. Its connection is not in `connection` meanwhile.
    transaction: Option<Transaction>,
    reads: PostgresReads,
    /// Whether every commit is a change that running bridges have to notice.
    announces: bool,
}

/// An open connection.
#[derive(Debug)]
struct Live {
    connection: PgConnection,
    opened: Instant,
    used: Instant,
}

/// A transaction between `load` and `apply`.
#[derive(Debug)]
struct Transaction {
    live: Live,
    /// When it has to be finished.
    deadline: Instant,
}

/// A random number that a transaction stores in the database, in hexadecimal digits.
fn new_mark() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// How many bytes of bodies a plan writes.
fn size(plan: &Plan<'_>) -> u64 {
    let rows = plan.rows.iter().map(|row| row.envelope.body.len());
    let rejected = plan.rejected.iter().map(|rejected| rejected.body.len());
    rows.chain(rejected).chain(plan.held.iter().map(|held| held.body.len())).sum::<usize>() as u64
}

impl PostgresEngine {
    /// Opens the database and brings its tables up to date.
    pub(in crate::queue) async fn open(config: &DatabaseConfig, url: &PostgresUrl) -> Result<Self, QueueError> {
        let engine = Self::beside(config, url)?;
        schema::migrate(&engine.server).await?;
        Ok(engine)
    }

    /// Opens the database for changes from outside, with or without running bridges, which notice each of them.
    pub(in crate::queue) async fn open_beside(config: &DatabaseConfig, url: &PostgresUrl) -> Result<Self, QueueError> {
        let engine = Self { announces: true, ..Self::beside(config, url)? };
        schema::check(&mut engine.server.connect().await?, &engine.server).await?;
        Ok(engine)
    }

    /// Opens the database, with its tables as they are.
    pub(super) fn beside(config: &DatabaseConfig, url: &PostgresUrl) -> Result<Self, QueueError> {
        let server = Server::new(config, url)?;
        let reads = PostgresReads::beside(&server, config);
        Ok(Self { server, connection: None, transaction: None, reads, announces: false })
    }

    /// Returns another engine with a connection of its own.
    pub(in crate::queue) fn another(&self) -> Self {
        let (server, reads) = (self.server.clone(), self.reads.clone());
        Self { server, connection: None, transaction: None, reads, announces: self.announces }
    }

    pub(in crate::queue) fn reads(&self) -> PostgresReads {
        self.reads.clone()
    }

    /// Returns a connection that responds: the kept one, or a new one.
    async fn take_connection(&mut self) -> Result<Live, QueueError> {
        if let Some(mut live) = self.connection.take()
            && self.server.is_usable(&mut live.connection, live.opened, live.used).await
        {
            return Ok(live);
        }
        let connection = self.server.connect().await?;
        Ok(Live { connection, opened: Instant::now(), used: Instant::now() })
    }

    /// Keeps a connection for reuse, on which no response is left to read.
    fn keep(&mut self, mut live: Live) {
        live.used = Instant::now();
        self.connection = Some(live);
    }

    /// Runs `step` inside the transaction before its deadline. If it fails, the connection is closed, which ends the
    /// transaction: nothing of it is committed, unless the step was itself a COMMIT whose response was lost.
    async fn step<T>(
        &mut self,
        mut transaction: Transaction,
        step: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<(Transaction, T), QueueError> {
        let left = transaction.deadline.saturating_duration_since(Instant::now());
        match bounded(left, step(&mut transaction.live.connection)).await {
            Some(Ok(done)) => Ok((transaction, done)),
            Some(Err(error)) => Err(self.interrupted(error)),
            None => {
                self.server.distrust();
                Err(self.server.timed_out())
            }
        }
    }

    /// Returns the error of a failed step. If the connection was lost before the COMMIT, the transaction only has to be
    /// retried.
    fn interrupted(&self, error: sqlx::Error) -> QueueError {
        if failure(&error) != PgFailure::Connection {
            return self.server.error(error);
        }
        self.server.distrust();
        match self.server.error(error) {
            QueueError::Unreachable { database, reason } | QueueError::NotWritable { database, reason, .. } => {
                QueueError::Interrupted { database, reason }
            }
            other => other,
        }
    }

    async fn begin(&mut self, limit: Duration) -> Result<Transaction, QueueError> {
        let deadline = Instant::now() + limit;
        let live = self.take_connection().await?;
        let transaction = Transaction { live, deadline };
        let (begin, server) = (begin(limit), self.server.clone());
        let (transaction, ()) =
            self.step(transaction, async |connection| server.begin(connection, &begin).await).await?;
        Ok(transaction)
    }

    /// Inserts the mark and commits. If the connection is lost before the response, the mark tells whether the
    /// transaction was committed.
    async fn commit(&mut self, mut transaction: Transaction, mark: &str) -> Result<(), QueueError> {
        let left = transaction.deadline.saturating_duration_since(Instant::now());
        let commit = format!("INSERT INTO commits (id) VALUES (decode('{mark}', 'hex')); COMMIT");
        let commit = sqlx::raw_sql(AssertSqlSafe(commit)).execute(&mut transaction.live.connection);
        match timeout(left, commit).await {
            Ok(Ok(_)) => {
                self.keep(transaction.live);
                Ok(())
            }
            Ok(Err(error)) if failure(&error) == PgFailure::Connection => {
                self.server.distrust();
                drop(transaction);
                self.settle_doubt(mark, &error).await
            }
            Ok(Err(error)) => Err(self.server.error(error)),
            Err(_) => {
                self.server.distrust();
                Err(self.server.timed_out())
            }
        }
    }

    /// Finds out whether a transaction whose COMMIT got no response was committed, by inserting its mark: that is only
    /// possible if the transaction is not committed, and then it never will be. While the transaction is still in
    /// progress, the insert waits for it.
    ///
    /// It does so in a transaction that writes and waits for a synchronous standby: once that COMMIT is confirmed,
    /// everything that was committed before it is replicated as well.
    async fn settle_doubt(&mut self, mark: &str, cause: &sqlx::Error) -> Result<(), QueueError> {
        let transaction = self.begin(self.server.timeout()).await?;
        let other = new_mark();
        let (mut transaction, is_left) = self
            .step(transaction, async |connection| {
                let query =
                    sqlx::query("INSERT INTO commits (id) VALUES (decode($1, 'hex')) ON CONFLICT (id) DO NOTHING");
                let left = query.bind(mark).execute(&mut *connection).await?.rows_affected();
                sqlx::query("INSERT INTO commits (id) VALUES (decode($1, 'hex'))")
                    .bind(&other)
                    .execute(connection)
                    .await?;
                Ok(left == 1)
            })
            .await?;
        let left = transaction.deadline.saturating_duration_since(Instant::now());
        let committed = bounded(left, sqlx::raw_sql("COMMIT").execute(&mut transaction.live.connection)).await;
        committed.ok_or_else(|| self.server.timed_out())?.map_err(|error| self.server.error(error))?;
        self.keep(transaction.live);
        if is_left {
            return Err(QueueError::Interrupted { database: self.server.name(), reason: cause.to_string() });
        }
        info!("the response to a commit was lost ({cause}), but the transaction was committed");
        Ok(())
    }

    /// Commits what `change` writes, in a transaction of its own.
    pub(super) async fn transact<T>(
        &mut self,
        limit: Duration,
        change: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        let transaction = self.begin(limit).await?;
        let (transaction, changed) = self.step(transaction, change).await?;
        let (transaction, ()) = self
            .step(transaction, async |connection| sqlx::raw_sql("COMMIT").execute(connection).await.map(drop))
            .await?;
        self.keep(transaction.live);
        Ok(changed)
    }
}

impl Store for PostgresEngine {
    const IS_SHARED_BY_BRIDGES: bool = true;
    const BLOCKS: bool = false;

    async fn load(&mut self, dependencies: &Dependencies) -> Result<Known, QueueError> {
        // An unfinished transaction is ended by closing its connection.
        drop(self.transaction.take());
        let transaction = self.begin(self.server.timeout()).await?;
        let (transaction, known) =
            self.step(transaction, async |connection| load(connection, dependencies).await).await?;
        self.transaction = Some(transaction);
        Ok(known)
    }

    async fn apply(&mut self, plan: &Plan<'_>) -> Result<Committed, QueueError> {
        let mut transaction = self.transaction.take().ok_or(QueueError::Closed)?;
        transaction.deadline += Duration::from_millis(size(plan) / BYTES_PER_MILLISECOND);
        let announces = self.announces;
        let (transaction, committed) = self
            .step(transaction, async |connection| {
                if plan.is_probe {
                    let (mark, ballast) = (rand::random::<[u8; 16]>(), vec![0_u8; PROBE_BYTES]);
                    let query = sqlx::query("INSERT INTO commits (id, ballast) VALUES ($1, $2)");
                    query.bind(mark.as_slice()).bind(ballast).execute(&mut *connection).await?;
                }
                let committed = write::apply(connection, plan).await?;
                if announces {
                    sqlx::query("UPDATE changes SET generation = generation + 1").execute(connection).await?;
                }
                Ok(committed)
            })
            .await?;
        self.commit(transaction, &new_mark()).await?;
        Ok(committed)
    }

    /// Chosen so that a webhook is answered within a second by default.
    fn retry_within(&self) -> Duration {
        self.server.timeout() * 2 / 5
    }

    /// Always fails: it is meant for attempts that cannot be recorded, and other bridges would not know of those.
    async fn peek(&mut self, _wanted: &Dependencies) -> Result<Known, QueueError> {
        Err(QueueError::ReadOnly { database: self.server.name() })
    }

    async fn prune(&mut self, prune: Prune) -> Result<u64, QueueError> {
        self.transact(MAINTENANCE, async |connection| standalone::prune(connection, prune).await).await
    }

    async fn persist_metrics(&mut self, metrics: &PersistedMetrics) -> Result<(), QueueError> {
        let transaction = self.begin(MAINTENANCE).await?;
        let keep = async |connection: &mut PgConnection| standalone::write_metrics(connection, metrics).await;
        let (transaction, ()) = self.step(transaction, keep).await?;
        // Committed with a mark, because the counts must not be added twice.
        self.commit(transaction, &new_mark()).await
    }

    async fn write_sentry_notes(&mut self, notes: &SentryNotes) -> Result<(), QueueError> {
        self.transact(MAINTENANCE, async |connection| standalone::write_sentry_notes(connection, notes).await).await
    }

    async fn write_issue_update(&mut self, change: &IssueUpdateChange) -> Result<bool, QueueError> {
        self.transact(self.server.timeout(), async |connection| {
            standalone::write_issue_update(connection, change).await
        })
        .await
    }

    async fn write_canary(&mut self, change: &CanaryChange) -> Result<Option<DateTime<Utc>>, QueueError> {
        self.transact(self.server.timeout(), async |connection| standalone::write_canary(connection, change).await)
            .await
    }

    async fn write_outage_notice(&mut self, notice: OutageNotice) -> Result<(), QueueError> {
        self.transact(MAINTENANCE, async |connection| standalone::write_outage_notice(connection, notice).await).await
    }

    async fn write_proof(&mut self, proof: &Proof) -> Result<(), QueueError> {
        self.transact(MAINTENANCE, async |connection| standalone::write_proof(connection, proof).await).await
    }

    /// Does nothing: PostgreSQL reuses the space of deleted rows by itself.
    async fn shrink(&mut self, _pages: u32) -> Result<u64, QueueError> {
        Ok(0)
    }

    async fn check(&mut self) -> Result<(), QueueError> {
        let transaction = self.begin(self.server.timeout()).await?;
        let (transaction, ()) = self
            .step(transaction, async |connection| sqlx::raw_sql("ROLLBACK").execute(connection).await.map(drop))
            .await?;
        self.keep(transaction.live);
        Ok(())
    }

    async fn close(mut self) -> Result<(), QueueError> {
        drop(self.transaction.take());
        if let Some(live) = self.connection.take()
            && let Some(Err(error)) = bounded(MAINTENANCE, sqlx::Connection::close(live.connection)).await
        {
            warn!("a connection to the database {} could not be closed: {error}", self.server.name());
        }
        Ok(())
    }
}
