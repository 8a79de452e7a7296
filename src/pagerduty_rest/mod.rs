//! PagerDuty's REST API: which service an integration key belongs to, and which incidents exist there.
//!
//! - [`PagerDutyRestClient`]: the calls, over HTTP and one at a time
//! - [`types`]: the objects that PagerDuty returns, parsed once
//!
//! Sources: PagerDuty's OpenAPI description of August 2026; for `integration_key`, which that leaves out, PagerDuty's own Go
//! client and Terraform provider.

mod client;
pub mod types;

use std::time::Duration;

use thiserror::Error;

pub use client::PagerDutyRestClient;

/// Why a call of PagerDuty's REST API failed. No variant holds the token, and PagerDuty's texts are cut and made printable.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PagerDutyApiError {
    /// No connection, one that broke, or no response in time.
    #[error("PagerDuty's REST API cannot be reached for {call}: {why}")]
    Unreachable {
        /// Method and path.
        call: String,
        /// The network error.
        why: String,
    },
    /// A redirect, which is not followed: the token must not go to another server.
    #[error(
        "PagerDuty's REST API answered {call} with a redirect: set BRIDGE_PAGERDUTY_API_URL to the address that it redirects to"
    )]
    Redirect {
        /// Method and path.
        call: String,
    },
    /// 401.
    #[error(
        "PagerDuty does not know the token of BRIDGE_PAGERDUTY_API_TOKEN (401 for {call}): make a read-only REST API key \
         under Integrations > API Access Keys"
    )]
    Unauthorized {
        /// Method and path.
        call: String,
    },
    /// 402: the plan of the account does not include this.
    #[error("the plan of this PagerDuty account does not include what {call} needs (402)")]
    NotInPlan {
        /// Method and path.
        call: String,
    },
    /// 403.
    #[error("the token of BRIDGE_PAGERDUTY_API_TOKEN may not do {call} (403): {needs}")]
    Forbidden {
        /// Method and path.
        call: String,
        /// What the operator should use instead.
        needs: &'static str,
    },
    /// 404.
    #[error("PagerDuty has nothing at {call} (404)")]
    NotFound {
        /// Method and path.
        call: String,
    },
    /// 429.
    #[error("PagerDuty's REST API throttles {call} (429): try again later")]
    Throttled {
        /// Method and path.
        call: String,
        /// How long PagerDuty asked to wait, if it did.
        wait: Option<Duration>,
    },
    /// Any other status.
    #[error("PagerDuty's REST API answered {call} with {status}: {reason}")]
    Status {
        /// Method and path.
        call: String,
        /// The status.
        status: u16,
        /// What PagerDuty said about it.
        reason: String,
    },
    /// A response that does not have the documented shape.
    #[error("the answer of PagerDuty's REST API to {call} cannot be used: {why}")]
    Shape {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        why: String,
    },
}

impl PagerDutyApiError {
    /// Whether every call will fail until an operator changes a setting or the token.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Forbidden { .. } | Self::Redirect { .. })
    }
}
