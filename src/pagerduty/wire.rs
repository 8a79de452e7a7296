//! The event as the bytes that are queued and sent.

use super::{EventType, IncidentKey, ServiceKey};

/// An event, serialised once: what waits in the queue and what every attempt sends, byte for byte.
///
/// Its body is at most [`WireEvent::MAX_BYTES`] long.
#[derive(Clone, Debug, PartialEq)]
pub struct WireEvent {
    service_key: ServiceKey,
    incident_key: IncidentKey,
    event_type: EventType,
    description: String,
    body: Vec<u8>,
}

impl WireEvent {
    /// The largest body that is sent, in bytes. PagerDuty's page says "512 KB" without saying which; this is safe
    /// under both readings.
    pub const MAX_BYTES: usize = 512_000;

    /// The integration it goes to.
    #[must_use]
    pub fn service_key(&self) -> &ServiceKey {
        &self.service_key
    }

    /// The incident it belongs to.
    #[must_use]
    pub fn incident_key(&self) -> &IncidentKey {
        &self.incident_key
    }

    /// What it does to the incident.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.event_type
    }

    /// The line people read first; empty for events that carry none.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The JSON that is sent.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}
