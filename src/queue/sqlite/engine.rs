//! The writing side of the file: a connection that recovers from errors, and also from its files being deleted,
//! replaced or truncated.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use log::{error, info, warn};
use rusqlite::Connection;

use super::database::{CHECKPOINT, Database};
use super::files::{FileChange, FileCheck, Files};
use super::load::load;
use super::recovery::Saved;
use super::write::{self, run};
use super::{SqliteReads, recovery, schema, standalone};
use crate::backoff::Backoff;
use crate::metrics::PersistedMetrics;
use crate::queue::external::SentryNotes;
use crate::queue::store::{Committed, Dependencies, Known, Plan, Prune, Store};
use crate::queue::{CanaryChange, EventId, IssueUpdateChange, OutageNotice, Proof, QueueError};

/// The pause after a failed attempt to open files again.
const REOPEN: Backoff = Backoff { first: Duration::from_secs(1), ceiling: Duration::from_secs(30) };

/// How many of the newest event numbers are remembered, to report which events a truncated log has lost.
const RECENT: usize = 10_000;

/// Commits to one SQLite file, which no other bridge can open meanwhile.
#[derive(Debug)]
pub(in crate::queue) struct SqliteEngine {
    database: Database,
    connection: Option<Connection>,
    /// The connection of a commit that found the disk full, until another one succeeds.
    spare: Option<Connection>,
    /// The transaction whose first half is done. Its connection is not in `connection` meanwhile.
    transaction: Option<Transaction>,
    /// Locked until it is dropped or the process dies. Dropped after the connection: see [`Files`].
    files: Files,
    reads: SqliteReads,
    broken: Option<Broken>,
    /// What was saved of files that were taken away, until others are open.
    saved: Saved,
    /// The events that were accepted since the log began.
    recent: VecDeque<EventId>,
    /// The newest number that was assigned to an event.
    last: Option<EventId>,
}

/// A transaction between `load` and `apply`.
#[derive(Debug)]
struct Transaction {
    connection: Connection,
    /// The last number that was assigned to an event.
    last: i64,
}

/// Files that have to be opened again.
#[derive(Debug)]
struct Broken {
    change: FileChange,
    error: QueueError,
    not_before: Instant,
    /// The failed attempts to open it again.
    failures: u32,
}

impl SqliteEngine {
    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        let database = Database::new(path);
        database.create()?;
        let mut files = Files::open(&database)?;
        let connection = schema::open(&database).await?;
        schema::let_it_shrink(&connection, &database);
        files.adopt(false);
        let reads = SqliteReads::beside(&database);
        Ok(Self {
            database,
            connection: Some(connection),
            spare: None,
            transaction: None,
            files,
            reads,
            broken: None,
            saved: Saved::Nothing,
            recent: VecDeque::new(),
            last: None,
        })
    }

    pub(in crate::queue) fn reads(&self) -> SqliteReads {
        self.reads.clone()
    }

    /// Commits what `change` writes, in a transaction of its own.
    async fn transact<T>(&mut self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, QueueError> {
        self.check_files().await?;
        let changed = self.attempt(|connection| {
            run(connection, "BEGIN IMMEDIATE", [])?;
            let changed = change(connection)?;
            run(connection, "COMMIT", [])?;
            Ok(changed)
        })?;
        self.confirm(&[])?;
        Ok(changed)
    }

    /// Runs `task` with the connection while no transaction is open.
    fn attempt<T>(&mut self, task: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, QueueError> {
        let connection = self.take_connection()?;
        let done = task(&connection);
        self.put_back(connection, done)
    }

    fn take_connection(&mut self) -> Result<Connection, QueueError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let connection = self.database.connect()?;
        self.files.adopt(true);
        Ok(connection)
    }

    fn put_back<T>(&mut self, connection: Connection, done: rusqlite::Result<T>) -> Result<T, QueueError> {
        match done {
            Ok(done) => {
                self.connection = Some(connection);
                self.spare = None;
                Ok(done)
            }
            Err(error) => Err(self.drop_connection(connection, error)),
        }
    }

    /// Closes a connection after an error: it may be broken or still inside the transaction. Closing rolls back, and
    /// the next commit opens a new connection, so that nothing but the cause itself can keep the queue from working
    /// again.
    ///
    /// A full disk breaks no connection, so that one is rolled back and kept until a commit succeeds: if somebody deletes the
    /// file to make room, it is all that is left of it.
    fn drop_connection(&mut self, connection: Connection, error: rusqlite::Error) -> QueueError {
        let error = self.database.write_error(error);
        if matches!(error, QueueError::Full { .. }) && is_rolled_back(&connection) {
            self.spare = Some(connection);
            self.files.adopt(true);
        } else {
            drop(connection);
            if self.spare.is_none() {
                self.files.forget();
            }
        }
        error
    }

    /// Compares the files that are open with those at their paths, and opens them again if they differ.
    ///
    /// # Errors
    ///
    /// When they differ and cannot be opened again yet.
    async fn check_files(&mut self) -> Result<(), QueueError> {
        if self.broken.is_none() {
            let found = match self.files.check()? {
                FileCheck::LogEmptied => self.test_log()?,
                found => found,
            };
            if self.files.log_began() {
                self.recent.clear();
            }
            match found {
                FileCheck::Changed(change) => drop(self.mark_broken(change)),
                FileCheck::Same | FileCheck::LogEmptied => return Ok(()),
            }
        }
        let Some(mut broken) = self.broken.take() else { return Ok(()) };
        match self.files.check() {
            // For example, a folder was moved away and back.
            Ok(FileCheck::Same) if self.connection.is_some() => return Ok(()),
            Ok(FileCheck::Changed(change)) => broken.change = change,
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
            let failures = broken.failures.saturating_add(1);
            let not_before = Instant::now() + REOPEN.pause(failures);
            self.broken = Some(Broken { change: broken.change, error: error.clone(), not_before, failures });
        }
        reopened
    }

    /// Makes sure that what was just committed went into the file that the path names.
    fn confirm(&mut self, new: &[EventId]) -> Result<(), QueueError> {
        if !self.files.has_log() {
            self.files.adopt(true);
        }
        if let FileCheck::Changed(change) = self.files.check()? {
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

    fn mark_broken(&mut self, change: FileChange) -> QueueError {
        if self.connection.is_none() {
            self.connection = self.spare.take();
        }
        error!("the database {} {change} while the bridge runs on it", self.database.path().display());
        let error = QueueError::Lost { database: self.database.name(), what: change.to_string() };
        self.broken = Some(Broken { change, error: error.clone(), not_before: Instant::now(), failures: 0 });
        error
    }

    /// Finds out whether an empty log was emptied by a checkpoint: if so, SQLite starts it over with the next commit;
    /// otherwise it continues after the frames that are no longer there. No checkpoint may run meanwhile, because it
    /// would copy those missing frames into the database.
    fn test_log(&mut self) -> Result<FileCheck, QueueError> {
        self.attempt(|connection| {
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            run(connection, "UPDATE heartbeat SET beats = beats + 1", [])?;
            Ok(())
        })?;
        let found = self.files.check();
        self.attempt(|connection| connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT))?;
        found
    }

    /// Opens the files again, and saves what can be saved of those that were taken away.
    async fn reopen(&mut self, change: FileChange) -> Result<(), QueueError> {
        let reads = self.reads.clone();
        // No reader may be active meanwhile: connections within one process share more than the path.
        let mut readers = reads.pause().await;
        let reopened = self.replace_files(change).await;
        readers.go_on();
        reopened?;
        info!("the database {} is open again", self.database.path().display());
        Ok(())
    }

    async fn replace_files(&mut self, change: FileChange) -> Result<(), QueueError> {
        if self.connection.is_some() {
            self.saved = recovery::save(change, &self.database, &self.files, &mut self.connection)?;
        }
        self.connection = None;
        self.files.forget();
        let is_another = matches!(change, FileChange::DatabaseGone | FileChange::DatabaseReplaced);
        if is_another || matches!(self.saved, Saved::All) {
            self.database.create()?;
            self.files.open_anew()?;
        }
        let mut connection = schema::open(&self.database).await?;
        let recent: Vec<_> = self.recent.iter().copied().collect();
        recovery::restore(change, &self.database, &mut connection, &self.saved, self.last, &recent)?;
        self.files.adopt(false);
        self.connection = Some(connection);
        self.saved = Saved::Nothing;
        Ok(())
    }
}

/// Rolls back the transaction of a connection, if it is still inside one, and returns whether it is in none now.
fn is_rolled_back(connection: &Connection) -> bool {
    connection.is_autocommit() || (run(connection, "ROLLBACK", []).is_ok() && connection.is_autocommit())
}

impl Store for SqliteEngine {
    const IS_SHARED_BY_BRIDGES: bool = false;
    const BLOCKS: bool = true;

    async fn load(&mut self, dependencies: &Dependencies) -> Result<Known, QueueError> {
        if let Some(unfinished) = self.transaction.take() {
            drop(unfinished);
            self.files.forget();
        }
        self.check_files().await?;
        let connection = self.take_connection()?;
        // The write lock is taken at once: a transaction that starts by reading could lose the race for it later.
        let begun = run(&connection, "BEGIN IMMEDIATE", []);
        match begun.and_then(|_| load(&connection, dependencies)) {
            Ok((known, last)) => {
                self.transaction = Some(Transaction { connection, last });
                Ok(known)
            }
            Err(error) => Err(self.drop_connection(connection, error)),
        }
    }

    async fn apply(&mut self, plan: &Plan<'_>) -> Result<Committed, QueueError> {
        let Transaction { connection, last } = self.transaction.take().ok_or(QueueError::Closed)?;
        let written = write::apply(&connection, plan, last);
        let committed = written.and_then(|committed| run(&connection, "COMMIT", []).map(|_| committed));
        let committed = self.put_back(connection, committed)?;
        let rows = plan.rows.iter().zip(&committed.event_ids);
        let new: Vec<_> = rows.filter(|(row, _)| row.replaces.is_none()).map(|(_, id)| *id).collect();
        self.confirm(&new)?;
        Ok(committed)
    }

    async fn peek(&mut self, dependencies: &Dependencies) -> Result<Known, QueueError> {
        let loaded = self.database.connect_reading().and_then(|connection| load(&connection, dependencies));
        loaded.map(|(known, _)| known).map_err(|error| self.database.write_error(error))
    }

    async fn prune(&mut self, prune: Prune) -> Result<u64, QueueError> {
        self.transact(|connection| standalone::prune(connection, prune)).await
    }

    async fn persist_metrics(&mut self, metrics: &PersistedMetrics) -> Result<(), QueueError> {
        self.transact(|connection| standalone::write_metrics(connection, metrics)).await
    }

    async fn write_sentry_notes(&mut self, notes: &SentryNotes) -> Result<(), QueueError> {
        self.transact(|connection| standalone::write_sentry_notes(connection, notes)).await
    }

    async fn write_issue_update(&mut self, change: &IssueUpdateChange) -> Result<bool, QueueError> {
        self.transact(|connection| standalone::write_issue_update(connection, change)).await
    }

    async fn write_canary(&mut self, change: &CanaryChange) -> Result<Option<DateTime<Utc>>, QueueError> {
        self.transact(|connection| standalone::write_canary(connection, change)).await
    }

    async fn write_outage_notice(&mut self, notice: OutageNotice) -> Result<(), QueueError> {
        self.transact(|connection| standalone::write_outage_notice(connection, notice)).await
    }

    async fn write_proof(&mut self, proof: &Proof) -> Result<(), QueueError> {
        self.transact(|connection| standalone::write_proof(connection, proof)).await
    }

    async fn shrink(&mut self, pages: u32) -> Result<u64, QueueError> {
        self.check_files().await?;
        let left = self.attempt(|connection| standalone::shrink(connection, pages))?;
        self.confirm(&[])?;
        Ok(left)
    }

    async fn check(&mut self) -> Result<(), QueueError> {
        self.check_files().await
    }

    /// Writes the log into the file, so that the file is complete by itself, and closes it.
    async fn close(mut self) -> Result<(), QueueError> {
        // The files may be back, and there is no later attempt.
        if let Some(broken) = &mut self.broken {
            broken.not_before = Instant::now();
        }
        // Otherwise, the content of files that were taken away would be written into the files that are left.
        self.check_files().await?;
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let written = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let closed = connection.close().map_err(|(_, error)| error);
        written.and(closed).map_err(|error| self.database.write_error(error))
    }
}

#[cfg(test)]
impl SqliteEngine {
    /// Asks the writing connection itself.
    pub(in crate::queue) fn pragma(&self, pragma: &str) -> i64 {
        self.connection.as_ref().unwrap().query_row(pragma, [], |row| row.get(0)).unwrap()
    }
}
