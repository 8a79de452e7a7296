//! What webhooks bring to the queue, and what became of it.

use chrono::{DateTime, Utc};

use super::{Accepted, NewEvent};
use crate::intake::{Dedup, FollowUp, Prepared};
use crate::pagerduty::event::{EventAction, Note};
use crate::pagerduty::{Event, EventType, WireEvent};

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
        /// When it happened; a resolve that was done in Sentry later closes what it opens.
        happened_at: DateTime<Utc>,
    },
    /// Events for wherever the incident is open.
    FollowUp(FollowUp),
}

/// What became of an [`Incoming`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reception {
    /// These events were queued or folded.
    Queued(Vec<Accepted>),
    /// The same was told a short while ago.
    Repeated,
    /// The bridge knows of no incident that it could be done to.
    NothingOpen,
}

impl Incoming {
    /// A trigger that came by a webhook at `received_at`.
    #[must_use]
    pub fn trigger(prepared: Prepared, received_at: DateTime<Utc>) -> Self {
        let Prepared { event, happened_at, dedup, .. } = prepared;
        let event = NewEvent::new(event, received_at);
        Self { news: News::Event { event, happened_at }, received_at, dedup }
    }

    /// What came by a webhook at `received_at` about an incident that is open already.
    #[must_use]
    pub fn follow_up(follow_up: FollowUp, received_at: DateTime<Utc>) -> Self {
        let dedup = follow_up.dedup.clone();
        Self { news: News::FollowUp(follow_up), received_at, dedup }
    }

    /// An event that repeats nothing.
    #[must_use]
    pub fn event(event: NewEvent) -> Self {
        let received_at = event.received_at;
        Self { news: News::Event { event, happened_at: received_at }, received_at, dedup: Dedup::default() }
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
            service_key: self.service_key.clone(),
            incident_key: self.incident_key.clone(),
            action: EventAction::Resolve(Note::default()),
        };
        Self::new(WireEvent::fit(event).0, self.received_at)
    }

    pub(super) fn is_trigger(&self) -> bool {
        self.event_type == EventType::Trigger
    }
}
