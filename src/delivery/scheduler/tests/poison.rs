//! Events that fail while others pass.

use super::*;

/// Event 1 failed, another passed, and event 1 failed again.
fn with_a_quarantined_event(limits: DeliveryLimits) -> Bench {
    let mut bench = Bench::new(limits);
    bench.arrives(1, "1");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &error());
    bench.passes(2);
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &error());
    bench
}

#[test]
fn a_quarantined_event_waits_longer_and_longer_up_to_a_minute_and_the_others_go_on() {
    let mut bench = with_a_quarantined_event(limits());
    for (id, rest) in (10..).zip([4, 8, 16, 32, 60, 60]) {
        bench.passes(id);
        assert_eq!(bench.waits(), Some(seconds(rest - 1)), "a second of it is over");
        bench.wakes();
        assert_eq!(bench.sends(), [1]);
        bench.ends(1, &error());
    }
}

#[test]
fn an_event_that_fails_for_too_long_while_others_pass_is_given_up_with_the_reason() {
    let mut bench = with_a_quarantined_event(limits());
    let began = bench.now;
    let mut id = 10;
    let reason = loop {
        bench.passes(id);
        id += 1;
        bench.wakes();
        assert_eq!(bench.sends(), [1]);
        match bench.ends(1, &error()) {
            Disposition::Retry { blamed, .. } => assert!(blamed < minutes(10)),
            Disposition::Dead { reason } => break reason,
            disposition @ (Disposition::Delivered { .. } | Disposition::RetryNow { .. }) => panic!("{disposition:?}"),
        }
        assert!(bench.now < began + minutes(12), "never given up");
    };
    assert!(bench.now >= began + minutes(10) - seconds(1));
    assert_eq!(
        reason,
        "answered 500; given up after it failed for 10m 1s while other events of its key were delivered"
    );
    bench.arrives(500, "1");
    assert_eq!(bench.sends(), [500], "its incident goes on");
}

#[test]
fn nobody_is_given_up_in_an_outage_however_long_not_even_a_quarantined_event() {
    let mut bench = with_a_quarantined_event(limits());
    let end = bench.now + minutes(100_000);
    bench.arrives(3, "3");
    while bench.now < end {
        for id in bench.sends() {
            assert!(matches!(bench.ends(id, &error()), Disposition::Retry { .. }), "event {id} was given up");
        }
        bench.now += minutes(5);
    }
}

#[test]
fn after_a_restart_too_nobody_is_given_up_unless_others_pass() {
    for outcome in [error(), unreachable()] {
        let mut bench = Bench::new(limits());
        bench.scheduler.read_on(&service_key(0));
        assert_eq!(bench.loads(), Some(0));
        bench.loaded(&[WaitingEvent { attempts: 50, blamed: minutes(20), ..waiting(1, "1") }], true);
        for _ in 0..3 {
            bench.now += minutes(2);
            assert_eq!(bench.sends(), [1]);
            assert!(matches!(bench.ends(1, &outcome), Disposition::Retry { .. }));
        }
    }
}

#[test]
fn what_never_reached_pagerduty_is_never_given_up_though_others_pass() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "1");
    for id in 2..200 {
        assert_eq!(bench.sends(), [1]);
        assert!(matches!(bench.ends(1, &unreachable()), Disposition::Retry { blamed: Duration::ZERO, .. }));
        bench.passes(id);
        bench.now += minutes(2);
    }
}

#[test]
fn a_quarantined_event_gets_each_tenth_turn_when_others_are_always_waiting() {
    let mut bench = with_a_quarantined_event(DeliveryLimits { in_flight_per_key: 1, ..limits() });
    bench.now += minutes(5);
    for id in 10..60 {
        bench.arrives(id, &id.to_string());
    }
    let mut turns = Vec::new();
    for turn in 0..30 {
        let [id] = *bench.sends() else { panic!("one at a time") };
        if id == 1 {
            turns.push(turn);
        }
        bench.ends(id, &if id == 1 { error() } else { delivered() });
        bench.now += minutes(5);
    }
    let first = turns[0];
    assert!(first < 10);
    assert_eq!(turns, [first, first + 10, first + 20]);
}

/// Events 1 to 8 are quarantined, and their wait is over.
fn with_eight_quarantined_events(limits: DeliveryLimits) -> Bench {
    let mut bench = Bench::new(limits);
    for id in 1..=8 {
        bench.arrives(id, &id.to_string());
    }
    for other in [100, 101] {
        assert_eq!(bench.sends().len(), 8);
        for id in 1..=8 {
            bench.ends(id, &error());
        }
        bench.passes(other);
    }
    assert_eq!(bench.sends(), [] as [i64; 0]);
    bench.now += minutes(2);
    bench
}

#[test]
fn quarantined_events_leave_half_of_the_places_to_others() {
    let mut bench = with_eight_quarantined_events(limits());
    assert_eq!(bench.sends().len(), 4);
    for id in 200..210 {
        bench.arrives(id, &id.to_string());
    }
    assert_eq!(bench.sends(), [200, 201, 202, 203]);
}

#[test]
fn quarantined_events_leave_half_of_the_rate_to_others() {
    let mut bench = with_eight_quarantined_events(DeliveryLimits { rate: 20, ..limits() });
    let mut attempts = 0;
    for other in 200..230 {
        for id in bench.sends() {
            attempts += u32::from(id < 100);
            bench.ends(id, &if id < 100 { error() } else { delivered() });
        }
        if other % 3 == 0 {
            bench.arrives(other, &other.to_string());
        }
        bench.now += seconds(2);
    }
    assert!((8..=11).contains(&attempts), "{attempts} attempts of quarantined events in a minute");
}

#[test]
fn a_quarantined_event_that_passes_releases_two_others() {
    let mut bench = with_eight_quarantined_events(limits());
    let sent = bench.sends();
    assert_eq!(sent.len(), 4, "half of the places");
    bench.ends(sent[0], &delivered());
    assert_eq!(bench.sends().len(), 2, "besides the three that are in flight");
}

#[test]
fn what_was_blamed_before_a_restart_stays_behind_the_others_and_goes_on_resting() {
    let mut bench = Bench::new(limits());
    bench.scheduler.read_on(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    let quarantined = WaitingEvent { attempts: 5, blamed: minutes(9), ..waiting(1, "1") };
    let victim = WaitingEvent { attempts: 5, ..waiting(2, "2") };
    bench.loaded(&[quarantined, victim, waiting(3, "3")], true);
    assert_eq!(bench.sends(), [2, 3, 1]);
    bench.ends(2, &delivered());
    bench.ends(1, &error());
    bench.now += seconds(5);
    assert_eq!(bench.sends(), [] as [i64; 0]);
}
