//! The queue at a glance: how many events are in each state, and what needs attention.

use chrono::{DateTime, Utc};

use super::{EventId, State};
use crate::pagerduty::ServiceKey;

/// How many events are in each state, and since when. The cost of reading it depends on the number of service keys, not
/// on the number of events.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overview {
    /// Waiting events.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Delivered events that are still kept.
    pub delivered: u64,
    /// Webhooks that were rejected and are kept.
    pub rejected: u64,
    /// Webhooks that are held because no known secret made their signature.
    pub held: u64,
    /// When the oldest held webhook with a valid webhook token came.
    pub held_with_token_since: Option<DateTime<Utc>>,
    /// When the alert that has waited longest came, or was retried as a dead letter.
    pub oldest_waiting: Option<DateTime<Utc>>,
    /// The same for each service key that has events, in the order of the keys.
    pub destinations: Vec<Destination>,
}

/// One row of what an engine counts: the numbers of webhooks, which are the same in every row, and one tally of events, if
/// there are any.
pub(super) struct OverviewRow {
    pub(super) rejected: u64,
    pub(super) held: u64,
    pub(super) held_with_token_since: Option<DateTime<Utc>>,
    pub(super) tally: Option<Tally>,
}

/// How many events of one service key are in one state.
pub(super) struct Tally {
    /// `None` if the stored value is not a service key; its events are counted all the same.
    pub(super) service_key: Option<ServiceKey>,
    pub(super) state: State,
    pub(super) events: u64,
    pub(super) oldest_waiting: Option<DateTime<Utc>>,
}

impl Overview {
    /// Adds a row to those before it.
    pub(super) fn with_row(mut self, row: OverviewRow) -> Self {
        self.rejected = row.rejected;
        self.held = row.held;
        self.held_with_token_since = row.held_with_token_since;
        let Some(Tally { service_key, state, events, oldest_waiting }) = row.tally else { return self };
        let total = match state {
            State::Waiting => &mut self.waiting,
            State::Dead => &mut self.dead,
            State::Delivered => &mut self.delivered,
        };
        *total += events;
        self.oldest_waiting = self.oldest_waiting.into_iter().chain(oldest_waiting).min();
        let Some(service_key) = service_key else { return self };
        let place = self.destinations.partition_point(|known| known.service_key < service_key);
        if self.destinations.get(place).is_none_or(|known| known.service_key != service_key) {
            let new = Destination { service_key, waiting: 0, dead: 0, delivered: 0, oldest_waiting: None };
            self.destinations.insert(place, new);
        }
        let destination = &mut self.destinations[place];
        match state {
            State::Waiting => destination.waiting = events,
            State::Dead => destination.dead = events,
            State::Delivered => destination.delivered = events,
        }
        destination.oldest_waiting = destination.oldest_waiting.or(oldest_waiting);
        self
    }
}

/// How many events of one service key are in each state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// The integration.
    pub service_key: ServiceKey,
    /// Waiting events.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Delivered events that are still kept.
    pub delivered: u64,
    /// When the alert that has waited longest came, or was retried as a dead letter.
    pub oldest_waiting: Option<DateTime<Utc>>,
}

/// What needs attention, see [`StatusReads::backlog`](super::StatusReads::backlog).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Backlog {
    /// The first waiting event of each service key that has some, in the order of the keys; some incidents may have been
    /// left out.
    pub first: Vec<FirstInLine>,
    /// The dead letters of each service key that has some, in the order of the keys.
    pub dead: Vec<DeadLetters>,
}

impl Backlog {
    /// The event that has waited longest of those in `first`.
    #[must_use]
    pub fn oldest(&self) -> Option<&FirstInLine> {
        self.first.iter().min_by_key(|first| (first.since, first.id))
    }
}

/// The first waiting event of a service key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FirstInLine {
    /// Its number.
    pub id: EventId,
    /// The integration it goes to.
    pub service_key: ServiceKey,
    /// Since when it waits: when the first alert it stands for came, or when it was retried, if it was a dead
    /// letter.
    pub since: DateTime<Utc>,
    /// Whether it was a dead letter that was retried.
    pub is_revived: bool,
    /// How its last attempt failed, if it did.
    pub reason: Option<String>,
}

/// What is known of one incident, see [`StatusReads::incident`](super::StatusReads::incident).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IncidentState {
    /// Whether it is open at any integration, or will be once its waiting events are delivered.
    pub is_open: bool,
    /// When its newest dead letter for the requested integration was given up.
    pub died_at: Option<DateTime<Utc>>,
    /// The number of its dead letters for the requested integration.
    pub dead: u64,
}

/// The dead letters of one service key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeadLetters {
    /// The integration they were for.
    pub service_key: ServiceKey,
    /// How many there are.
    pub number: u64,
    /// The newest of them.
    pub newest: EventId,
    /// When that one was given up.
    pub died_at: DateTime<Utc>,
    /// Why it was given up.
    pub reason: Option<String>,
}

/// The last message to the fallback webhook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutageNotice {
    /// When it was sent.
    pub told_at: DateTime<Utc>,
    /// Since when PagerDuty takes no events; `None`: the message said that the outage is over.
    pub outage_since: Option<DateTime<Utc>>,
}
