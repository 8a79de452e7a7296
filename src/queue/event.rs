//! What stands in the queue, as types.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::pagerduty::{Event, EventType, IncidentKey, Rendered, ServiceKey};

/// The number of an event in its queue. A later event has a greater number, and no number is used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventId(i64);

impl EventId {
    /// The event with this number.
    #[must_use]
    pub fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event on its way into the queue. Times are kept to the millisecond.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// The integration it goes to.
    pub service_key: ServiceKey,
    /// The incident it belongs to.
    pub incident_key: IncidentKey,
    /// What it does to the incident.
    pub event_type: EventType,
    /// The line people read first; empty for events that carry none.
    pub description: String,
    /// The JSON every attempt sends, byte for byte.
    pub body: Vec<u8>,
    /// When the webhook came.
    pub received_at: DateTime<Utc>,
}

impl NewEvent {
    /// An event that came by a webhook at `received_at`.
    #[must_use]
    pub fn new(event: &Event, rendered: Rendered, received_at: DateTime<Utc>) -> Self {
        Self {
            service_key: event.destination.key.clone(),
            incident_key: event.incident_key.clone(),
            event_type: event.event_type(),
            description: event.description().map_or_else(String::new, |line| line.as_str().to_owned()),
            body: rendered.bytes,
            received_at,
        }
    }
}

/// What became of an event that was accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// The number it has, or that of the waiting trigger it was folded into.
    pub id: EventId,
    /// How many alerts the event with that number stands for now.
    pub count: u32,
    /// What it does to the incident. A trigger that Sentry resolved before it came is queued as two: itself and a resolve.
    pub event_type: EventType,
}

impl Accepted {
    /// Whether it was folded into a trigger of its incident that waited already.
    #[must_use]
    pub fn is_folded(&self) -> bool {
        self.count > 1
    }
}

/// Tells whoever delivers that an event was committed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// Its number.
    pub id: EventId,
    /// The integration it goes to.
    pub service_key: ServiceKey,
    /// The incident it belongs to.
    pub incident_key: IncidentKey,
    /// What it does to the incident.
    pub event_type: EventType,
    /// When the webhook came.
    pub received_at: DateTime<Utc>,
}

/// An attempt that may be made, from [`Queue::begin`](super::Queue::begin).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Begun {
    /// The JSON to send, byte for byte.
    pub body: Vec<u8>,
    /// When the newest alert that the event stands for came.
    pub received_at: DateTime<Utc>,
}

/// What becomes of an event after an attempt, for [`Queue::settle`](super::Queue::settle). `T` is a time: the scheduler uses
/// its own clock, the queue the wall clock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Disposition<T = DateTime<Utc>> {
    /// PagerDuty accepted the event.
    Delivered {
        /// What is worth knowing about it, shown where a reason is shown.
        note: Option<String>,
    },
    /// PagerDuty will never accept it: it is a dead letter, kept until somebody acts.
    Dead {
        /// PagerDuty's own reason.
        reason: String,
    },
    /// It is sent again at once, and does not count as failed: the connection ended before an answer.
    RetryNow {
        /// How the attempt ended.
        reason: String,
    },
    /// It is sent again.
    Retry {
        /// How the attempt ended.
        reason: String,
        /// When it is to be tried again, for people to see; the queue does not act on it.
        next_attempt_at: T,
        /// For how long in total the event has failed while others of its key were delivered; kept to the millisecond,
        /// replaces what was kept.
        blamed: Duration,
    },
}

impl<T> Disposition<T> {
    /// The same by another clock.
    pub fn by_clock<U>(self, clock: impl FnOnce(T) -> U) -> Disposition<U> {
        match self {
            Self::Delivered { note } => Disposition::Delivered { note },
            Self::Dead { reason } => Disposition::Dead { reason },
            Self::RetryNow { reason } => Disposition::RetryNow { reason },
            Self::Retry { reason, next_attempt_at, blamed } => {
                Disposition::Retry { reason, next_attempt_at: clock(next_attempt_at), blamed }
            }
        }
    }
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// In line.
    Waiting,
    /// A dead letter.
    Dead,
    /// Taken by PagerDuty.
    Delivered,
}

impl State {
    /// The word that people and the database read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dead => "dead",
            Self::Delivered => "delivered",
        }
    }

    /// Reads that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Waiting, Self::Dead, Self::Delivered].into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An event in line: all that a scheduler needs, without the body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WaitingEvent {
    /// Its number.
    pub id: EventId,
    /// The incident it belongs to.
    pub incident_key: IncidentKey,
    /// What it does to the incident.
    pub event_type: EventType,
    /// When the webhook came.
    pub received_at: DateTime<Utc>,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the last of them was begun.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// For how long in total the event itself has been to blame; see [`Disposition::Retry`].
    pub blamed: Duration,
}

/// Everything the queue knows about one event.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number.
    pub id: EventId,
    /// Where it stands.
    pub state: State,
    /// The integration it goes to.
    pub service_key: ServiceKey,
    /// The incident it belongs to.
    pub incident_key: IncidentKey,
    /// What it does to the incident.
    pub event_type: EventType,
    /// The line people read first; empty for events that carry none.
    pub description: String,
    /// The JSON every attempt sends.
    pub body: Vec<u8>,
    /// How many alerts it stands for.
    pub count: u32,
    /// When the newest alert it stands for came.
    pub received_at: DateTime<Utc>,
    /// When the first alert it stands for came.
    pub first_seen: DateTime<Utc>,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the last of them was begun.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// When it is to be tried again; only after an attempt that failed.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// For how long in total the event itself has been to blame; see [`Disposition::Retry`].
    pub blamed: Duration,
    /// Why it is where it is, from its last [`Disposition`].
    pub reason: Option<String>,
    /// When it was delivered or became a dead letter.
    pub finished_at: Option<DateTime<Utc>>,
    /// Of a trigger that PagerDuty had not taken by then: when a resolve of its incident came.
    pub resolved_at: Option<DateTime<Utc>>,
}
