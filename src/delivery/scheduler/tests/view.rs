//! The scheduler's state as people and metrics see it.

use super::*;
use crate::delivery::KeyView;

fn key_view(bench: &Bench) -> KeyView<Moment> {
    let mut view = bench.scheduler.view(bench.now);
    assert_eq!(view.keys.len(), 1);
    view.keys.remove(0)
}

#[test]
fn a_key_that_fails_shows_why_and_until_when_it_backs_off() {
    let mut bench = Bench::new(limits());
    assert_eq!(bench.scheduler.view(bench.now), DeliveryView::default());
    bench.arrives(1, "1");
    bench.arrives(2, "2");
    bench.arrives(3, "3");
    assert_eq!(bench.sends(), [1, 2, 3]);
    let fresh = key_view(&bench);
    assert_eq!((fresh.service_key, fresh.allowed, fresh.rate, fresh.in_flight), (service_key(0), 100, 100, 3));
    assert_eq!((fresh.backs_off_until, fresh.last_failure, fresh.last_delivered_at), (None, None, None));

    bench.ends(1, &throttled(None));
    let throttled_at = bench.now;
    let one = key_view(&bench);
    assert_eq!((one.allowed, one.rate, one.in_flight), (50, 100, 2));
    assert_eq!(one.backs_off_until, Some(throttled_at + seconds(10)));
    assert_eq!(one.last_failure.as_deref(), Some("answered 403"));

    bench.now += seconds(1);
    bench.ends(2, &delivered());
    let other = key_view(&bench);
    assert_eq!(other.last_delivered_at, Some(bench.now));
    assert_eq!(other.last_failure.as_deref(), Some("answered 403"), "what began before it says nothing about it");

    bench.now = throttled_at + seconds(10);
    assert_eq!(key_view(&bench).backs_off_until, None, "it has passed");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &delivered());
    bench.ends(3, &refused());
    assert_eq!(key_view(&bench).last_failure.as_deref(), Some("answered 400"));
    bench.now = throttled_at + seconds(30);
    bench.passes(4);
    let well = key_view(&bench);
    assert_eq!((well.allowed, well.in_flight, well.last_failure), (100, 0, None));
}

#[test]
fn what_failed_is_shown_to_rest_unless_something_else_may_leave() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "1");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &error());
    let rests_until = bench.now + seconds(1);
    assert_eq!(key_view(&bench).backs_off_until, Some(rests_until));
    assert_eq!(bench.waits(), Some(seconds(1)), "as it says");
    bench.arrives(2, "2");
    assert_eq!(key_view(&bench).backs_off_until, None);
}

#[test]
fn a_tls_error_is_shown_with_its_reason_for_every_key_until_somebody_is_trusted() {
    let mut bench = Bench::new(limits());
    for key in [0, 1] {
        bench.arrives_for(key, 1 + i64::try_from(key).unwrap(), "1");
    }
    assert_eq!(bench.sends(), [1, 2]);
    bench.ends_for(0, 1, &untrusted());
    let view = bench.scheduler.view(bench.now);
    assert_eq!(view.untrusted.as_deref(), Some("TLS: expired"));
    let until: Vec<_> = view.keys.iter().map(|key| key.backs_off_until).collect();
    assert_eq!(until, [Some(bench.now + seconds(1)); 2]);
    bench.ends_for(1, 2, &delivered());
    assert!(bench.scheduler.view(bench.now).untrusted.is_some(), "it began before");
    bench.wakes();
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &delivered());
    bench.ends_for(1, 2, &untrusted());
    let view = bench.scheduler.view(bench.now);
    assert_eq!(view.untrusted, None, "nor does an attempt that nobody knows bring it back");
    assert_eq!(view.keys[0].backs_off_until, None);
}

#[test]
fn how_an_earlier_run_failed_is_shown_until_something_passes_and_holds_up_nothing() {
    let mut bench = Bench::new(limits());
    bench.scheduler.restore_failure(&service_key(0), "answered 503".to_owned(), false);
    bench.scheduler.restore_untrusted("TLS: expired".to_owned());
    assert_eq!(key_view(&bench).last_failure.as_deref(), Some("answered 503"));
    assert_eq!(bench.scheduler.view(bench.now).untrusted.as_deref(), Some("TLS: expired"));
    bench.arrives(1, "1");
    bench.arrives(2, "2");
    assert_eq!(bench.sends(), [1], "one at a time, until it is known that PagerDuty can be trusted");
    bench.ends(1, &delivered());
    assert_eq!(key_view(&bench).last_failure, None);
    assert_eq!(bench.scheduler.view(bench.now).untrusted, None);
    assert_eq!(bench.sends(), [2]);
}
