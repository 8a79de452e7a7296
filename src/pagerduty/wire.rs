//! The event as the bytes that are queued and sent.

use super::api::Rendered;
use super::cut::Cut;
use super::event::Event;
use super::{EventType, IncidentKey, ServiceKey, fit};

/// An event, serialised once: what waits in the queue and what every attempt sends, byte for byte.
///
/// Its body is at most [`WireEvent::MAX_BYTES`] long.
#[derive(Clone, Debug, PartialEq)]
pub struct WireEvent {
    service_key: ServiceKey,
    incident_key: IncidentKey,
    event_type: EventType,
    description: String,
    rendered: Rendered,
}

impl WireEvent {
    /// The largest body that is sent, in bytes. PagerDuty's page says "512 KB" without saying which; this is safe
    /// under both readings.
    pub const MAX_BYTES: usize = 512_000;

    /// The longest address that is sent, in bytes. PagerDuty tells no limit; this is what browsers and proxies take.
    pub const MAX_ADDRESS: usize = 2_000;

    /// Serialises the event, and where it is larger than [`WireEvent::MAX_BYTES`], without what helps least: the
    /// outermost frames go first, then the longest texts are cut, then the last tags and rules go.
    ///
    /// Also tells what was cut, including a description that was cut before.
    #[must_use]
    pub fn fit(mut event: Event) -> (Self, Vec<Cut>) {
        let (rendered, cuts) = fit::fit(&mut event);
        let event_type = event.event_type();
        let description = event.description().map_or_else(String::new, |line| line.as_str().to_owned());
        let Event { service_key, incident_key, .. } = event;
        (Self { service_key, incident_key, event_type, description, rendered }, cuts)
    }

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
        &self.rendered.bytes
    }

    /// The JSON that is sent, and where counts are inserted into it.
    #[must_use]
    pub fn into_rendered(self) -> Rendered {
        self.rendered
    }

    /// The JSON that is sent, without a copy.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.rendered.bytes
    }
}
