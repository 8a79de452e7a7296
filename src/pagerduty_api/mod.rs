//! PagerDuty's REST API: which service an integration key belongs to, and which incidents exist there.
//!
//! - [`PagerDutyApi`]: the boundary; the code above it knows nothing of HTTP
//! - [`Client`]: the same over HTTP, one call at a time
//! - [`types`]: the objects that PagerDuty returns, parsed once
//!
//! Sources: PagerDuty's OpenAPI description of August 2026; for `integration_key`, which that leaves out, PagerDuty's own Go
//! client and Terraform provider.

mod client;
mod error;
pub mod types;

use std::future::Future;

pub use client::Client;
pub use error::ApiError;

use crate::pagerduty::{ApiVersion, IncidentKey};
use types::{Alert, Incident, Integration, MaintenanceWindow, Service};

/// The calls that the bridge makes to PagerDuty's REST API. Every method may fail with any [`ApiError`].
pub trait PagerDutyApi {
    /// The services that the token can see, with their integrations; if `name` is given, only those whose name contains it.
    fn services(&self, name: Option<&str>) -> impl Future<Output = Result<Vec<Service>, ApiError>>;
    /// One service, with its integrations.
    fn service(&self, id: &str) -> impl Future<Output = Result<Service, ApiError>>;
    /// The incidents with this key, newest first, at most 100; if `service` is given, only those of that service. It also
    /// finds incidents whose alerts carry the key.
    fn incidents(
        &self,
        key: &IncidentKey,
        service: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Incident>, ApiError>>;
    /// The alerts of an incident that carry this key; none if incidents there have no alerts.
    fn alerts(&self, incident: &str, key: &IncidentKey) -> impl Future<Output = Result<Vec<Alert>, ApiError>>;
    /// The ongoing maintenance windows of a service.
    fn maintenance(&self, service: &str) -> impl Future<Output = Result<Vec<MaintenanceWindow>, ApiError>>;
    /// The names of the people who are on call for an escalation policy, each once.
    fn on_call(&self, policy: &str) -> impl Future<Output = Result<Vec<String>, ApiError>>;
    /// Creates an integration of an Events API on a service. If its key is missing from the response,
    /// [`integration`](Self::integration) returns it.
    fn create_integration(
        &self,
        service: &str,
        api: ApiVersion,
        name: &str,
    ) -> impl Future<Output = Result<Integration, ApiError>>;
    /// One integration of a service.
    fn integration(&self, service: &str, id: &str) -> impl Future<Output = Result<Integration, ApiError>>;
}
