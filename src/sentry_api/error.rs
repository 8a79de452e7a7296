//! What can go wrong with a call of Sentry's API.

use std::time::Duration;

use thiserror::Error;

use crate::queue::QueueError;

/// Why a call of Sentry's API failed. No variant contains the token, and text from Sentry is truncated and made printable.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SentryApiError {
    /// The connection could not be made, or it broke.
    #[error("Sentry cannot be reached for {call}: {why}")]
    Unreachable {
        /// Method and path.
        call: String,
        /// The network error.
        why: String,
    },
    /// No response within the timeout.
    #[error("Sentry did not answer {call} within {timeout:?}")]
    Timeout {
        /// Method and path.
        call: String,
        /// The timeout.
        timeout: Duration,
    },
    /// A redirect. It is not followed, because the token must not be sent to another server.
    #[error(
        "Sentry answered {call} with a redirect to {to}, which is not followed: set BRIDGE_SENTRY_URL to the root of \
         the Sentry that answers itself"
    )]
    Redirect {
        /// Method and path.
        call: String,
        /// Scheme and host of the redirect's target.
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
        /// The smallest scope that allows the call.
        scope: &'static str,
    },
    /// 404 or 410: this Sentry does not have this endpoint or object, or no longer has it.
    #[error("Sentry does not have {call} ({status})")]
    Gone {
        /// Method and path.
        call: String,
        /// The status.
        status: u16,
    },
    /// 429, after all attempts or with a wait that is too long.
    #[error("Sentry throttles {call} (429) and asks to wait for {wait:?}: try again later")]
    Throttled {
        /// Method and path.
        call: String,
        /// The wait that Sentry asked for.
        wait: Duration,
    },
    /// Any other status.
    #[error("Sentry answered {call} with {status}: {reason}")]
    Status {
        /// Method and path.
        call: String,
        /// The status.
        status: u16,
        /// Sentry's explanation, from the body of the response.
        reason: String,
    },
    /// A response that does not have the documented form.
    #[error("Sentry's answer to {call} cannot be used: {why}")]
    Shape {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        why: String,
    },
}

impl SentryApiError {
    /// Whether the next call may succeed all the same: Sentry answered and accepted the token, but refused this one
    /// resource or did not return a usable one.
    #[must_use]
    pub fn is_about_one_thing(&self) -> bool {
        matches!(self, Self::Forbidden { .. } | Self::Gone { .. } | Self::Status { .. } | Self::Shape { .. })
    }
}

/// Why work that asks Sentry and uses the queue failed, as a sentence.
#[derive(Clone, Debug, Error)]
pub enum SentryTaskError {
    /// Sentry did not answer.
    #[error(transparent)]
    Sentry(#[from] SentryApiError),
    /// The queue cannot be read or written.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Separates what a Sentry does not have from errors: returns `None` for 404 and 410.
///
/// # Errors
///
/// All errors except [`SentryApiError::Gone`].
pub fn optional<T>(answer: Result<T, SentryApiError>) -> Result<Option<T>, SentryApiError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(SentryApiError::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
