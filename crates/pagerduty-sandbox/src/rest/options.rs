//! What the REST API shows, and how it answers.

use serde::{Deserialize, Serialize};

/// The type of an integration of the Events API v1.
pub(super) const EVENTS_V1: &str = "generic_events_api_inbound_integration";

/// The type of an integration of the Events API v2.
pub(super) const EVENTS_V2: &str = "events_api_v2_inbound_integration";

/// What the REST API shows, and how it answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestOptions {
    /// The token that it accepts; `None`: any.
    pub token: Option<String>,
    /// Whether the token may only read.
    pub read_only: bool,
    /// The maximum number of requests in 60 seconds; PagerDuty documents 960.
    pub limit: usize,
    /// The response to every request, in place of the normal one.
    pub answer: Option<RestAnswer>,
    /// The services of the account. If there are none here, every known integration key has a service of its own.
    pub services: Vec<ServiceOptions>,
}

impl Default for RestOptions {
    fn default() -> Self {
        Self { token: None, read_only: false, limit: 960, answer: None, services: Vec::new() }
    }
}

/// A response with which the REST API rejects every request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RestAnswer {
    /// The status code: 401, 402, 403, 429 or a server error.
    pub status: u16,
    /// For 429: the seconds of the header `ratelimit-reset`. PagerDuty may leave it out.
    #[serde(default)]
    pub reset: Option<u32>,
}

/// A service of the account.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceOptions {
    /// Its id, such as `PIJ90N7`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its status, which decides whether events open incidents.
    #[serde(default)]
    pub status: ServiceStatus,
    /// Whether its incidents have alerts, which then carry the incident key.
    #[serde(default)]
    pub creates_alerts: bool,
    /// Whether a rule suppresses its alerts.
    #[serde(default)]
    pub suppresses: bool,
    /// Its integrations.
    pub integrations: Vec<IntegrationOptions>,
    /// Who is on call for its escalation policy.
    #[serde(default)]
    pub on_call: Vec<String>,
}

impl ServiceOptions {
    /// An active service with one integration of the Events API v1, and one person on call.
    #[must_use]
    pub fn new(id: &str, name: &str, key: &str) -> Self {
        let integration = IntegrationOptions {
            id: format!("PI{}", id.trim_start_matches('P')),
            name: "Sentry".to_owned(),
            kind: EVENTS_V1.to_owned(),
            key: key.to_owned(),
        };
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            status: ServiceStatus::Active,
            creates_alerts: false,
            suppresses: false,
            integrations: vec![integration],
            on_call: vec!["Ada Lovelace".to_owned()],
        }
    }

    /// Whether it opens no incidents at present.
    pub(super) fn is_off(&self) -> bool {
        matches!(self.status, ServiceStatus::Disabled | ServiceStatus::Maintenance)
    }
}

/// The status of a service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceStatus {
    /// It has no open incident.
    #[default]
    Active,
    /// It has acknowledged incidents.
    Warning,
    /// It has triggered incidents.
    Critical,
    /// It is in a maintenance window, and opens no incidents.
    Maintenance,
    /// It is disabled, and opens no incidents.
    Disabled,
}

/// An integration of a service.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IntegrationOptions {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type, such as `generic_events_api_inbound_integration`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its integration key.
    pub key: String,
}
