//! What went wrong with the queue, as sentences for the operator.

use std::error::Error;
use std::sync::Arc;

use super::EventId;
use super::item::MAX_REJECTED_BYTES;

/// What went wrong with the queue. Clones go to everybody whose operation was in a commit that failed.
///
/// `database` is where the queue is, as the operator wrote it and without secrets. What an engine's operator has to do comes
/// from the engine, as `advice`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// The database cannot be opened where it should be.
    #[error("cannot open the database {database}: {reason}; {advice}")]
    CannotOpen {
        /// The database.
        database: String,
        /// What is in the way.
        reason: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// There is no database to read.
    #[error("there is no database {database}; check BRIDGE_DATABASE_URL, or run `serve` once, which creates it")]
    Missing {
        /// The database.
        database: String,
    },
    /// The bridge may not write the database.
    #[error("cannot use the database {database} ({reason}); {advice}")]
    NotWritable {
        /// The database.
        database: String,
        /// The system's message.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// Another bridge uses the same database, which takes only one.
    #[error(
        "another bridge is running on the database {database}; stop it first, or give this one its own BRIDGE_DATABASE_URL"
    )]
    InUse {
        /// The database.
        database: String,
    },
    /// What the running bridge has committed is no longer where it was.
    #[error(
        "the database {database} {what} while the bridge runs on it; alerts are refused until it is open again, which the \
         bridge tries by itself"
    )]
    Lost {
        /// The database.
        database: String,
        /// What happened to it.
        what: String,
    },
    /// Somebody else holds a lock for longer than the bridge waits.
    #[error(
        "the database {database} is locked by another process; end whatever else has it open (a shell, a copy job), the \
         bridge goes on by itself then"
    )]
    Locked {
        /// The database.
        database: String,
    },
    /// All connections for reading are in use for longer than a reader should wait.
    #[error(
        "too many look at the database {database} at the same moment, or its disk hardly answers; try again shortly"
    )]
    Busy {
        /// The database.
        database: String,
    },
    /// The database neither does what it is asked for nor says why not.
    #[error(
        "the database {database} has not answered for {seconds} s; see whether its disk, or the network it lies on, still \
         works"
    )]
    Stuck {
        /// The database.
        database: String,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// Another bridge delivers for the event's service key by now.
    #[error("another bridge delivers for the service key of event {0} by now")]
    Fenced(EventId),
    /// The database's server cannot be reached, or is going away.
    #[error(
        "the database {database} cannot be reached ({reason}); see whether PostgreSQL runs there and lets the bridge connect; \
         the bridge goes on by itself then"
    )]
    Unreachable {
        /// The database.
        database: String,
        /// What the system or the server said.
        reason: String,
    },
    /// The database's server did not answer in time. What it was asked to commit may be committed or not.
    #[error(
        "the database {database} has not answered within {milliseconds} ms; see whether PostgreSQL, its synchronous standby \
         and the network to it still work; the bridge goes on by itself then"
    )]
    TimedOut {
        /// The database.
        database: String,
        /// How long the bridge waited.
        milliseconds: u64,
    },
    /// The database's server takes no writes.
    #[error(
        "the database {database} takes no writes: it is a standby, or is set to read-only; BRIDGE_DATABASE_URL has to lead to \
         the primary server"
    )]
    ReadOnly {
        /// The database.
        database: String,
    },
    /// The database's server takes no more connections.
    #[error(
        "the database {database} takes no more connections; raise max_connections of PostgreSQL, or lower \
         BRIDGE_DATABASE_DELIVERY_CONNECTIONS and BRIDGE_DATABASE_READ_CONNECTIONS"
    )]
    NoConnection {
        /// The database.
        database: String,
    },
    /// A transaction was ended from outside before it was committed. Trying again may well succeed.
    #[error("a transaction in the database {database} was interrupted ({reason}); nothing of it is committed")]
    Interrupted {
        /// The database.
        database: String,
        /// By what.
        reason: String,
    },
    /// No space is left.
    #[error("the disk with the database {database} is full; free some space there, the bridge goes on by itself then")]
    Full {
        /// The database.
        database: String,
    },
    /// A part of the database is damaged, or it is none.
    #[error("the database {database} is damaged or is no database of the bridge ({reason}); {advice}")]
    Damaged {
        /// The database.
        database: String,
        /// The engine's message.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// The disk did not do what it should.
    #[error("the disk with the database {database} failed ({reason}); look into the system's log for the cause")]
    Disk {
        /// The database.
        database: String,
        /// The engine's message.
        reason: String,
    },
    /// The engine may lose what it has committed.
    #[error("{reason}; {advice}")]
    Unsafe {
        /// Which engine, and how.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// A newer program has changed the tables.
    #[error(
        "the database {database} was written by a newer version of this program (its tables are at version {found}, this \
         program knows {known}); install that version again"
    )]
    Newer {
        /// The database.
        database: String,
        /// The version of the tables.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The tables are not those of this program.
    #[error(
        "the tables in the database {database} are not those of this program ({reason}); if it is older, run `serve` once, \
         else check BRIDGE_DATABASE_URL"
    )]
    Unprepared {
        /// The database.
        database: String,
        /// What is missing.
        reason: String,
    },
    /// A value that the bridge did not write.
    #[error(
        "event {id} in the database {database} cannot be read: its {column} is not what the bridge writes; correct or \
         delete that row"
    )]
    Unreadable {
        /// The database.
        database: String,
        /// The event.
        id: EventId,
        /// Where the odd value is.
        column: &'static str,
    },
    /// An earlier event of its incident waits, such as one that was retried: it goes first.
    #[error("event {id} waits behind event {earlier} of its incident")]
    Behind {
        /// The event.
        id: EventId,
        /// The first waiting event of its incident.
        earlier: EventId,
    },
    /// The event does not wait: it was settled, or somebody deleted it.
    #[error("event {0} is no longer waiting")]
    NotWaiting(EventId),
    /// A rejected webhook that leaves no room for any other.
    #[error("the body is larger than {MAX_REJECTED_BYTES} bytes, which is all the room that rejected webhooks have")]
    TooLarge,
    /// The queue was closed.
    #[error("the queue is closed, because the bridge is shutting down")]
    Closed,
    /// A value that no row of the bridge's has there.
    #[error("the database {database} failed: {source}")]
    OddValue {
        /// The database.
        database: String,
        /// Which value.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Anything else the database says.
    #[error("the database {database} failed: {source}")]
    Database {
        /// The database.
        database: String,
        /// The database's message.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl QueueError {
    /// Whether the cause is in what was to be read, so that trying again brings the same, while other rows may well be
    /// readable: a damaged page, a sector that the disk cannot read, or a row that the bridge did not write so.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Disk { .. }) || self.is_of_content()
    }

    /// Why one event cannot be read, for an operator who learns that all others can be.
    #[must_use]
    pub fn of_one_event(&self) -> String {
        match self {
            Self::Damaged { database, reason, .. } => {
                format!("a part of the database {database} is damaged ({reason})")
            }
            Self::Disk { database, reason } => {
                format!("the disk does not read a part of the database {database} ({reason})")
            }
            error => error.to_string(),
        }
    }

    /// Whether nothing was committed, and the same may succeed when it is tried again at once.
    pub(super) fn is_interruption(&self) -> bool {
        matches!(self, Self::Interrupted { .. })
    }

    /// Whether the content of the database is damaged: the disk itself did all that it was asked to.
    pub(super) fn is_of_content(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Unreadable { .. } | Self::OddValue { .. })
    }
}
