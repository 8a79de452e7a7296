//! PagerDuty's REST API: which service an integration key belongs to, and which incidents exist there.
//!
//! - [`PagerDutyApi`]: the boundary; nothing above it knows of HTTP
//! - [`Client`]: the same over HTTP, one call at a time
//! - [`types`]: what PagerDuty tells, parsed once
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

/// What the bridge asks of PagerDuty's REST API. Every method may fail with any [`ApiError`].
pub trait PagerDutyApi {
    /// The services that the token shows, with their integrations; those whose name holds `name`, where one is given.
    fn services(&self, name: Option<&str>) -> impl Future<Output = Result<Vec<Service>, ApiError>>;
    /// One service, with its integrations.
    fn service(&self, id: &str) -> impl Future<Output = Result<Service, ApiError>>;
    /// The incidents with this key, newest first, at most 100; those of one service, where one is given. It also finds
    /// incidents whose alerts carry the key.
    fn incidents(
        &self,
        key: &IncidentKey,
        service: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Incident>, ApiError>>;
    /// The alerts of an incident that carry this key; none where incidents have no alerts.
    fn alerts(&self, incident: &str, key: &IncidentKey) -> impl Future<Output = Result<Vec<Alert>, ApiError>>;
    /// The maintenance windows in which a service is now.
    fn maintenance(&self, service: &str) -> impl Future<Output = Result<Vec<MaintenanceWindow>, ApiError>>;
    /// The names of those who are on call for an escalation policy, each once.
    fn on_call(&self, policy: &str) -> impl Future<Output = Result<Vec<String>, ApiError>>;
    /// Makes an integration of an Events API on a service. Its key may be missing from the answer:
    /// [`integration`](Self::integration) shows it then.
    fn create_integration(
        &self,
        service: &str,
        api: ApiVersion,
        name: &str,
    ) -> impl Future<Output = Result<Integration, ApiError>>;
    /// One integration of a service.
    fn integration(&self, service: &str, id: &str) -> impl Future<Output = Result<Integration, ApiError>>;
}
