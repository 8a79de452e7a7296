//! What the deliveries look like from outside: for the status page, the metrics and the bridge's own alarms.

use chrono::{DateTime, Utc};

use crate::pagerduty::ServiceKey;

/// The deliveries at one moment. The schedule makes it in its own time, and the worker in that of the wall clock.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeliveryView<T = DateTime<Utc>> {
    /// A view for each service key that the schedule knows, in the order of the keys.
    pub lanes: Vec<LaneView<T>>,
    /// Why PagerDuty cannot be trusted, as TLS says it, while that is so: nothing is sent then.
    pub untrusted: Option<String>,
    /// What waits and cannot be read.
    pub unreadable: UnreadableView,
}

/// What waits and cannot be read, so that it is not delivered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UnreadableView {
    /// How many events.
    pub events: u64,
    /// How many service keys there are of whose lines nothing can be read.
    pub lines: u64,
    /// How many events PagerDuty took or refused that damage keeps from being marked so: they are sent again after the
    /// next start.
    pub unsettled: u64,
    /// Why it cannot be read, of one of them; `None` where there are none.
    pub reason: Option<String>,
}

/// The deliveries for one service key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneView<T = DateTime<Utc>> {
    /// The integration.
    pub service_key: ServiceKey,
    /// How many attempts 60 seconds may see now.
    pub allowed: u32,
    /// How many they may see when PagerDuty does not throttle: `BRIDGE_PAGERDUTY_RATE`.
    pub rate: u32,
    /// How many attempts are under way.
    pub under_way: u32,
    /// Nothing that waits is sent before this moment, because attempts failed; `None` when it has passed. After a
    /// single failure an event that comes meanwhile is tried at once.
    pub backs_off_until: Option<T>,
    /// How the last attempt ended, in words, if it failed; also while the key backs off for what failed before it.
    pub trouble: Option<String>,
    /// Whether that was a refusal of one event, which holds up no other.
    pub is_refusal: bool,
    /// When PagerDuty took an event last, in this run of the bridge.
    pub last_delivered_at: Option<T>,
}

impl<T> DeliveryView<T> {
    /// The same by another clock.
    #[must_use]
    pub fn by_clock<U>(self, clock: impl Fn(T) -> U) -> DeliveryView<U> {
        let lanes = self.lanes.into_iter().map(|lane| LaneView {
            service_key: lane.service_key,
            allowed: lane.allowed,
            rate: lane.rate,
            under_way: lane.under_way,
            backs_off_until: lane.backs_off_until.map(&clock),
            trouble: lane.trouble,
            is_refusal: lane.is_refusal,
            last_delivered_at: lane.last_delivered_at.map(&clock),
        });
        DeliveryView { lanes: lanes.collect(), untrusted: self.untrusted, unreadable: self.unreadable }
    }
}
