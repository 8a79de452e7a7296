//! Why the queue could not do it.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::EventId;
use super::item::MAX_REJECTED_BYTES;

/// What went wrong with the queue. Clones go to everybody whose command was in a commit that failed.
#[derive(Clone, Debug, Error)]
pub enum QueueError {
    /// The directory of the database does not exist.
    #[error(
        "cannot open the database {}: its directory does not exist; create it or change BRIDGE_DATABASE_URL",
        path.display()
    )]
    NoDirectory {
        /// The database file.
        path: PathBuf,
    },
    /// There is no database to look at.
    #[error("there is no database {}; check BRIDGE_DATABASE_URL, or run `serve` once, which creates it", path.display())]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// The file, its directory or the file system cannot be written.
    #[error(
        "cannot use the database {} ({reason}); the bridge has to write that file and to create files beside it, so \
         check the owner and the permissions of the file and of its directory, and whether they are mounted read-only",
        path.display()
    )]
    NotWritable {
        /// The database file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Another bridge runs on the same file.
    #[error(
        "another bridge is running on the database {}; stop it first, or give this one its own BRIDGE_DATABASE_URL",
        path.display()
    )]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// Somebody deleted, moved, replaced or truncated a file of the running bridge.
    #[error(
        "the database {} {what} while the bridge runs on it; alerts are refused until it is open again, which the bridge \
         tries by itself",
        path.display()
    )]
    TakenAway {
        /// The database file.
        path: PathBuf,
        /// What happened to it.
        what: String,
    },
    /// Another process holds SQLite's write lock for longer than the bridge waits.
    #[error(
        "the database {} is locked by another process; end whatever else has it open (a shell, a copy job), the bridge \
         goes on by itself then",
        path.display()
    )]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// Everything that reads is taken for longer than whoever looks should wait.
    #[error(
        "too many look at the database {} at the same moment, or its disk hardly answers; try again shortly",
        path.display()
    )]
    Busy {
        /// The database file.
        path: PathBuf,
    },
    /// The database neither does what it is asked for nor says why not.
    #[error(
        "the database {} has not answered for {seconds} s; see whether its disk, or the network it lies on, still works",
        path.display()
    )]
    Stuck {
        /// The database file.
        path: PathBuf,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// No space is left.
    #[error(
        "the disk with the database {} is full; free some space there, the bridge goes on by itself then",
        path.display()
    )]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// The file is no database or a broken one.
    #[error(
        "the database {} is damaged or is no SQLite database ({reason}); stop the bridge, move the file aside together \
         with those that end in -wal and -shm, and restore a copy or start with a new one",
        path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// The disk did not do what it should.
    #[error("the disk with the database {} failed ({reason}); look into the system's log for the cause", path.display())]
    Disk {
        /// The database file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// The program is linked with an SQLite that may lose commits.
    #[error(
        "this program was built with SQLite {version}, which can lose what it has committed (its \"WAL-reset bug\", \
         mended in 3.51.3); build it with the SQLite it brings along: without LIBSQLITE3_SYS_USE_PKG_CONFIG"
    )]
    Unsafe {
        /// That of SQLite.
        version: String,
    },
    /// A newer program has changed the tables.
    #[error(
        "the database {} was written by a newer version of this program (its tables are at version {found}, this \
         program knows {known}); install that version again",
        path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version of the tables.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The tables are not those of this program.
    #[error(
        "the tables in the database {} are not those of this program ({reason}); if it is older, run `serve` once, \
         else check BRIDGE_DATABASE_URL",
        path.display()
    )]
    Unprepared {
        /// The database file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Something in the file that the bridge did not write.
    #[error(
        "event {id} in the database {} cannot be read: its {column} is not what the bridge writes; correct or delete \
         that row",
        path.display()
    )]
    Unreadable {
        /// The database file.
        path: PathBuf,
        /// The event.
        id: EventId,
        /// Where the odd value stands.
        column: &'static str,
    },
    /// An earlier event of its incident is in line, as after somebody put that back: it goes first.
    #[error("event {id} waits behind event {earlier} of its incident")]
    Behind {
        /// The event.
        id: EventId,
        /// The first in line of its incident.
        earlier: EventId,
    },
    /// The event is not in line: it was settled, or somebody took it out.
    #[error("event {0} is no longer waiting")]
    NotWaiting(EventId),
    /// A rejected webhook that leaves no room for any other.
    #[error("the body is larger than {MAX_REJECTED_BYTES} bytes, which is all the room that rejected webhooks have")]
    TooLarge,
    /// The queue was closed.
    #[error("the queue is closed, because the bridge is shutting down")]
    Closed,
    /// Anything else the database says.
    #[error("the database {} failed: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// The database's words.
        source: Arc<sqlx::Error>,
    },
}

impl QueueError {
    /// Whether the cause stands in what was to be read, so that trying again brings the same, while other rows may well be
    /// readable: a damaged page, a sector that the disk cannot read, or a row that the bridge did not write so.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Disk { .. }) || self.is_of_content()
    }

    /// Why one event cannot be read, for whoever is told that all others can be.
    #[must_use]
    pub fn of_one_event(&self) -> String {
        match self {
            Self::Damaged { path, reason } => {
                format!("a part of the database {} is damaged ({reason})", path.display())
            }
            Self::Disk { path, reason } => {
                format!("the disk does not read a part of the database {} ({reason})", path.display())
            }
            error => error.to_string(),
        }
    }

    /// Whether it is damage in the file's content: the disk itself did all that it was asked to.
    pub(super) fn is_of_content(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Unreadable { .. } => true,
            Self::Database { source, .. } => matches!(**source, sqlx::Error::ColumnDecode { .. }),
            _ => false,
        }
    }
}
