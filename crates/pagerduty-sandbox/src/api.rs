//! The two Events APIs: their paths, the names of their fields, and how they answer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One of PagerDuty's Events APIs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventsApi {
    /// Events API v1.
    V1,
    /// Events API v2.
    V2,
}

impl EventsApi {
    /// The API with this path, if there is one.
    pub(crate) fn of_target(target: &str) -> Option<Self> {
        let path = target.split('?').next().unwrap_or_default();
        [Self::V1, Self::V2].into_iter().find(|api| api.path() == path)
    }

    /// Its path. The date in that of v1 is a version and never changes.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::V1 => crate::PATH,
            Self::V2 => crate::PATH_V2,
        }
    }

    /// The status of a success.
    pub(crate) fn success_status(self) -> u16 {
        match self {
            Self::V1 => 200,
            Self::V2 => 202,
        }
    }

    fn key_member(self) -> &'static str {
        match self {
            Self::V1 => "service_key",
            Self::V2 => "routing_key",
        }
    }

    pub(crate) fn incident_member(self) -> &'static str {
        match self {
            Self::V1 => "incident_key",
            Self::V2 => "dedup_key",
        }
    }

    fn type_member(self) -> &'static str {
        match self {
            Self::V1 => "event_type",
            Self::V2 => "event_action",
        }
    }

    /// The integration key of an event, if it is a string.
    pub(crate) fn service_key(self, event: &Map<String, Value>) -> Option<&str> {
        event.get(self.key_member())?.as_str()
    }

    /// The incident key of an event, if it is a string.
    pub(crate) fn incident_key(self, event: &Map<String, Value>) -> Option<&str> {
        event.get(self.incident_member())?.as_str()
    }

    /// The type of an event, if it is a string.
    pub(crate) fn event_type(self, event: &Map<String, Value>) -> Option<&str> {
        event.get(self.type_member())?.as_str()
    }

    /// The description (v1) or summary (v2) of an event, if it is a string.
    pub(crate) fn description(self, event: &Map<String, Value>) -> Option<&str> {
        match self {
            Self::V1 => event.get("description")?.as_str(),
            Self::V2 => event.get("payload")?.get("summary")?.as_str(),
        }
    }
}
