//! What the deliveries look like from outside: for the status page, the metrics and the bridge's own alarms.

use chrono::{DateTime, Utc};

use crate::pagerduty::ServiceKey;

/// The deliveries at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeliveryView {
    /// A view for each service key that the schedule knows, in the order of the keys.
    pub lanes: Vec<LaneView>,
    /// Why PagerDuty cannot be trusted, as TLS says it, while that is so: nothing is sent then.
    pub untrusted: Option<String>,
}

/// The deliveries for one service key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneView {
    /// The integration.
    pub service_key: ServiceKey,
    /// How many attempts 60 seconds may see now.
    pub allowed: u32,
    /// How many they may see when PagerDuty does not throttle: `BRIDGE_PAGERDUTY_RATE`.
    pub rate: u32,
    /// How many attempts are under way.
    pub under_way: u32,
    /// Nothing is sent before this moment; `None` when it has passed.
    pub backs_off_until: Option<DateTime<Utc>>,
    /// How the last attempt ended, in words, if it failed.
    pub trouble: Option<String>,
    /// When PagerDuty took an event last, in this run of the bridge.
    pub last_delivered_at: Option<DateTime<Utc>>,
}
