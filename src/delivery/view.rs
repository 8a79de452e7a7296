//! The deliveries as the status page, the metrics and the alarms see them.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use super::Moment;
use crate::pagerduty::ServiceKey;

/// The minimum time between two views, however much changes: building a view costs a little for each key.
const INTERVAL: Duration = Duration::from_millis(500);

/// The deliveries at one moment. The scheduler builds the view with times of its own clock, and the worker publishes it
/// with wall-clock times.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeliveryView<T = DateTime<Utc>> {
    /// A view for each service key that the scheduler knows, in the order of the keys.
    pub keys: Vec<KeyView<T>>,
    /// The TLS error because of which PagerDuty is not trusted at present; nothing is sent meanwhile.
    pub untrusted: Option<String>,
    /// The waiting events that cannot be read.
    pub unreadable: UnreadableView,
}

/// The waiting events that cannot be read and are therefore not delivered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UnreadableView {
    /// The number of events that cannot be read.
    pub events: u64,
    /// The number of service keys whose waiting events cannot be read at all.
    pub keys: u64,
    /// The number of events that PagerDuty accepted or rejected, but that cannot be marked so because the database is
    /// damaged: they are sent again after the next start.
    pub unsettled: u64,
    /// Why one of them cannot be read; `None` if there are none.
    pub reason: Option<String>,
}

/// The deliveries for one service key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyView<T = DateTime<Utc>> {
    /// The service key.
    pub service_key: ServiceKey,
    /// How many attempts are allowed within 60 seconds at present.
    pub allowed: u32,
    /// How many are allowed while PagerDuty does not throttle: `BRIDGE_PAGERDUTY_RATE`.
    pub rate: u32,
    /// How many attempts are in flight.
    pub in_flight: u32,
    /// No waiting event is sent before this moment, because attempts failed; `None` when it has passed. After a single
    /// failure, an event that arrives meanwhile is still tried at once.
    pub backs_off_until: Option<T>,
    /// Why the last attempt failed, if it did. It is kept after a success while the key still backs off because of an
    /// earlier failure.
    pub last_failure: Option<String>,
    /// Whether that was a permanent failure of one event, which does not delay other events.
    pub is_permanent: bool,
    /// Whether PagerDuty asked to slow down, which means that it can be reached.
    pub is_throttled: bool,
    /// When PagerDuty last accepted an event, in this run of the bridge.
    pub last_delivered_at: Option<T>,
}

impl<T> DeliveryView<T> {
    /// Converts the times of the view to another clock.
    fn by_clock<U>(self, clock: impl Fn(T) -> U) -> DeliveryView<U> {
        let keys = self.keys.into_iter().map(|key| KeyView {
            service_key: key.service_key,
            allowed: key.allowed,
            rate: key.rate,
            in_flight: key.in_flight,
            backs_off_until: key.backs_off_until.map(&clock),
            last_failure: key.last_failure,
            is_permanent: key.is_permanent,
            is_throttled: key.is_throttled,
            last_delivered_at: key.last_delivered_at.map(&clock),
        });
        DeliveryView { keys: keys.collect(), untrusted: self.untrusted, unreadable: self.unreadable }
    }
}

/// Publishes the view to its readers.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    sender: watch::Sender<DeliveryView>,
    /// The last published view in the scheduler's time, by which changes are detected.
    last: DeliveryView<Moment>,
    published_at: Option<Instant>,
}

impl Publisher {
    pub(super) fn subscribe(&self) -> watch::Receiver<DeliveryView> {
        self.sender.subscribe()
    }

    /// When the next view is due, if that is after `now`.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        self.published_at.map(|last| last + INTERVAL).filter(|next| *next > now)
    }

    /// Publishes `view`, which was built when the scheduler's clock showed `clock`, the monotonic clock `now` and the wall
    /// clock `utc`.
    pub(super) fn publish(&mut self, view: DeliveryView<Moment>, clock: Moment, now: Instant, utc: DateTime<Utc>) {
        self.published_at = Some(now);
        if view != self.last {
            self.last = view.clone();
            self.sender.send_replace(view.by_clock(|moment| at_wall_clock(moment, clock, utc)));
        }
    }
}

/// Returns the wall-clock time at `moment`, given that the wall clock shows `utc` when the scheduler's clock shows
/// `clock`.
fn at_wall_clock(moment: Moment, clock: Moment, utc: DateTime<Utc>) -> DateTime<Utc> {
    let delta = |apart| TimeDelta::from_std(apart).unwrap_or(TimeDelta::MAX);
    let at = match moment.checked_sub(clock) {
        Some(ahead) => utc.checked_add_signed(delta(ahead)),
        None => utc.checked_sub_signed(delta(clock.saturating_sub(moment))),
    };
    at.unwrap_or(utc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_key(backs_off_until: Option<Moment>, last_delivered_at: Option<Moment>) -> DeliveryView<Moment> {
        let key = KeyView {
            service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
            allowed: 60,
            rate: 120,
            in_flight: 1,
            backs_off_until,
            last_failure: None,
            is_permanent: false,
            is_throttled: false,
            last_delivered_at,
        };
        DeliveryView { keys: vec![key], ..DeliveryView::default() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_times_of_the_schedule_are_shown_as_those_of_the_wall_clock() {
        let utc: DateTime<Utc> = "2026-11-22T03:00:00Z".parse().unwrap();
        let mut publisher = Publisher::default();
        let reader = publisher.subscribe();
        publisher.publish(one_key(Some(seconds(130)), Some(seconds(95))), seconds(100), Instant::now(), utc);
        let view = reader.borrow();
        assert_eq!(view.keys[0].backs_off_until, Some("2026-11-22T03:00:30Z".parse().unwrap()));
        assert_eq!(view.keys[0].last_delivered_at, Some("2026-11-22T02:59:55Z".parse().unwrap()));
        assert_eq!((view.keys[0].allowed, view.keys[0].rate, view.keys[0].in_flight), (60, 120, 1));
    }

    #[test]
    fn what_did_not_change_is_not_shown_again_and_changes_are_looked_for_twice_a_second() {
        let mut publisher = Publisher::default();
        let mut reader = publisher.subscribe();
        let now = Instant::now();
        assert_eq!(publisher.next_at(now), None, "at once");
        publisher.publish(one_key(None, Some(seconds(1))), seconds(2), now, Utc::now());
        assert!(reader.has_changed().unwrap());
        assert_eq!(publisher.next_at(now), Some(now + INTERVAL));
        assert_eq!(publisher.next_at(now + INTERVAL), None);
        reader.mark_unchanged();
        publisher.publish(one_key(None, Some(seconds(1))), seconds(3), now + INTERVAL, Utc::now());
        assert!(!reader.has_changed().unwrap());
        assert_eq!(publisher.next_at(now + INTERVAL), Some(now + 2 * INTERVAL));
    }
}
