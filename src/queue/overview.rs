//! The queue at a glance.

use chrono::{DateTime, Utc};

use crate::pagerduty::ServiceKey;

/// How much stands where, and since when. What it costs to know depends on the number of service keys and not on that
/// of events.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overview {
    /// Events in line.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Delivered events that are still kept.
    pub delivered: u64,
    /// Webhooks that were rejected and are kept.
    pub rejected: u64,
    /// When the alert came that waits longest.
    pub oldest_waiting: Option<DateTime<Utc>>,
    /// The same for each service key that has events, in the order of the keys.
    pub destinations: Vec<Destination>,
}

/// How much stands where for one service key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// The integration.
    pub service_key: ServiceKey,
    /// Events in line.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Delivered events that are still kept.
    pub delivered: u64,
    /// When the alert came that waits longest.
    pub oldest_waiting: Option<DateTime<Utc>>,
}
