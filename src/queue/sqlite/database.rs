//! The database file: how connections to it are set up, what its errors mean, and which versions of SQLite do not lose
//! commits.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

use crate::queue::QueueError;

/// How long a connection waits for another process that holds SQLite's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The size to which a write-ahead log that grew in a storm of alerts is truncated, in bytes.
const LOG_LIMIT: &str = "67108864";

/// How many prepared statements the writing connection keeps: more than there are.
const STATEMENTS: usize = 128;

/// How many pages the log holds before a commit writes them into the file (a checkpoint). All alerts wait for that
/// commit, so this is half of SQLite's default: the slowest responses are a tenth faster, and the throughput is the
/// same.
pub(super) const CHECKPOINT: &str = "500";

/// The settings of a connection that writes, in the order in which they are made.
const WRITING: [(&str, &str); 7] = [
    // For a new file, before anything is written to it. Free pages are returned in small steps, see `SqliteEngine::shrink`.
    ("auto_vacuum", "INCREMENTAL"),
    ("journal_mode", "WAL"),
    ("foreign_keys", "ON"),
    // The default of some builds of SQLite omits the fsync of the log; a commit is durable only with it.
    ("synchronous", "FULL"),
    // On macOS, an fsync leaves the data in the drive's cache; elsewhere this setting does nothing.
    ("fullfsync", "1"),
    ("journal_size_limit", LOG_LIMIT),
    ("wal_autocheckpoint", CHECKPOINT),
];

/// SQLite's primary result codes that the bridge tells apart. Source: SQLite's page "Result and Error Codes".
mod code {
    pub(super) const ERROR: i32 = 1;
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
}

/// A statement of a reader or of a move to another database.
pub(super) type SqliteQuery<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// A database file, as the operator wrote its path.
#[derive(Clone, Debug)]
pub(super) struct Database {
    path: PathBuf,
}

impl Database {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Its path, as it is shown to people.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Creates the file if it does not exist, readable by its owner only, because it contains service keys.
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

    /// Opens the connection of the writer, which runs SQLite on the calling thread.
    pub(super) fn connect(&self) -> Result<Connection, QueueError> {
        check_version()?;
        self.open(OpenFlags::SQLITE_OPEN_READ_WRITE, &WRITING).map_err(|error| self.write_error(error))
    }

    /// Opens a connection for what the writer reads while it cannot write.
    pub(super) fn connect_reading(&self) -> rusqlite::Result<Connection> {
        self.open(OpenFlags::SQLITE_OPEN_READ_ONLY, &[("foreign_keys", "ON")])
    }

    fn open(&self, access: OpenFlags, settings: &[(&str, &str)]) -> rusqlite::Result<Connection> {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let connection = Connection::open_with_flags(self.absolute(), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        for (name, value) in settings {
            connection.pragma_update(None, name, value)?;
        }
        Ok(connection)
    }

    /// Opens another connection that writes, with the same settings: for the migrations, and for a move to another
    /// database.
    pub(super) async fn connect_aside(&self) -> Result<SqliteConnection, QueueError> {
        check_version()?;
        self.writing().connect().await.map_err(|error| self.error(error))
    }

    fn writing(&self) -> SqliteConnectOptions {
        WRITING.iter().fold(self.options(), |options, (name, value)| options.pragma(*name, *value))
    }

    pub(super) fn reading(&self) -> SqliteConnectOptions {
        self.options().read_only(true)
    }

    pub(super) fn absolute(&self) -> PathBuf {
        // SQLite gives some relative names a special meaning: with `:memory:`, nothing would be stored on disk.
        std::path::absolute(&self.path).unwrap_or_else(|_| self.path())
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(self.absolute()).busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
    }

    /// Translates an error of the readers or the migrations for the operator.
    pub(super) fn error(&self, error: sqlx::Error) -> QueueError {
        let database = self.name();
        let code = error.as_database_error().and_then(primary_code);
        let known = code.zip(error.as_database_error()).and_then(|(code, cause)| self.meaning(code, cause.message()));
        known.unwrap_or_else(|| match error {
            sqlx::Error::PoolClosed => QueueError::Closed,
            sqlx::Error::PoolTimedOut => QueueError::Busy { database },
            error @ sqlx::Error::ColumnDecode { .. } => QueueError::InvalidValue { database, source: Arc::new(error) },
            error => QueueError::Database { database, source: Arc::new(error) },
        })
    }

    /// Translates an error of the writer's connection for the operator.
    pub(super) fn write_error(&self, error: rusqlite::Error) -> QueueError {
        let database = self.name();
        match &error {
            rusqlite::Error::SqliteFailure(cause, reason) => {
                // rusqlite appends the path, which the message already contains.
                let path = format!(": {}", self.absolute().display());
                let reason = reason.as_deref().unwrap_or_default();
                let known = self.meaning(cause.extended_code, reason.strip_suffix(&path).unwrap_or(reason));
                known.unwrap_or_else(|| QueueError::Database { database, source: Arc::new(error) })
            }
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::FromSqlConversionFailure(..) => {
                QueueError::InvalidValue { database, source: Arc::new(error) }
            }
            _ => QueueError::Database { database, source: Arc::new(error) },
        }
    }

    /// Translates one of the result codes above, with SQLite's own message. Returns `None` for any other code.
    fn meaning(&self, code: i32, reason: &str) -> Option<QueueError> {
        let (database, reason) = (self.name(), reason.to_owned());
        match primary(code) {
            code::BUSY | code::LOCKED => Some(QueueError::Locked { database }),
            code::FULL => Some(QueueError::Full { database }),
            code::READONLY | code::CANTOPEN | code::PERM => Some(self.not_writable(reason)),
            code::CORRUPT | code::NOTADB => Some(self.damaged(reason)),
            code::IOERR => Some(QueueError::Disk { database, reason }),
            _ => None,
        }
    }
}

/// Whether SQLite did not understand the statement, for example because a table does not exist.
pub(super) fn is_misfit(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(primary_code) == Some(code::ERROR)
}

/// Whether a page of the file that a reader's statement needs is damaged.
pub(super) fn is_damaged(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(primary_code) == Some(code::CORRUPT)
}

/// The same for a statement of the writer.
pub(super) fn is_write_damaged(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| primary(error.extended_code) == code::CORRUPT)
}

fn primary_code(error: &dyn sqlx::error::DatabaseError) -> Option<i32> {
    error.code()?.parse().ok().map(primary)
}

/// Returns the primary result code, which is the low byte of an extended one.
fn primary(code: i32) -> i32 {
    code & 0xff
}

/// Refuses a version of SQLite that may lose commits. The bundled one does not, but a build can be configured to use
/// the system's.
fn check_version() -> Result<(), QueueError> {
    let version = rusqlite::version();
    if version_number(version).is_some_and(keeps_commits) { Ok(()) } else { Err(unsafe_version(version)) }
}

fn unsafe_version(version: &str) -> QueueError {
    QueueError::Unsafe {
        reason: format!(
            "this program was built with SQLite {version}, which can lose what it has committed (its \"WAL-reset bug\", \
             fixed in 3.51.3)"
        ),
        advice: "build it with the SQLite it brings along: without LIBSQLITE3_SYS_USE_PKG_CONFIG",
    }
}

/// Whether a version is free of the "WAL-reset bug": if one connection commits just as another writes the log into the
/// file, as the command `queue` and the bridge may do, committed pages can be missing from the file permanently.
///
/// Source: SQLite's page "Write-Ahead Logging", section "The WAL-Reset Bug".
fn keeps_commits(number: u32) -> bool {
    matches!(number, 3_044_006..3_045_000 | 3_050_007..3_051_000 | 3_051_003..)
}

/// SQLite counts versions this way: 3.51.3 is 3,051,003.
fn version_number(version: &str) -> Option<u32> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    Some(parts.next()?? * 1_000_000 + parts.next()?? * 1_000 + parts.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_file_makes_sqlite_keep_it_in_memory() {
        let database = Database::new(Path::new(":memory:"));
        let options = database.writing();
        assert!(options.get_filename().is_absolute(), "{options:?}");
        assert!(database.absolute().is_absolute());
    }

    #[tokio::test]
    async fn both_kinds_of_connections_that_write_have_the_same_settings() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::new(&directory.path().join("bridge.db"));
        database.create().unwrap();
        let mut aside = database.connect_aside().await.unwrap();
        let connection = database.connect().unwrap();
        let numbers = [
            ("auto_vacuum", 2),
            ("foreign_keys", 1),
            ("synchronous", 2),
            ("fullfsync", 1),
            ("journal_size_limit", LOG_LIMIT.parse().unwrap()),
            ("wal_autocheckpoint", CHECKPOINT.parse().unwrap()),
            ("busy_timeout", 5000),
        ];
        for (name, number) in numbers {
            let ask = format!("PRAGMA {name}");
            let found: i64 = connection.query_row(&ask, [], |row| row.get(0)).unwrap();
            assert_eq!(found, number, "{name}");
            let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(ask)).fetch_one(&mut aside).await.unwrap();
            assert_eq!(found, number, "{name}");
        }
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    fn is_taken(version: &str) -> bool {
        version_number(version).is_some_and(keeps_commits)
    }

    #[test]
    fn only_versions_that_keep_commits_are_taken() {
        for version in ["3.44.6", "3.44.99", "3.50.7", "3.51.3", "3.53.0", "4.0.0"] {
            assert!(is_taken(version), "{version}");
        }
        for version in ["3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.0", "3.51.2", "3.51", "unknown", ""] {
            assert!(!is_taken(version), "{version}");
        }
    }
}
