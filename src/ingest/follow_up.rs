//! Events for incidents that are open already.

use chrono::{DateTime, Utc};

use super::Dedup;
use crate::pagerduty::event::EventAction;
use crate::pagerduty::{Destination, Event, EventType, IncidentKey, ServiceKey};

/// An event for every integration where the bridge opened the incident: a resolve, an acknowledge, or a trigger for an
/// issue that is back.
///
/// The webhooks that ask for it carry no tags, so no route can tell where the incident is; the bridge has to remember.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowUp {
    /// The incident.
    pub incident_key: IncidentKey,
    /// What to do to it.
    pub action: EventAction,
    /// When Sentry says that it sent it, by its own clock; `None` where it does not say, or a time that cannot be.
    /// Triggers that Sentry received earlier belong before it, even when they come after it, and the other way round.
    pub happened_at: Option<DateTime<Utc>>,
    /// Where it goes when the bridge knows of no integration; `None`: then nothing is to be done.
    pub fallback: Option<ServiceKey>,
    /// How it is known to repeat another webhook.
    pub dedup: Dedup,
}

impl FollowUp {
    /// What the event does.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.action.event_type()
    }

    /// The event for one integration.
    #[must_use]
    pub fn event_for(&self, destination: Destination) -> Event {
        Event { destination, incident_key: self.incident_key.clone(), action: self.action.clone() }
    }
}
