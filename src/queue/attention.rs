//! What of the queue wants somebody's attention.

use chrono::{DateTime, Utc};

use super::EventId;
use crate::pagerduty::ServiceKey;

/// What of the queue wants somebody's attention, see [`Reader::attention`](super::Reader::attention).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attention {
    /// The event that waits longest, taken over the first in line of every service key, where some incidents may have
    /// been left out.
    pub oldest: Option<OldestWaiting>,
    /// The dead letters of each service key that has some, in the order of the keys.
    pub dead: Vec<DeadLetters>,
}

/// The event that waits longest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OldestWaiting {
    /// Its number.
    pub id: EventId,
    /// The integration it goes to.
    pub service_key: ServiceKey,
    /// When the first alert it stands for came.
    pub since: DateTime<Utc>,
    /// How its last attempt failed, if it did.
    pub reason: Option<String>,
}

/// What is known of one incident, see [`Reader::incident`](super::Reader::incident).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IncidentState {
    /// Whether it is open at any integration, or will be once what waits is delivered.
    pub is_open: bool,
    /// When the newest dead letter for it was given up, of those for the integration that was asked for.
    pub died_at: Option<DateTime<Utc>>,
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
    /// Why.
    pub reason: Option<String>,
}
