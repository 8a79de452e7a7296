//! What PostgreSQL's errors mean, as sentences for the operator.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::Error;
use sqlx::error::DatabaseError;

use super::Server;
use crate::queue::QueueError;

/// What to do about a database that refuses the login, or the permissions that the bridge needs.
const ACCESS: &str = "check the user, the password and the database in BRIDGE_DATABASE_URL, and that the user may connect \
     and owns the bridge's tables";

/// What to do about a server that cannot be reached by TLS in the way that the address requires.
const TLS: &str = "check whether the server has `ssl` on and a certificate for this host, and sslmode and sslrootcert in \
     BRIDGE_DATABASE_URL";

/// What an error says about the connection on which it occurred.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PgFailure {
    /// The connection is unusable, and perhaps all others are, too: the server is gone, or is another one now.
    Connection,
    /// The transaction was aborted in favour of another one, and may well succeed when it is retried.
    Conflict,
    /// The statement itself failed.
    Statement,
}

/// Classifies an error, by its error code or its class. Source: PostgreSQL's manual, appendix A.
pub(super) fn failure(error: &Error) -> PgFailure {
    let code = error.as_database_error().and_then(DatabaseError::code);
    match (error, code.as_deref()) {
        (_, Some("40001" | "40P01" | "55P03")) => PgFailure::Conflict,
        // Read-only transaction; a transaction that was idle or went on for too long; administrator shutdown, crash shutdown,
        // cannot connect now.
        (_, Some("25006" | "25P03" | "25P04" | "57P01" | "57P02" | "57P03")) => PgFailure::Connection,
        (_, Some(code)) if code.starts_with("08") => PgFailure::Connection,
        (
            Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(_)
            | Error::WorkerCrashed
            | Error::PoolTimedOut
            | Error::PoolClosed,
            _,
        ) => PgFailure::Connection,
        _ => PgFailure::Statement,
    }
}

/// Whether TLS failed: the server does not support it, or presents a certificate that is not trusted.
fn is_of_tls(error: &Error) -> bool {
    match error {
        Error::Tls(_) => true,
        Error::Io(error) => matches!(error.get_ref(), Some(inner) if inner.is::<rustls::Error>()),
        _ => false,
    }
}

impl Server {
    /// Translates an error of PostgreSQL or of the connection to it.
    pub(super) fn error(&self, error: Error) -> QueueError {
        let database = self.name();
        let code = error.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned);
        let reason = error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        match (&error, code.as_deref()) {
            (_, Some("25006")) => QueueError::ReadOnly { database },
            (_, Some("53100")) => QueueError::Full { database },
            (_, Some("53300")) => QueueError::NoConnection { database },
            (_, Some("28000" | "28P01" | "3D000" | "42501")) => {
                QueueError::NotWritable { database, reason, advice: ACCESS }
            }
            (_, Some("XX001" | "XX002")) => {
                QueueError::Damaged { database, reason, advice: "restore a backup of the PostgreSQL server" }
            }
            (_, Some("42P01" | "42703" | "42883" | "3F000")) => QueueError::Unprepared { database, reason },
            (_, Some("57014")) => self.timed_out(),
            (_, Some("40001" | "40P01" | "55P03")) => QueueError::Interrupted { database, reason },
            (_, Some("25P03" | "25P04" | "57P01" | "57P02" | "57P03")) => QueueError::Unreachable { database, reason },
            (_, Some(code)) if code.starts_with("08") => QueueError::Unreachable { database, reason },
            (Error::PoolTimedOut, _) => QueueError::Busy { database },
            (Error::PoolClosed, _) => QueueError::Closed,
            _ if is_of_tls(&error) => QueueError::NotWritable { database, reason, advice: TLS },
            (Error::Io(_) | Error::Protocol(_), _) => QueueError::Unreachable { database, reason },
            (Error::ColumnDecode { .. }, _) => QueueError::InvalidValue { database, source: Arc::new(error) },
            _ => QueueError::Database { database, source: Arc::new(error) },
        }
    }

    /// The error for a server that did not respond in time.
    pub(super) fn timed_out(&self) -> QueueError {
        let milliseconds = u64::try_from(self.timeout().as_millis()).unwrap_or(u64::MAX);
        QueueError::TimedOut { database: self.name(), milliseconds }
    }
}
