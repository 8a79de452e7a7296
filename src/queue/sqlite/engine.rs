//! The writing side of the file: the connection that survives errors, and what it does when somebody takes its files away.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use log::{error, info, warn};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use super::database::{CHECKPOINT, Database};
use super::files::{Change, Files, Found};
use super::load::{Loaded, load};
use super::recovery::Kept;
use super::statement_batch::StatementBatch;
use super::{SqliteReads, canary, issue_update, maintenance, recovery, schema, sentry, write};
use crate::metrics::PersistedMetrics;
use crate::queue::sentry::SentryNotes;
use crate::queue::store::{Committed, Known, Plan, Prune, Store, Wanted};
use crate::queue::{CanaryChange, EventId, IssueUpdateChange, OutageNotice, Proof, QueueError};

/// The first pause between two attempts to open files again; it doubles with each.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// The longest of these pauses.
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How many of the newest events are remembered by number, to say which of them a log that was cut has lost.
const RECENT: usize = 10_000;

/// Commits to one SQLite file, which no other bridge can open meanwhile.
#[derive(Debug)]
pub(in crate::queue) struct Engine {
    database: Database,
    connection: Option<SqliteConnection>,
    /// The transaction whose first half is done. Its connection is not in `connection` meanwhile.
    transaction: Option<Transaction>,
    /// Locked until it is dropped or the process dies. Dropped after the connection: see [`Files`].
    files: Files,
    reads: SqliteReads,
    broken: Option<Broken>,
    /// What was kept of files that were taken away, until others are open.
    kept: Kept,
    /// The events that were accepted since the log began.
    recent: VecDeque<EventId>,
    /// The newest number that was given to an event.
    last: Option<EventId>,
}

/// A transaction between `load` and `apply`.
#[derive(Debug)]
struct Transaction {
    connection: SqliteConnection,
    /// Where nothing had to be loaded, it begins together with what is written.
    has_begun: bool,
    /// The last number that was given to an event.
    last: i64,
}

/// Files that have to be opened again.
#[derive(Debug)]
struct Broken {
    change: Change,
    error: QueueError,
    not_before: Instant,
    pause: Duration,
}

impl Engine {
    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        let database = Database::new(path);
        database.create()?;
        let mut files = Files::open(&database)?;
        let mut connection = database.connect().await?;
        schema::migrate(&mut connection, &database).await?;
        schema::let_it_shrink(&mut connection, &database).await;
        files.adopt(false);
        let reads = SqliteReads::beside(&database);
        Ok(Self {
            database,
            connection: Some(connection),
            transaction: None,
            files,
            reads,
            broken: None,
            kept: Kept::Nothing,
            recent: VecDeque::new(),
            last: None,
        })
    }

    pub(in crate::queue) fn reads(&self) -> SqliteReads {
        self.reads.clone()
    }

    /// Commits what `change` writes, by itself.
    async fn transact<T>(
        &mut self,
        change: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        self.check_files().await?;
        let mut connection = self.take_connection().await?;
        let changed = async {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await?;
            let changed = change(&mut connection).await?;
            sqlx::query("COMMIT").execute(&mut connection).await?;
            Ok(changed)
        };
        match changed.await {
            Ok(changed) => {
                self.connection = Some(connection);
                self.confirm(&[])?;
                Ok(changed)
            }
            Err(error) => Err(self.drop_connection(connection, error).await),
        }
    }

    /// Compares the files that are open with those at their paths, and opens them again where they are not the same.
    ///
    /// # Errors
    ///
    /// While they are not the same, and cannot be opened again.
    async fn check_files(&mut self) -> Result<(), QueueError> {
        if self.broken.is_none() {
            let found = match self.files.check()? {
                Found::LogEmptied => self.test_log().await?,
                found => found,
            };
            if self.files.log_began() {
                self.recent.clear();
            }
            match found {
                Found::Changed(change) => drop(self.mark_broken(change)),
                Found::Same | Found::LogEmptied => return Ok(()),
            }
        }
        let Some(mut broken) = self.broken.take() else { return Ok(()) };
        match self.files.check() {
            // As when a folder was moved away and back.
            Ok(Found::Same) if self.connection.is_some() => return Ok(()),
            Ok(Found::Changed(change)) => broken.change = change,
            _ => {}
        }
        if Instant::now() < broken.not_before {
            let error = broken.error.clone();
            self.broken = Some(broken);
            return Err(error);
        }
        let reopened = self.reopen(broken.change).await;
        if let Err(error) = &reopened {
            warn!("the database could not be opened again: {error}");
            let pause = broken.pause;
            let not_before = Instant::now() + pause;
            let pause = (pause * 2).min(REOPEN_PAUSE_MAX);
            self.broken = Some(Broken { change: broken.change, error: error.clone(), not_before, pause });
        }
        reopened
    }

    /// Makes sure that what was just committed went into the file that the path names.
    fn confirm(&mut self, new: &[EventId]) -> Result<(), QueueError> {
        if !self.files.has_log() {
            self.files.adopt(true);
        }
        if let Found::Changed(change) = self.files.check()? {
            return Err(self.mark_broken(change));
        }
        if self.files.log_began() {
            self.recent.clear();
        }
        self.recent.extend(new);
        self.last = new.last().copied().or(self.last);
        let surplus = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..surplus);
        Ok(())
    }

    fn mark_broken(&mut self, change: Change) -> QueueError {
        error!("the database {} {change} while the bridge runs on it", self.database.path().display());
        let error = QueueError::Lost { database: self.database.name(), what: change.to_string() };
        let (not_before, pause) = (Instant::now(), REOPEN_PAUSE);
        self.broken = Some(Broken { change, error: error.clone(), not_before, pause });
        error
    }

    /// Learns whether a log that is empty was emptied by a checkpoint: then SQLite starts it over, and else it goes on
    /// after what is no longer there. No checkpoint may be made meanwhile, for it would copy that into the database.
    async fn test_log(&mut self) -> Result<Found, QueueError> {
        let mut connection = self.take_connection().await?;
        let tried = async {
            sqlx::query("PRAGMA wal_autocheckpoint = 0").execute(&mut connection).await?;
            sqlx::query("UPDATE heartbeat SET beats = beats + 1").execute(&mut connection).await?;
            let found = self.files.check();
            let checkpoint = AssertSqlSafe(format!("PRAGMA wal_autocheckpoint = {CHECKPOINT}"));
            sqlx::query(checkpoint).execute(&mut connection).await?;
            Ok(found)
        };
        match tried.await {
            Ok(found) => {
                self.connection = Some(connection);
                found
            }
            Err(error) => Err(self.drop_connection(connection, error).await),
        }
    }

    /// Opens the files again, and keeps what can be kept of those that were taken away.
    async fn reopen(&mut self, change: Change) -> Result<(), QueueError> {
        let reads = self.reads.clone();
        // Nobody may read meanwhile: connections within one process share more than their paths.
        let mut readers = reads.pause().await;
        let reopened = self.replace_files(change).await;
        readers.go_on();
        reopened?;
        info!("the database {} is open again", self.database.path().display());
        Ok(())
    }

    async fn replace_files(&mut self, change: Change) -> Result<(), QueueError> {
        if self.connection.is_some() {
            self.kept = recovery::save(change, &self.database, &self.files, &mut self.connection).await?;
        }
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
        self.files.forget();
        let is_another = matches!(change, Change::DatabaseGone | Change::DatabaseReplaced);
        if is_another || matches!(self.kept, Kept::All) {
            self.database.create()?;
            self.files.open_anew()?;
        }
        let mut connection = self.database.connect().await?;
        let recent: Vec<_> = self.recent.iter().copied().collect();
        let entered = async {
            schema::migrate(&mut connection, &self.database).await?;
            recovery::restore(change, &self.database, &mut connection, &self.kept, self.last, &recent).await
        };
        match entered.await {
            Ok(()) => {
                self.files.adopt(false);
                self.connection = Some(connection);
                self.kept = Kept::Nothing;
                Ok(())
            }
            Err(error) => {
                let _ = connection.close().await;
                Err(error)
            }
        }
    }

    async fn take_connection(&mut self) -> Result<SqliteConnection, QueueError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let connection = self.database.connect().await?;
        self.files.adopt(true);
        Ok(connection)
    }

    /// It may be broken or still inside the transaction. Closing rolls back, and the next commit starts with a fresh one,
    /// so that nothing but the cause itself can keep the queue from working again.
    async fn drop_connection(&mut self, connection: SqliteConnection, error: sqlx::Error) -> QueueError {
        let _ = connection.close().await;
        self.files.forget();
        self.database.error(error)
    }
}

impl Store for Engine {
    const IS_SHARED: bool = false;
    const BLOCKS: bool = true;

    async fn load(&mut self, wanted: &Wanted) -> Result<Known, QueueError> {
        if let Some(unfinished) = self.transaction.take() {
            let _ = unfinished.connection.close().await;
            self.files.forget();
        }
        self.check_files().await?;
        let mut connection = self.take_connection().await?;
        let mut statements = StatementBatch::on(&mut connection);
        // The write lock is taken at once: a transaction that starts by reading could lose the race for it later.
        statements.add("BEGIN IMMEDIATE");
        let loaded = load(&mut statements, wanted).await;
        let has_begun = statements.is_empty();
        match loaded {
            Ok(Loaded { known, last }) => {
                self.transaction = Some(Transaction { connection, has_begun, last });
                Ok(known)
            }
            Err(error) => Err(self.drop_connection(connection, error).await),
        }
    }

    async fn apply(&mut self, plan: &Plan<'_>) -> Result<Committed, QueueError> {
        let transaction = self.transaction.take().ok_or(QueueError::Closed)?;
        let Transaction { mut connection, has_begun, last } = transaction;
        let applied = async {
            let mut statements = StatementBatch::on(&mut connection);
            if !has_begun {
                statements.add("BEGIN IMMEDIATE");
            }
            let committed = write::apply(&mut statements, plan, last).await?;
            statements.add("COMMIT").run().await?;
            Ok(committed)
        };
        match applied.await {
            Ok(committed) => {
                self.connection = Some(connection);
                let rows = plan.rows.iter().zip(&committed.rows);
                let new: Vec<_> = rows.filter(|(row, _)| row.replaces.is_none()).map(|(_, id)| *id).collect();
                self.confirm(&new)?;
                Ok(committed)
            }
            Err(error) => Err(self.drop_connection(connection, error).await),
        }
    }

    async fn peek(&self, wanted: &Wanted) -> Result<Known, QueueError> {
        let peeked = async {
            let mut connection = self.database.reading().connect().await?;
            let loaded = load(&mut StatementBatch::on(&mut connection), wanted).await?;
            Ok(loaded.known)
        };
        peeked.await.map_err(|error| self.database.error(error))
    }

    async fn prune(&mut self, prune: Prune) -> Result<u64, QueueError> {
        self.transact(async |connection| maintenance::prune(connection, prune).await).await
    }

    async fn persist_metrics(&mut self, metrics: &PersistedMetrics) -> Result<(), QueueError> {
        self.transact(async |connection| maintenance::keep_metrics(connection, metrics).await).await
    }

    async fn write_sentry_notes(&mut self, notes: &SentryNotes) -> Result<(), QueueError> {
        self.transact(async |connection| sentry::write(connection, notes).await).await
    }

    async fn write_issue_update(&mut self, change: &IssueUpdateChange) -> Result<bool, QueueError> {
        self.transact(async |connection| issue_update::write(connection, change).await).await
    }

    async fn write_canary(&mut self, change: &CanaryChange) -> Result<Option<DateTime<Utc>>, QueueError> {
        self.transact(async |connection| canary::write(connection, change).await).await
    }

    async fn write_outage_notice(&mut self, notice: OutageNotice) -> Result<(), QueueError> {
        self.transact(async |connection| maintenance::write_outage_notice(connection, notice).await).await
    }

    async fn write_proof(&mut self, proof: &Proof) -> Result<(), QueueError> {
        self.transact(async |connection| super::proof::write(connection, proof).await).await
    }

    async fn shrink(&mut self, pages: u32) -> Result<u64, QueueError> {
        self.check_files().await?;
        let mut connection = self.take_connection().await?;
        let vacuum = format!("PRAGMA incremental_vacuum({pages})");
        let shrunk = async {
            let (of_all, free): (i64, i64) = schema::pages(&mut connection).await?;
            if pages > 0 && schema::is_wasteful(of_all, free) {
                sqlx::query(AssertSqlSafe(vacuum)).execute(&mut connection).await?;
            }
            let (of_all, free) = schema::pages(&mut connection).await?;
            if schema::is_wasteful(of_all, free) {
                return Ok(u64::try_from(free).unwrap_or_default());
            }
            if pages > 0 {
                // The file itself becomes shorter only by this.
                sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await?;
            }
            Ok(0)
        };
        match shrunk.await {
            Ok(left) => {
                self.connection = Some(connection);
                self.confirm(&[])?;
                Ok(left)
            }
            Err(error) => Err(self.drop_connection(connection, error).await),
        }
    }

    async fn check(&mut self) -> Result<(), QueueError> {
        self.check_files().await
    }

    /// Writes the log into the file, so that the file is complete by itself, and closes it.
    async fn close(mut self) -> Result<(), QueueError> {
        // Else what was taken away would be written into what is left.
        self.check_files().await?;
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        let written = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
        let closed = connection.close().await;
        written.and(closed).map_err(|error| self.database.error(error))
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
