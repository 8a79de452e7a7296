//! The objects that PagerDuty's REST API returns, parsed once. Fields that are not needed are not parsed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use url::Url;

use crate::pagerduty::{ApiVersion, ServiceKey};

/// The type of an integration of the Events API v1.
pub const EVENTS_V1: &str = "generic_events_api_inbound_integration";

/// The type of an integration of the Events API v2.
pub const EVENTS_V2: &str = "events_api_v2_inbound_integration";

/// A reference to an object, with only its id and its name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Reference {
    /// Its id.
    pub id: String,
    /// Its name, if it has one.
    #[serde(default)]
    pub summary: Option<String>,
}

/// A service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct PagerDutyService {
    /// Its id, such as `PIJ90N7`.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its status, which says whether it opens incidents.
    #[serde(default)]
    pub status: ServiceStatus,
    /// Its escalation policy, which says who is notified.
    #[serde(default)]
    pub escalation_policy: Option<Reference>,
    /// Its integrations.
    #[serde(default)]
    pub integrations: Vec<Integration>,
}

/// The status of a service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum ServiceStatus {
    /// In a maintenance window: it opens no incidents.
    Maintenance,
    /// It opens no incidents.
    Disabled,
    /// It opens incidents, whether some are open now or not.
    #[default]
    #[serde(other)]
    Active,
}

/// An integration of a service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Integration {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Its key, if PagerDuty shows it. Integrations that are not of an Events API have keys of another form.
    #[serde(default)]
    pub integration_key: Option<String>,
}

impl Integration {
    /// Its key, if it is one that events can be sent to.
    #[must_use]
    pub fn key(&self) -> Option<ServiceKey> {
        ServiceKey::parse(self.integration_key.as_deref()?).ok()
    }

    /// Whether its type is the one of this Events API.
    #[must_use]
    pub fn is_of(&self, api: ApiVersion) -> bool {
        self.kind.starts_with(integration_type(api))
    }

    /// Whether its type is one of an Events API. Keys of v2 work with v1 as well, as PagerDuty's own agent uses them.
    #[must_use]
    pub fn takes_events(&self) -> bool {
        self.kind.starts_with(EVENTS_V1) || self.kind.starts_with(EVENTS_V2)
    }
}

/// The type of the integrations of an Events API.
#[must_use]
pub fn integration_type(api: ApiVersion) -> &'static str {
    match api {
        ApiVersion::V1 => EVENTS_V1,
        ApiVersion::V2 => EVENTS_V2,
    }
}

/// An incident.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct PagerDutyIncident {
    /// Its id.
    pub id: String,
    /// Its number in the account.
    #[serde(rename = "incident_number", default)]
    pub number: u64,
    /// The address of its page.
    #[serde(default)]
    pub html_url: Option<String>,
    /// `triggered`, `acknowledged` or `resolved`.
    pub status: String,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it was resolved, if it was.
    #[serde(default)]
    pub resolved_at: Option<DateTime<Utc>>,
    /// When it last changed; not present in every response.
    #[serde(default)]
    pub updated_at: Option<DateTime<Utc>>,
    /// Its key; `None` where its alerts have it instead.
    #[serde(default)]
    pub incident_key: Option<String>,
}

impl PagerDutyIncident {
    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.status != "resolved"
    }

    /// The latest time at which it was open, as far as is known; `None` if it still is.
    #[must_use]
    pub fn open_until(&self) -> Option<DateTime<Utc>> {
        (!self.is_open()).then(|| self.resolved_at.or(self.updated_at).unwrap_or(self.created_at))
    }

    /// The address of its page, if that is a web address.
    #[must_use]
    pub fn page(&self) -> Option<String> {
        let url = Url::parse(self.html_url.as_deref()?).ok()?;
        matches!(url.scheme(), "http" | "https").then(|| url.into())
    }
}

/// An alert of an incident.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct IncidentAlert {
    /// `triggered` or `resolved`.
    pub status: String,
    /// Whether a rule keeps it from notifying anybody.
    #[serde(default)]
    pub suppressed: bool,
}

/// A maintenance window.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct MaintenanceWindow {
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// When it ends.
    pub end_time: DateTime<Utc>,
}

/// The service and the integration of each integration key, as far as the services show it.
#[must_use]
pub fn owners(services: Vec<PagerDutyService>) -> BTreeMap<ServiceKey, (PagerDutyService, Integration)> {
    let mut owners = BTreeMap::new();
    for service in services {
        for integration in &service.integrations {
            if let Some(key) = integration.key() {
                owners.insert(key, (service.clone(), integration.clone()));
            }
        }
    }
    owners
}
