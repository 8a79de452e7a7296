//! What can go wrong with a call of Sentry's API.

use std::time::Duration;

use thiserror::Error;

/// Why a call of Sentry's API gave nothing. No variant holds the token, and what Sentry says is cut and made printable.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ApiError {
    /// No connection, or one that broke.
    #[error("Sentry cannot be reached for {call}: {why}")]
    Unreachable {
        /// Method and path.
        call: String,
        /// What the network said.
        why: String,
    },
    /// No answer in time.
    #[error("Sentry did not answer {call} within {timeout:?}")]
    Timeout {
        /// Method and path.
        call: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// A redirect, which is not followed: the token is for nobody else.
    #[error(
        "Sentry answered {call} with a redirect to {to}, which is not followed: set BRIDGE_SENTRY_URL to the root of \
         the Sentry that answers itself"
    )]
    Redirect {
        /// Method and path.
        call: String,
        /// Scheme and host of the place it leads to.
        to: String,
    },
    /// 401.
    #[error(
        "Sentry does not know the token of BRIDGE_SENTRY_API_TOKEN (401 for {call}): make one as docs/sentry.md says"
    )]
    Unauthorized {
        /// Method and path.
        call: String,
    },
    /// 403: the token lacks a scope, or its owner a role.
    #[error("the token may not do {call} (403): it needs the scope {scope}, and its owner a role that has it")]
    Forbidden {
        /// Method and path.
        call: String,
        /// The smallest scope that would do.
        scope: &'static str,
    },
    /// 404 or 410: this Sentry has no such thing, or not any more.
    #[error("Sentry has nothing at {call} ({status})")]
    Gone {
        /// Method and path.
        call: String,
        /// The status.
        status: u16,
    },
    /// 429, again and again or for too long.
    #[error("Sentry throttles {call} (429) and asks to wait for {wait:?}: try again later")]
    Throttled {
        /// Method and path.
        call: String,
        /// What Sentry asked for.
        wait: Duration,
    },
    /// Any other status.
    #[error("Sentry answered {call} with {status}: {reason}")]
    Status {
        /// Method and path.
        call: String,
        /// The status.
        status: u16,
        /// What Sentry said about it.
        reason: String,
    },
    /// An answer that is not what the API is documented to answer.
    #[error("Sentry's answer to {call} cannot be used: {why}")]
    Shape {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Tells what a Sentry does not have from what went wrong.
pub trait Absent<T> {
    /// `None` where Sentry has no such thing (404 or 410).
    ///
    /// # Errors
    ///
    /// All errors but [`ApiError::Gone`].
    fn absent(self) -> Result<Option<T>, ApiError>;
}

impl<T> Absent<T> for Result<T, ApiError> {
    fn absent(self) -> Result<Option<T>, ApiError> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(ApiError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
