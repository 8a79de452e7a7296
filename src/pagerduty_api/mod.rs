//! PagerDuty's REST API: which service an integration key belongs to, and which incidents exist there.
//!
//! - [`PagerDutyApi`]: the boundary; the code above it knows nothing of HTTP
//! - [`PagerDutyRestClient`]: the same over HTTP, one call at a time
//! - [`types`]: the objects that PagerDuty returns, parsed once
//!
//! Sources: PagerDuty's OpenAPI description of August 2026; for `integration_key`, which that leaves out, PagerDuty's own Go
//! client and Terraform provider.

mod client;
pub mod types;

use std::future::Future;
use std::time::Duration;

use thiserror::Error;

pub use client::PagerDutyRestClient;

use crate::pagerduty::{ApiVersion, IncidentKey};
use types::{IncidentAlert, Integration, MaintenanceWindow, PagerDutyIncident, PagerDutyService};

/// The calls that the bridge makes to PagerDuty's REST API. Every method may fail with any [`PagerDutyApiError`].
pub trait PagerDutyApi {
    /// The services that the token can see, with their integrations; if `name` is given, only those whose name contains it.
    fn services(&self, name: Option<&str>) -> impl Future<Output = Result<Vec<PagerDutyService>, PagerDutyApiError>>;
    /// One service, with its integrations.
    fn service(&self, id: &str) -> impl Future<Output = Result<PagerDutyService, PagerDutyApiError>>;
    /// The incidents with this key, newest first, at most 100; if `service` is given, only those of that service. It also
    /// finds incidents whose alerts carry the key.
    fn incidents(
        &self,
        key: &IncidentKey,
        service: Option<&str>,
    ) -> impl Future<Output = Result<Vec<PagerDutyIncident>, PagerDutyApiError>>;
    /// The alerts of an incident that carry this key; none if incidents there have no alerts.
    fn alerts(
        &self,
        incident: &str,
        key: &IncidentKey,
    ) -> impl Future<Output = Result<Vec<IncidentAlert>, PagerDutyApiError>>;
    /// The ongoing maintenance windows of a service.
    fn maintenance(&self, service: &str) -> impl Future<Output = Result<Vec<MaintenanceWindow>, PagerDutyApiError>>;
    /// The names of the people who are on call for an escalation policy, each once.
    fn on_call(&self, policy: &str) -> impl Future<Output = Result<Vec<String>, PagerDutyApiError>>;
    /// Creates an integration of an Events API on a service. If its key is missing from the response,
    /// [`integration`](Self::integration) returns it.
    fn create_integration(
        &self,
        service: &str,
        api: ApiVersion,
        name: &str,
    ) -> impl Future<Output = Result<Integration, PagerDutyApiError>>;
    /// One integration of a service.
    fn integration(&self, service: &str, id: &str) -> impl Future<Output = Result<Integration, PagerDutyApiError>>;
}

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
