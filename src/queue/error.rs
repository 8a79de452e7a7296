//! The errors of the queue, as sentences for the operator.

use std::error::Error;
use std::sync::Arc;

use super::EventId;
use super::item::MAX_REJECTED_BYTES;

/// An error of the queue. Every caller whose operation was in a failed commit gets a clone of it.
///
/// `database` is the location of the queue, as the operator wrote it and without secrets. `advice` comes from the storage
/// engine and says what the operator has to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// The database cannot be opened at its location.
    #[error("cannot open the database {database}: {reason}; {advice}")]
    CannotOpen {
        /// The database.
        database: String,
        /// Why it cannot be opened.
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
    /// The bridge is not allowed to use the database or to write to it.
    #[error("cannot use the database {database} ({reason}); {advice}")]
    NotWritable {
        /// The database.
        database: String,
        /// The system's message.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// Another bridge uses the same database, which only one bridge may use.
    #[error(
        "another bridge is running on the database {database}; stop it first, or give this one its own BRIDGE_DATABASE_URL"
    )]
    InUse {
        /// The database.
        database: String,
    },
    /// The data that the running bridge has committed is no longer in its place.
    #[error(
        "the database {database} {what} while the bridge runs on it; alerts are refused until the bridge, which keeps \
         trying, has opened it again"
    )]
    Lost {
        /// The database.
        database: String,
        /// What happened to it.
        what: String,
    },
    /// Another process holds a lock for longer than the bridge waits.
    #[error(
        "the database {database} is locked by another process; stop what else has it open (a shell, a copy job); then \
         the bridge goes on by itself"
    )]
    Locked {
        /// The database.
        database: String,
    },
    /// All connections for reading have been in use for longer than a reader waits.
    #[error(
        "all connections for reading the database {database} are in use, or its disk is very slow; try again shortly"
    )]
    Busy {
        /// The database.
        database: String,
    },
    /// The database does not respond: an operation neither completes nor fails.
    #[error(
        "the database {database} has not answered for {seconds} s; check that its disk or network storage still \
         works"
    )]
    Stuck {
        /// The database.
        database: String,
        /// For how long it has not responded, in seconds.
        seconds: u64,
    },
    /// Another bridge now delivers for the event's service key.
    #[error("another bridge now delivers for the service key of event {0}")]
    Fenced(EventId),
    /// The database's server cannot be reached, or is shutting down.
    #[error(
        "the database {database} cannot be reached ({reason}); check that PostgreSQL runs there and lets the bridge \
         connect; then the bridge goes on by itself"
    )]
    Unreachable {
        /// The database.
        database: String,
        /// The message of the system or the server.
        reason: String,
    },
    /// The database's server did not respond in time. The transaction may or may not be committed.
    #[error(
        "the database {database} has not answered within {milliseconds} ms; check that PostgreSQL, its synchronous \
         standby and the network to it still work; then the bridge goes on by itself"
    )]
    TimedOut {
        /// The database.
        database: String,
        /// How long the bridge waited.
        milliseconds: u64,
    },
    /// The database's server accepts no writes.
    #[error(
        "the database {database} accepts no writes: it is a standby, or is set to read-only; BRIDGE_DATABASE_URL has to \
         name the primary server"
    )]
    ReadOnly {
        /// The database.
        database: String,
    },
    /// The database's server accepts no more connections.
    #[error(
        "the database {database} accepts no more connections; raise max_connections of PostgreSQL, or lower \
         BRIDGE_DATABASE_DELIVERY_CONNECTIONS and BRIDGE_DATABASE_READ_CONNECTIONS"
    )]
    NoConnection {
        /// The database.
        database: String,
    },
    /// A transaction was aborted from outside before it was committed. A retry may well succeed.
    #[error("a transaction in the database {database} was interrupted ({reason}); none of it is committed")]
    Interrupted {
        /// The database.
        database: String,
        /// What interrupted it.
        reason: String,
    },
    /// No space is left.
    #[error("the disk with the database {database} is full; free some space there; then the bridge goes on by itself")]
    Full {
        /// The database.
        database: String,
    },
    /// A part of the database is damaged, or it is not a database of the bridge.
    #[error("the database {database} is damaged or is not a database of the bridge ({reason}); {advice}")]
    Damaged {
        /// The database.
        database: String,
        /// The engine's message.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// An operation on the disk failed.
    #[error("the disk with the database {database} failed ({reason}); look into the system's log for the cause")]
    Disk {
        /// The database.
        database: String,
        /// The engine's message.
        reason: String,
    },
    /// The engine may lose committed data.
    #[error("{reason}; {advice}")]
    Unsafe {
        /// Which engine it is, and how it may lose data.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// A newer version of this program has changed the tables.
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
    /// The row of an event contains a value that the bridge does not write.
    #[error(
        "event {id} in the database {database} cannot be read: its column {column} has an invalid value; correct \
         or delete that row"
    )]
    Unreadable {
        /// The database.
        database: String,
        /// The event.
        id: EventId,
        /// The column with that value.
        column: &'static str,
    },
    /// An earlier event of the incident is waiting and goes first, for example a dead letter that was retried.
    #[error("event {id} waits behind event {earlier} of its incident")]
    Behind {
        /// The event.
        id: EventId,
        /// The first waiting event of its incident.
        earlier: EventId,
    },
    /// The event is not waiting: it was settled or deleted.
    #[error("event {0} is no longer waiting")]
    NotWaiting(EventId),
    /// The rejected webhook is larger than all the room for rejected webhooks.
    #[error("the body is larger than {MAX_REJECTED_BYTES} bytes, which is all the room that rejected webhooks have")]
    TooLarge,
    /// The queue was closed.
    #[error("the queue is closed, because the bridge is shutting down")]
    Closed,
    /// A column contains a value that the bridge never writes there.
    #[error("the database {database} failed: {source}")]
    InvalidValue {
        /// The database.
        database: String,
        /// The engine's message, which says which value it is.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Any other error of the database.
    #[error("the database {database} failed: {source}")]
    Database {
        /// The database.
        database: String,
        /// The database's message.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl QueueError {
    /// Whether the cause is in the data that was to be read, so that a retry fails in the same way while other rows may
    /// well be readable: a damaged page, a sector that the disk cannot read, or a row with a value that the bridge does
    /// not write.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Disk { .. }) || self.is_of_content()
    }

    /// Returns why one event cannot be read, in words for an operator who is told that all others can be.
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

    /// Whether nothing was committed and an immediate retry may succeed.
    pub(super) fn is_interruption(&self) -> bool {
        matches!(self, Self::Interrupted { .. })
    }

    /// Whether the content of the database is damaged, although the disk itself worked.
    pub(super) fn is_of_content(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Unreadable { .. } | Self::InvalidValue { .. })
    }
}
