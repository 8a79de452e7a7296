//! The database file: how connections to it are set up, and what its errors mean.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use super::version;
use crate::queue::QueueError;

/// How long a connection waits for another process that holds SQLite's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a write-ahead log that grew in a storm is cut back to, in bytes.
const LOG_LIMIT: &str = "67108864";

/// How many prepared statements the writing connection keeps.
const STATEMENTS: usize = 256;

/// How many pages the log holds before a commit writes them into the file. All alerts wait for that commit, so it is half
/// of what SQLite takes by itself: the slowest answers come a tenth sooner, and as many a second are taken.
pub(super) const CHECKPOINT: &str = "500";

/// SQLite's primary result codes that call for different deeds. Source: SQLite's page "Result and Error Codes".
mod code {
    pub(super) const ERROR: u32 = 1;
    pub(super) const PERM: u32 = 3;
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const READONLY: u32 = 8;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const NOTADB: u32 = 26;
}

/// A database file, as the operator wrote its path.
#[derive(Clone, Debug)]
pub(super) struct Database {
    path: PathBuf,
}

impl Database {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Its path as it is shown.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Makes the file where there is none, readable for its owner alone, because service keys stand in it.
    pub(super) fn create(&self) -> Result<(), QueueError> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.path).map(drop).map_err(|error| self.unopened(&error))
    }

    pub(super) fn unopened(&self, error: &io::Error) -> QueueError {
        match error.kind() {
            io::ErrorKind::NotFound => QueueError::CannotOpen {
                database: self.name(),
                reason: "its directory does not exist",
                advice: "create it or change BRIDGE_DATABASE_URL",
            },
            io::ErrorKind::StorageFull => QueueError::Full { database: self.name() },
            _ => self.not_writable(error.to_string()),
        }
    }

    fn not_writable(&self, reason: String) -> QueueError {
        let advice = "the bridge has to write that file and to create files beside it, so check the owner and the \
                      permissions of the file and of its directory, and whether they are mounted read-only";
        QueueError::NotWritable { database: self.name(), reason, advice }
    }

    pub(super) fn damaged(&self, reason: String) -> QueueError {
        let advice = "stop the bridge, move the file aside together with those that end in -wal and -shm, and restore a \
                      copy or start with a new one";
        QueueError::Damaged { database: self.name(), reason, advice }
    }

    /// A connection that writes.
    pub(super) async fn connect(&self) -> Result<SqliteConnection, QueueError> {
        let mut connection = self.writing().connect().await.map_err(|error| self.error(error))?;
        version::check(&mut connection).await.map_err(|error| self.error(error))??;
        Ok(connection)
    }

    fn writing(&self) -> SqliteConnectOptions {
        self.options()
            // For a new file. What it gives back is taken in small steps, see `Engine::shrink`.
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            // SQLite's own default leaves out the fsync of the log in some builds; a commit is only one with it.
            .synchronous(SqliteSynchronous::Full)
            // macOS keeps what was fsynced in the drive's cache; elsewhere this does nothing.
            .pragma("fullfsync", "1")
            // A batch is a text for each number of rows and each kind of operations in it.
            .statement_cache_capacity(STATEMENTS)
            .pragma("journal_size_limit", LOG_LIMIT)
            .pragma("wal_autocheckpoint", CHECKPOINT)
    }

    pub(super) fn reading(&self) -> SqliteConnectOptions {
        self.options().read_only(true)
    }

    pub(super) fn absolute(&self) -> PathBuf {
        std::path::absolute(&self.path).unwrap_or_else(|_| self.path())
    }

    fn options(&self) -> SqliteConnectOptions {
        // SQLite takes some relative names for something else: `:memory:` would forget everything.
        SqliteConnectOptions::new().filename(self.absolute()).busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
    }

    /// What an error of SQLite means for the operator.
    pub(super) fn error(&self, error: sqlx::Error) -> QueueError {
        let database = self.name();
        let Some(cause) = error.as_database_error() else {
            return match error {
                sqlx::Error::PoolClosed => QueueError::Closed,
                sqlx::Error::PoolTimedOut => QueueError::Busy { database },
                error => QueueError::Database { database, source: Arc::new(error) },
            };
        };
        let reason = cause.message().to_owned();
        match primary_code(cause) {
            Some(code::BUSY | code::LOCKED) => QueueError::Locked { database },
            Some(code::FULL) => QueueError::Full { database },
            Some(code::READONLY | code::CANTOPEN | code::PERM) => self.not_writable(reason),
            Some(code::CORRUPT | code::NOTADB) => self.damaged(reason),
            Some(code::IOERR) => QueueError::Disk { database, reason },
            _ => QueueError::Database { database, source: Arc::new(error) },
        }
    }
}

/// Whether SQLite did not understand the statement, such as for a table that is not there.
pub(super) fn is_misfit(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(primary_code) == Some(code::ERROR)
}

/// Whether a page of the file is damaged that the statement needs.
pub(super) fn is_damaged(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(primary_code) == Some(code::CORRUPT)
}

fn primary_code(error: &dyn sqlx::error::DatabaseError) -> Option<u32> {
    // The low byte of an extended code is the primary one.
    error.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_file_makes_sqlite_keep_it_in_memory() {
        let options = Database::new(Path::new(":memory:")).writing();
        assert!(options.get_filename().is_absolute(), "{options:?}");
    }
}
