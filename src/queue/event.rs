//! Events in the queue, as types.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::leases::Fence;
use crate::ingest::IgnoreReason;
use crate::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey, with_counts, with_counts_by_parsing};

/// The number of an event. A later event has a greater number, and no number is used twice.
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

/// The outcome of an [`EnqueueRequest`](crate::envelope::EnqueueRequest). `N` is what names an event: its number, or its
/// row in the plan of a batch that is not committed yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Enqueued<N = EventId> {
    /// These events were queued or folded.
    Queued(Vec<EnqueuedEvent<N>>),
    /// Nothing was queued: it repeats another webhook, or there is nothing to do for it.
    Ignored(IgnoreReason),
}

impl Enqueued<usize> {
    /// Replaces the rows by their numbers; `rows` has the number of each row of the plan.
    pub(super) fn numbered(self, rows: &[EventId]) -> Enqueued {
        match self {
            Self::Ignored(reason) => Enqueued::Ignored(reason),
            Self::Queued(events) => {
                let numbered = |EnqueuedEvent { id: row, count, event_type }: EnqueuedEvent<usize>| {
                    Some(EnqueuedEvent { id: *rows.get(row)?, count, event_type })
                };
                Enqueued::Queued(events.into_iter().filter_map(numbered).collect())
            }
        }
    }
}

/// What became of an event that was enqueued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EnqueuedEvent<N = EventId> {
    /// Its number, or the number of the waiting trigger that it was folded into.
    pub id: N,
    /// How many alerts the event with that number stands for now.
    pub count: u32,
    /// What it does to the incident. A trigger whose issue Sentry resolved before the trigger came is queued as two
    /// events: the trigger and a resolve.
    pub event_type: EventType,
}

impl<N> EnqueuedEvent<N> {
    /// Whether it was folded into a trigger of its incident that was already waiting.
    #[must_use]
    pub fn is_folded(&self) -> bool {
        self.count > 1
    }
}

/// An attempt to begin.
#[derive(Clone, Debug)]
pub struct BeginRequest {
    /// The event.
    pub id: EventId,
    /// When it begins.
    pub at: DateTime<Utc>,
    /// Earlier events of its service key that cannot be read. It does not wait for those that belong to its incident.
    pub skipped: Vec<EventId>,
    /// The right by which it begins; `None`: no other bridge uses the queue.
    pub fence: Option<Fence>,
}

impl BeginRequest {
    /// An attempt of a bridge that has the queue to itself, and whose events can all be read.
    #[must_use]
    pub fn new(id: EventId, at: DateTime<Utc>) -> Self {
        Self { id, at, skipped: Vec::new(), fence: None }
    }
}

/// What happens to an event after an attempt.
#[derive(Clone, Debug)]
pub struct SettleRequest {
    /// The event.
    pub id: EventId,
    /// What becomes of it.
    pub disposition: Disposition,
    /// When its attempt ended.
    pub at: DateTime<Utc>,
    /// The fence under which its attempt began; `None` if no other bridge uses the queue.
    pub fence: Option<Fence>,
}

impl SettleRequest {
    /// The end of an attempt of a bridge that has the queue to itself.
    #[must_use]
    pub fn new(id: EventId, disposition: Disposition, at: DateTime<Utc>) -> Self {
        Self { id, disposition, at, fence: None }
    }
}

/// An attempt that may be made, from [`Queue::begin`](super::Queue::begin).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttemptPayload {
    /// The API to send it by.
    pub api: ApiVersion,
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
        /// A remark about the delivery, shown in the place of a reason.
        note: Option<String>,
    },
    /// It is given up, because PagerDuty will never accept it, or because it has failed for too long: it is a dead letter,
    /// kept until somebody acts.
    Dead {
        /// PagerDuty's own reason, or for how long it has failed, and how.
        reason: String,
    },
    /// It is sent again at once, and does not count as failed: the connection ended before a response came.
    RetryNow {
        /// How the attempt ended.
        reason: String,
    },
    /// It is sent again.
    Retry {
        /// How the attempt ended.
        reason: String,
        /// When it is tried again. This is only shown to people; the queue does not act on it.
        next_attempt_at: T,
        /// For how long in total the event has failed while others of its service key were delivered. Stored to the
        /// millisecond; replaces the stored value.
        blamed: Duration,
    },
}

impl<T> Disposition<T> {
    /// Returns the same disposition with its time converted by `clock`.
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

/// The state of an event.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// It is still to be delivered.
    Waiting,
    /// A dead letter.
    Dead,
    /// PagerDuty accepted it.
    Delivered,
}

impl State {
    /// Its name for people and for the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dead => "dead",
            Self::Delivered => "delivered",
        }
    }

    /// Parses that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Dead, Self::Delivered].into_iter().find(|state| state.as_str() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether to requeue dead triggers whose incident was resolved since.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResolvedTriggers {
    /// No: they would open it again.
    Skip,
    /// Yes, because it was explicitly requested.
    Requeue,
}

/// A waiting event: all that the deliveries need, without the body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WaitingEvent {
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
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the last of them was begun.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// For how long in total the event itself has been to blame; see [`Disposition::Retry`].
    pub blamed: Duration,
}

/// Returns the bytes to send for a trigger that stands for `count` alerts, the first of which came at `first_seen`.
///
/// Until the first attempt the counts are stored in columns beside the body, so that folding does not parse JSON. Without
/// `counts_at` the body is parsed, as for bodies that earlier versions stored, which may already contain older counts.
pub(super) fn with_counts_of(
    body: Vec<u8>,
    counts_at: Option<usize>,
    count: u32,
    first_seen: DateTime<Utc>,
) -> Vec<u8> {
    match counts_at {
        _ if count < 2 => body,
        Some(offset) => with_counts(body, offset, count, first_seen),
        None => with_counts_by_parsing(body, count, first_seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"details":{"datetime":"d","url":null}}"#;

    fn sent(counts_at: Option<usize>, count: u32) -> String {
        let first_seen = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        String::from_utf8(with_counts_of(BODY.to_vec(), counts_at, count, first_seen)).unwrap()
    }

    #[test]
    fn a_trigger_of_one_alert_is_sent_as_it_came() {
        assert_eq!(sent(None, 1).as_bytes(), BODY);
        assert_eq!(sent(Some(26), 1).as_bytes(), BODY);
    }

    #[test]
    fn the_counts_are_the_same_with_and_without_a_known_place() {
        let expected =
            r#"{"details":{"datetime":"d","occurrences":17,"first_seen":"2027-01-15T08:00:00.123000Z","url":null}}"#;
        assert_eq!(sent(Some(26), 17), expected);
        assert_eq!(sent(None, 17), expected);
    }
}
