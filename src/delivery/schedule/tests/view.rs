//! What it looks like from outside.

use super::*;
use crate::delivery::LaneView;

fn lane(bench: &Bench) -> LaneView<Moment> {
    let mut view = bench.schedule.view(bench.now);
    assert_eq!(view.lanes.len(), 1);
    view.lanes.remove(0)
}

#[test]
fn a_key_in_trouble_shows_why_and_until_when_it_backs_off() {
    let mut bench = Bench::new(limits());
    assert_eq!(bench.schedule.view(bench.now), DeliveryView::default());
    bench.arrives(1, "1");
    bench.arrives(2, "2");
    bench.arrives(3, "3");
    assert_eq!(bench.sends(), [1, 2, 3]);
    let fresh = lane(&bench);
    assert_eq!((fresh.service_key, fresh.allowed, fresh.rate, fresh.under_way), (service_key(0), 100, 100, 3));
    assert_eq!((fresh.backs_off_until, fresh.trouble, fresh.last_delivered_at), (None, None, None));

    bench.ends(1, &throttled(None));
    let throttled_at = bench.now;
    let one = lane(&bench);
    assert_eq!((one.allowed, one.rate, one.under_way), (50, 100, 2));
    assert_eq!(one.backs_off_until, Some(throttled_at + seconds(10)));
    assert_eq!(one.trouble.as_deref(), Some("answered 403"));

    bench.now += seconds(1);
    bench.ends(2, &delivered());
    let other = lane(&bench);
    assert_eq!(other.last_delivered_at, Some(bench.now));
    assert_eq!(other.trouble.as_deref(), Some("answered 403"), "what began before it says nothing about it");

    bench.now = throttled_at + seconds(10);
    assert_eq!(lane(&bench).backs_off_until, None, "it has passed");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &delivered());
    bench.ends(3, &refused());
    assert_eq!(lane(&bench).trouble.as_deref(), Some("answered 400"));
    bench.now = throttled_at + seconds(30);
    bench.passes(4);
    let well = lane(&bench);
    assert_eq!((well.allowed, well.under_way, well.trouble), (100, 0, None));
}

#[test]
fn what_failed_is_shown_to_rest_unless_something_else_may_leave() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "1");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &error());
    let rests_until = bench.now + seconds(1);
    assert_eq!(lane(&bench).backs_off_until, Some(rests_until));
    assert_eq!(bench.waits(), Some(seconds(1)), "as it says");
    bench.arrives(2, "2");
    assert_eq!(lane(&bench).backs_off_until, None);
}

#[test]
fn distrust_is_shown_with_its_reason_for_every_key_until_somebody_is_trusted() {
    let mut bench = Bench::new(limits());
    for key in [0, 1] {
        bench.arrives_for(key, 1 + i64::try_from(key).unwrap(), "1");
    }
    assert_eq!(bench.sends(), [1, 2]);
    bench.ends_for(0, 1, &untrusted());
    let view = bench.schedule.view(bench.now);
    assert_eq!(view.untrusted.as_deref(), Some("TLS: expired"));
    let until: Vec<_> = view.lanes.iter().map(|lane| lane.backs_off_until).collect();
    assert_eq!(until, [Some(bench.now + seconds(1)); 2]);
    bench.ends_for(1, 2, &delivered());
    assert!(bench.schedule.view(bench.now).untrusted.is_some(), "it began before");
    bench.wakes();
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &delivered());
    bench.ends_for(1, 2, &untrusted());
    let view = bench.schedule.view(bench.now);
    assert_eq!(view.untrusted, None, "nor does an attempt that nobody knows bring it back");
    assert_eq!(view.lanes[0].backs_off_until, None);
}

#[test]
fn how_an_earlier_run_failed_is_shown_until_something_passes_and_holds_up_nothing() {
    let mut bench = Bench::new(limits());
    bench.schedule.remember_trouble(&service_key(0), "answered 503".to_owned());
    bench.schedule.remember_untrusted("TLS: expired".to_owned());
    assert_eq!(lane(&bench).trouble.as_deref(), Some("answered 503"));
    assert_eq!(bench.schedule.view(bench.now).untrusted.as_deref(), Some("TLS: expired"));
    bench.arrives(1, "1");
    bench.arrives(2, "2");
    assert_eq!(bench.sends(), [1], "one at a time, until it is known that PagerDuty can be trusted");
    bench.ends(1, &delivered());
    assert_eq!(lane(&bench).trouble, None);
    assert_eq!(bench.schedule.view(bench.now).untrusted, None);
    assert_eq!(bench.sends(), [2]);
}
