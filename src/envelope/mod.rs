//! Events on their way from a webhook into the queue: what [`ingest`](crate::ingest) decides and
//! [`queue`](crate::queue) commits.

pub mod dedup;

use chrono::{DateTime, Utc};

use crate::pagerduty::event::EventAction;
use crate::pagerduty::{
    ApiVersion, Description, Destination, Event, EventType, IncidentKey, KeyApis, Rendered, ServiceKey, render,
};
pub use dedup::{Dedup, DedupKey};

/// The description that PagerDuty shows for a resolve that is enqueued together with its trigger.
const RESOLVED_BEFORE: &str = "Sentry resolved this before the bridge got the alert";

/// One event on its way through the queue. Times are kept to the millisecond.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The integration it goes to.
    pub service_key: ServiceKey,
    /// The API that `body` is for.
    pub api: ApiVersion,
    /// The incident it belongs to.
    pub incident_key: IncidentKey,
    /// For a trigger of an incident that several issues share: the key of its issue, which keeps the incident open from
    /// now on.
    pub issue_key: Option<IncidentKey>,
    /// What it does to the incident.
    pub event_type: EventType,
    /// The line people read first; empty for events that carry none.
    pub description: String,
    /// The JSON to send, without the counts of a trigger that stands for several alerts.
    pub body: Vec<u8>,
    /// The offset in `body` at which those counts are inserted. Without it they are inserted by parsing `body`, once.
    pub counts_at: Option<usize>,
    /// When the webhook came.
    pub received_at: DateTime<Utc>,
}

impl Envelope {
    /// Renders an event whose webhook came at `received_at`.
    #[must_use]
    pub fn new(event: &Event, received_at: DateTime<Utc>) -> Self {
        let Rendered { bytes: body, counts_at, .. } = render(event);
        Self {
            service_key: event.destination.service_key.clone(),
            api: event.destination.api,
            incident_key: event.incident_key.clone(),
            issue_key: None,
            event_type: event.event_type(),
            description: event.description().map_or_else(String::new, |line| line.as_str().to_owned()),
            body,
            counts_at,
            received_at,
        }
    }

    /// Returns the resolve that follows this trigger if Sentry resolved the issue before the trigger came.
    pub(crate) fn following_resolve(&self) -> Self {
        let event = Event {
            destination: Destination { api: self.api, service_key: self.service_key.clone() },
            incident_key: self.incident_key.clone(),
            action: EventAction::Resolve(Description::new(RESOLVED_BEFORE)),
        };
        Self::new(&event, self.received_at)
    }

    pub(crate) fn is_trigger(&self) -> bool {
        self.event_type == EventType::Trigger
    }
}

/// What a webhook asks the queue to do, for [`Queue::enqueue`](crate::queue::Queue::enqueue).
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most are events, and a decision has all of it in one box")]
pub enum EnqueueRequest {
    /// Enqueue an event for one integration.
    Event {
        /// The event.
        envelope: Envelope,
        /// When Sentry received its own event, for comparison with resolves: always by Sentry's own clock. Without an
        /// event, as for a metric alert, it is when Sentry sent the webhook, because a firing is dated back by its time
        /// window, often to before the end of the last one. `None` if Sentry says neither, or gives a time that cannot
        /// be true. A later resolve in Sentry closes the incident that this event opens.
        sentry_at: Option<DateTime<Utc>>,
        /// How repetitions of the webhook are recognised.
        dedup: Dedup,
    },
    /// Enqueue an event for every integration where the incident is open.
    FollowUp(Box<FollowUp>),
}

impl EnqueueRequest {
    /// Enqueues an event that never counts as a repetition.
    #[must_use]
    pub fn event(envelope: Envelope) -> Self {
        Self::Event { envelope, sentry_at: None, dedup: Dedup::default() }
    }

    /// The incident it is about.
    #[must_use]
    pub fn incident_key(&self) -> &IncidentKey {
        match self {
            Self::Event { envelope, .. } => &envelope.incident_key,
            Self::FollowUp(follow_up) => &follow_up.incident_key,
        }
    }

    /// What it does to the incident.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Event { envelope, .. } => envelope.event_type,
            Self::FollowUp(follow_up) => follow_up.event_type(),
        }
    }

    /// When the webhook came.
    #[must_use]
    pub fn received_at(&self) -> DateTime<Utc> {
        match self {
            Self::Event { envelope, .. } => envelope.received_at,
            Self::FollowUp(follow_up) => follow_up.received_at,
        }
    }

    /// How repetitions of the webhook are recognised.
    #[must_use]
    pub fn dedup(&self) -> &Dedup {
        match self {
            Self::Event { dedup, .. } => dedup,
            Self::FollowUp(follow_up) => &follow_up.dedup,
        }
    }

    /// Its approximate size in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Event { envelope, .. } => envelope.body.len(),
            Self::FollowUp(_) => 0,
        }
    }
}

/// An event for every service key where the bridge opened the incident: a resolve, an acknowledge, or a trigger for an
/// issue that is back.
///
/// The webhooks it is made from carry no tags, so no route can say where the incident is; the queue has to know.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowUp {
    /// The incident of its issue or metric alert. Its issue may share another incident with other issues.
    pub incident_key: IncidentKey,
    /// The shared incident that its issue opens if no incident is known; `None` if the issue has an incident of its own.
    pub shared_key: Option<IncidentKey>,
    /// What to do to it.
    pub action: EventAction,
    /// When Sentry sent the webhook, by Sentry's own clock; `None` if Sentry does not say, or gives a time that cannot be
    /// true. Triggers that Sentry received earlier belong before it, even if the bridge receives them after it, and vice
    /// versa.
    pub sentry_at: Option<DateTime<Utc>>,
    /// When the webhook came.
    pub received_at: DateTime<Utc>,
    /// Where it goes when no service key is known for the incident; `None` for nowhere.
    pub fallback: Option<ServiceKey>,
    /// For a trigger: how the current settings route its issue. Without it the issue is triggered wherever it ever was.
    pub reopening: Option<Reopening>,
    /// The API by which each integration takes events. An open incident is acknowledged and resolved by the APIs that
    /// triggered it.
    pub apis: KeyApis,
    /// How repetitions of the webhook are recognised.
    pub dedup: Dedup,
}

/// How the current settings route an issue that is back. They may have changed since its incidents were opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Reopening {
    /// The integration that its alerts go to now.
    pub service_key: ServiceKey,
    /// Every integration that an alert may go to.
    pub configured: Vec<ServiceKey>,
    /// What the keys of the incidents that issues share begin with; `None` if each issue has an incident of its own.
    pub shared_prefix: Option<String>,
}

impl FollowUp {
    /// The type of the event.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.action.event_type()
    }

    /// The event for one destination.
    #[must_use]
    pub fn event_for(&self, destination: Destination) -> Event {
        Event { destination, incident_key: self.incident_key.clone(), action: self.action.clone() }
    }
}
