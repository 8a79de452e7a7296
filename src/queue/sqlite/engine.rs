//! The writing side of the file: the connection that survives errors, and what it does when somebody takes its files away.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use super::files::{Change, Files, Found};
use super::place::{CHECKPOINT, Place};
use super::recovery::Kept;
use super::{Reads, read, recovery, schema, write};
use crate::queue::writer::{Batch, Begin, Committed, NotFirst};
use crate::queue::{Begun, EventId, QueueError};

/// The first pause between two attempts to open files anew; it doubles with each.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// The longest of these pauses.
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How many of the newest events are remembered by number, to say which of them a log that was cut has lost.
const RECENT: usize = 10_000;

/// Commits batches to one SQLite file, which no other bridge can open meanwhile.
#[derive(Debug)]
pub(in crate::queue) struct Engine {
    place: Place,
    connection: Option<SqliteConnection>,
    /// Locked until it is dropped or the process dies. Dropped after the connection: see [`Files`].
    files: Files,
    reads: Reads,
    broken: Option<Broken>,
    /// What was kept of files that were taken away, until others are open.
    kept: Kept,
    /// The events that were accepted since the log began.
    recent: VecDeque<EventId>,
    /// The newest number that was given to an event.
    last: Option<EventId>,
}

/// Files that have to be opened anew.
#[derive(Debug)]
struct Broken {
    change: Change,
    error: QueueError,
    not_before: Instant,
    pause: Duration,
}

impl Engine {
    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        let place = Place::new(path);
        place.create()?;
        let mut files = Files::open(&place)?;
        let mut connection = place.connect().await?;
        schema::migrate(&mut connection, &place).await?;
        schema::let_it_shrink(&mut connection, &place).await;
        files.adopt(false);
        let reads = Reads::beside(&place);
        Ok(Self {
            place,
            connection: Some(connection),
            files,
            reads,
            broken: None,
            kept: Kept::Nothing,
            recent: VecDeque::new(),
            last: None,
        })
    }

    pub(in crate::queue) fn reads(&self) -> Reads {
        self.reads.clone()
    }

    /// Commits all of `batch` or nothing of it, into the file that the path names.
    pub(in crate::queue) async fn commit(&mut self, batch: Batch) -> Result<Committed, QueueError> {
        self.look().await?;
        let mut connection = self.take_connection().await?;
        match write::commit(&mut connection, batch).await {
            Ok(committed) => {
                self.connection = Some(connection);
                self.confirm(&committed)?;
                Ok(committed)
            }
            Err(error) => Err(self.drop_connection(connection, error).await),
        }
    }

    /// Makes the file shorter by at most so many pages that nothing stands on, and returns how many such pages are left.
    pub(in crate::queue) async fn shrink(&mut self, pages: u32) -> Result<u64, QueueError> {
        self.look().await?;
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
                self.confirm(&Committed::default())?;
                Ok(left)
            }
            Err(error) => Err(self.drop_connection(connection, error).await),
        }
    }

    /// Compares the files that are open with those at their paths, and opens them anew where they are not the same.
    ///
    /// # Errors
    ///
    /// While they are not the same, and cannot be opened anew.
    pub(in crate::queue) async fn look(&mut self) -> Result<(), QueueError> {
        if self.broken.is_none() {
            let found = match self.files.look()? {
                Found::LogEmptied => self.try_the_log().await?,
                found => found,
            };
            if self.files.log_began() {
                self.recent.clear();
            }
            match found {
                Found::Changed(change) => drop(self.breaks(change)),
                Found::Same | Found::LogEmptied => return Ok(()),
            }
        }
        let Some(mut broken) = self.broken.take() else { return Ok(()) };
        match self.files.look() {
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
            warn!("the database could not be opened anew: {error}");
            let pause = broken.pause;
            let not_before = Instant::now() + pause;
            let pause = (pause * 2).min(REOPEN_PAUSE_MAX);
            self.broken = Some(Broken { change: broken.change, error: error.clone(), not_before, pause });
        }
        reopened
    }

    /// Makes sure that what was just committed went into the file that the path names.
    fn confirm(&mut self, committed: &Committed) -> Result<(), QueueError> {
        if !self.files.has_log() {
            self.files.adopt(true);
        }
        if let Found::Changed(change) = self.files.look()? {
            return Err(self.breaks(change));
        }
        if self.files.log_began() {
            self.recent.clear();
        }
        self.recent.extend(committed.arrivals.iter().map(|arrival| arrival.id));
        self.last = committed.arrivals.last().map(|arrival| arrival.id).or(self.last);
        let surplus = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..surplus);
        Ok(())
    }

    fn breaks(&mut self, change: Change) -> QueueError {
        error!("the database {} {change} while the bridge runs on it", self.place.path().display());
        let error = QueueError::TakenAway { path: self.place.path(), what: change.to_string() };
        let (not_before, pause) = (Instant::now(), REOPEN_PAUSE);
        self.broken = Some(Broken { change, error: error.clone(), not_before, pause });
        error
    }

    /// Learns whether a log that is empty was emptied by a checkpoint: then SQLite begins it anew, and else it goes on
    /// behind what is no longer there. No checkpoint may be made meanwhile, for it would copy that into the database.
    async fn try_the_log(&mut self) -> Result<Found, QueueError> {
        let mut connection = self.take_connection().await?;
        let tried = async {
            sqlx::query("PRAGMA wal_autocheckpoint = 0").execute(&mut connection).await?;
            sqlx::query("UPDATE heartbeat SET beats = beats + 1").execute(&mut connection).await?;
            let found = self.files.look();
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

    /// Opens the files anew, and keeps what can be kept of those that were taken away.
    async fn reopen(&mut self, change: Change) -> Result<(), QueueError> {
        let reads = self.reads.clone();
        // Nobody may read meanwhile: connections within one process share more than their paths.
        let mut readers = reads.pause().await;
        let reopened = self.leave_and_enter(change).await;
        readers.go_on();
        reopened?;
        info!("the database {} is open again", self.place.path().display());
        Ok(())
    }

    async fn leave_and_enter(&mut self, change: Change) -> Result<(), QueueError> {
        if self.connection.is_some() {
            self.kept = recovery::leave(change, &self.place, &self.files, &mut self.connection).await?;
        }
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
        self.files.forget();
        let is_another = matches!(change, Change::DatabaseGone | Change::DatabaseReplaced);
        if is_another || matches!(self.kept, Kept::All) {
            self.place.create()?;
            self.files.open_anew()?;
        }
        let mut connection = self.place.connect().await?;
        let recent: Vec<_> = self.recent.iter().copied().collect();
        let entered = async {
            schema::migrate(&mut connection, &self.place).await?;
            recovery::enter(change, &self.place, &mut connection, &self.kept, self.last, &recent).await
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
        let connection = self.place.connect().await?;
        self.files.adopt(true);
        Ok(connection)
    }

    /// It may be broken or still inside the transaction. Closing rolls back, and the next commit starts with a fresh one,
    /// so that nothing but the cause itself can keep the queue from working again.
    async fn drop_connection(&mut self, connection: SqliteConnection, error: sqlx::Error) -> QueueError {
        let _ = connection.close().await;
        self.files.forget();
        self.place.error(error)
    }

    /// What to send of each, read without the connection that writes.
    pub(in crate::queue) async fn begun_unmarked(
        &self,
        begins: &[Begin],
    ) -> Result<Vec<Result<Begun, NotFirst>>, QueueError> {
        let mut begun = Vec::with_capacity(begins.len());
        if begins.is_empty() {
            return Ok(begun);
        }
        let mut connection = self.place.reading().connect().await.map_err(|error| self.place.error(error))?;
        for begin in begins {
            begun.push(read::begun(&mut connection, begin).await.map_err(|error| self.place.error(error))?);
        }
        Ok(begun)
    }

    /// Writes the log into the file, so that it stands alone, and lets go of it.
    pub(in crate::queue) async fn close(mut self) -> Result<(), QueueError> {
        // Else what was taken away would be written into what is left.
        self.look().await?;
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        let written = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
        let closed = connection.close().await;
        written.and(closed).map_err(|error| self.place.error(error))
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
