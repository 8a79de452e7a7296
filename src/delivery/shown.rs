//! What the worker shows of the deliveries, and how often.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use super::moment::Moment;
use super::view::DeliveryView;

/// How long it stays unchanged at least, however much happens: each key costs a little.
const STAYS: Duration = Duration::from_millis(500);

/// The view that others read.
#[derive(Debug, Default)]
pub(super) struct Shown {
    sender: watch::Sender<DeliveryView>,
    /// The same in the schedule's time, which tells whether something changed.
    last: DeliveryView<Moment>,
    looked: Option<Instant>,
}

impl Shown {
    pub(super) fn subscribe(&self) -> watch::Receiver<DeliveryView> {
        self.sender.subscribe()
    }

    /// When to look again for changes, if that is after `now`.
    pub(super) fn looks_at(&self, now: Instant) -> Option<Instant> {
        self.looked.map(|looked| looked + STAYS).filter(|next| *next > now)
    }

    /// Shows `view`, made when the schedule's clock showed `clock` and others `now` and `utc`.
    pub(super) fn show(&mut self, view: DeliveryView<Moment>, clock: Moment, now: Instant, utc: DateTime<Utc>) {
        self.looked = Some(now);
        if view != self.last {
            self.last = view.clone();
            self.sender.send_replace(view.by_clock(|moment| at_wall_clock(moment, clock, utc)));
        }
    }
}

/// What the wall clock shows at `moment`, if it shows `utc` when the schedule's shows `clock`.
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
    use crate::delivery::LaneView;
    use crate::pagerduty::ServiceKey;

    fn lane(backs_off_until: Option<Moment>, last_delivered_at: Option<Moment>) -> DeliveryView<Moment> {
        let service_key = ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap();
        let (allowed, rate, under_way, trouble, is_refusal) = (60, 120, 1, None, false);
        let lane =
            LaneView { service_key, allowed, rate, under_way, backs_off_until, trouble, is_refusal, last_delivered_at };
        DeliveryView { lanes: vec![lane], ..DeliveryView::default() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_times_of_the_schedule_are_shown_as_those_of_the_wall_clock() {
        let utc: DateTime<Utc> = "2026-11-22T03:00:00Z".parse().unwrap();
        let mut shown = Shown::default();
        let reader = shown.subscribe();
        shown.show(lane(Some(seconds(130)), Some(seconds(95))), seconds(100), Instant::now(), utc);
        let view = reader.borrow();
        assert_eq!(view.lanes[0].backs_off_until, Some("2026-11-22T03:00:30Z".parse().unwrap()));
        assert_eq!(view.lanes[0].last_delivered_at, Some("2026-11-22T02:59:55Z".parse().unwrap()));
        assert_eq!((view.lanes[0].allowed, view.lanes[0].rate, view.lanes[0].under_way), (60, 120, 1));
    }

    #[test]
    fn what_did_not_change_is_not_shown_again_and_changes_are_looked_for_twice_a_second() {
        let mut shown = Shown::default();
        let mut reader = shown.subscribe();
        let now = Instant::now();
        assert_eq!(shown.looks_at(now), None, "at once");
        shown.show(lane(None, Some(seconds(1))), seconds(2), now, Utc::now());
        assert!(reader.has_changed().unwrap());
        assert_eq!(shown.looks_at(now), Some(now + STAYS));
        assert_eq!(shown.looks_at(now + STAYS), None);
        reader.mark_unchanged();
        shown.show(lane(None, Some(seconds(1))), seconds(3), now + STAYS, Utc::now());
        assert!(!reader.has_changed().unwrap());
        assert_eq!(shown.looks_at(now + STAYS), Some(now + 2 * STAYS));
    }
}
