//! What webhooks bring to the queue, and what became of it.

use chrono::{DateTime, Utc};

use super::{Accepted, NewEvent};
use crate::ingest::{Dedup, FollowUp, Prepared};
use crate::pagerduty::event::{EventAction, Note};
use crate::pagerduty::{Description, Destination, Event, EventType, IncidentKey, render};

/// What PagerDuty shows of a resolve that its trigger brought with it.
const RESOLVED_BEFORE: &str = "Sentry resolved this before the bridge got the alert";

/// What a webhook brings.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// The news itself.
    pub news: News,
    /// When the webhook came.
    pub received_at: DateTime<Utc>,
    /// How it is known to repeat another webhook.
    pub dedup: Dedup,
}

/// The news of a webhook.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// An event for one integration.
    Event {
        /// The event.
        event: NewEvent,
        /// When Sentry received what it tells of, by Sentry's own clock, if that is known; a resolve that was done in
        /// Sentry later closes what it opens.
        happened_at: Option<DateTime<Utc>>,
    },
    /// Events for wherever the incident is open.
    FollowUp(Box<FollowUp>),
}

/// What became of an [`Incoming`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reception {
    /// These events were queued or folded.
    Queued(Vec<Accepted>),
    /// The same was told a short while ago.
    Repeated,
    /// This very webhook was received before; see [`Dedup::once`].
    Replayed,
    /// Sentry received an alert for the incident after it had sent this resolve.
    Outdated,
    /// The bridge knows of no incident that it could be done to.
    NothingOpen,
}

impl Incoming {
    /// A trigger that came by a webhook at `received_at`.
    #[must_use]
    pub fn trigger(prepared: Prepared, received_at: DateTime<Utc>) -> Self {
        let Prepared { event, rendered, happened_at, dedup, .. } = prepared;
        let event = NewEvent::new(&event, rendered, received_at);
        Self { news: News::Event { event, happened_at }, received_at, dedup }
    }

    /// What came by a webhook at `received_at` about an incident that is open already.
    #[must_use]
    pub fn follow_up(follow_up: FollowUp, received_at: DateTime<Utc>) -> Self {
        let dedup = follow_up.dedup.clone();
        Self { news: News::FollowUp(Box::new(follow_up)), received_at, dedup }
    }

    /// An event that repeats nothing.
    #[must_use]
    pub fn event(event: NewEvent) -> Self {
        let received_at = event.received_at;
        Self { news: News::Event { event, happened_at: None }, received_at, dedup: Dedup::default() }
    }

    /// The incident it is about.
    pub(super) fn incident_key(&self) -> &IncidentKey {
        match &self.news {
            News::Event { event, .. } => &event.incident_key,
            News::FollowUp(follow_up) => &follow_up.incident_key,
        }
    }

    /// What it does to the incident.
    pub(super) fn event_type(&self) -> EventType {
        match &self.news {
            News::Event { event, .. } => event.event_type,
            News::FollowUp(follow_up) => follow_up.event_type(),
        }
    }

    /// How many bytes it takes, roughly.
    pub(super) fn size(&self) -> usize {
        match &self.news {
            News::Event { event, .. } => event.body.len(),
            News::FollowUp(_) => 0,
        }
    }
}

impl NewEvent {
    /// The resolve that follows this trigger, when Sentry resolved the issue meanwhile.
    pub(super) fn resolved(&self) -> Self {
        let event = Event {
            destination: Destination::v1(self.service_key.clone()),
            incident_key: self.incident_key.clone(),
            action: EventAction::Resolve(Note { description: Description::new(RESOLVED_BEFORE) }),
        };
        Self::new(&event, render(&event), self.received_at)
    }

    pub(super) fn is_trigger(&self) -> bool {
        self.event_type == EventType::Trigger
    }
}
