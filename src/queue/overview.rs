//! The queue at a glance: how many events are in each state, what needs attention, and what a committed alert survives.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::EventId;
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
    pub service_keys: Vec<ServiceKeyCounts>,
}

impl Overview {
    /// Adds the numbers of events of `other` to these. The numbers of webhooks are those of `other`.
    pub(super) fn plus(mut self, other: Self) -> Self {
        self.waiting += other.waiting;
        self.dead += other.dead;
        self.delivered += other.delivered;
        self.rejected = other.rejected;
        self.held = other.held;
        self.held_with_token_since = other.held_with_token_since;
        self.oldest_waiting = self.oldest_waiting.into_iter().chain(other.oldest_waiting).min();
        for new in other.service_keys {
            match self.service_keys.binary_search_by(|known| known.service_key.cmp(&new.service_key)) {
                Ok(place) => {
                    let known = &mut self.service_keys[place];
                    known.waiting += new.waiting;
                    known.dead += new.dead;
                    known.delivered += new.delivered;
                    known.oldest_waiting = known.oldest_waiting.or(new.oldest_waiting);
                }
                Err(place) => self.service_keys.insert(place, new),
            }
        }
        self
    }
}

/// How many events of one service key are in each state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceKeyCounts {
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
    pub first: Vec<FirstWaiting>,
    /// The dead letters of each service key that has some, in the order of the keys.
    pub dead: Vec<DeadLetters>,
}

impl Backlog {
    /// The event that has waited longest of those in `first`.
    #[must_use]
    pub fn oldest(&self) -> Option<&FirstWaiting> {
        self.first.iter().min_by_key(|first| (first.since, first.id))
    }
}

/// The first waiting event of a service key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FirstWaiting {
    /// Its number.
    pub id: EventId,
    /// The integration it goes to.
    pub service_key: ServiceKey,
    /// Since when it waits: when the first alert it stands for came, or when it was retried, if it was a dead
    /// letter.
    pub since: DateTime<Utc>,
    /// Whether it was a dead letter that was retried.
    pub is_requeued: bool,
    /// How its last attempt failed, if it did.
    pub reason: Option<String>,
}

/// What is known of one incident, see [`StatusReads::incident`](super::StatusReads::incident).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IncidentSummary {
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

/// What an alert survives once it is answered with 202, and the settings of the database from which that follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Durability {
    /// What it survives.
    pub survives: Survives,
    /// The settings, by their names in the database.
    pub settings: Vec<(&'static str, String)>,
}

/// What a committed alert survives.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Survives {
    /// Only the end of the bridge's process: a crash of the database's machine may lose the alert.
    Nothing,
    /// A crash of the database's machine, but not the loss of its disk.
    Crash,
    /// The loss of the database's machine: another machine stores the alert as well.
    Loss,
}

impl fmt::Display for Survives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "a crash of the database's machine may lose alerts that were answered with 202",
            Self::Crash => {
                "an alert that was answered with 202 survives a crash of the database's machine, but not the loss of its disk"
            }
            Self::Loss => "an alert that was answered with 202 survives the loss of the database's machine",
        })
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.survives)?;
        for (place, (name, value)) in self.settings.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let value = if value.is_empty() { "''" } else { value };
            write!(f, "{separator}{name}={value}")?;
        }
        f.write_str(")")
    }
}
