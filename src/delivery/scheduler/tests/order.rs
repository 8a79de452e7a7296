//! Order within an incident, and turns among incidents and keys.

use super::*;

#[test]
fn the_next_event_of_an_incident_leaves_only_after_the_disposition_of_the_one_before_is_committed() {
    let mut bench = Bench::new(limits());
    for id in 1..=3 {
        bench.arrives(id, "same");
    }
    assert_eq!(bench.sends(), [1]);
    let disposition = bench.answered(1, &delivered());
    assert_eq!(bench.sends(), [] as [i64; 0], "a crash now would send the first again, behind the second");
    bench.settled(1, &disposition);
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn an_event_that_failed_keeps_its_place_before_the_later_ones_of_its_incident() {
    for outcome in [error(), unreachable(), untrusted(), throttled(None)] {
        let mut bench = Bench::new(limits());
        bench.arrives(1, "same");
        bench.arrives(2, "same");
        assert_eq!(bench.sends(), [1]);
        assert!(matches!(bench.ends(1, &outcome), Disposition::Retry { .. }));
        bench.wakes();
        assert_eq!(bench.sends(), [1], "{outcome:?}");
        bench.ends(1, &delivered());
        assert_eq!(bench.sends(), [2], "{outcome:?}");
    }
}

#[test]
fn a_dead_letter_makes_way_for_the_next_event_of_its_incident() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "same");
    bench.arrives(2, "same");
    assert_eq!(bench.sends(), [1]);
    assert_eq!(bench.ends(1, &refused()), Disposition::Dead { reason: "answered 400".to_owned() });
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn incidents_leave_oldest_first_and_side_by_side() {
    let mut bench = Bench::new(limits());
    for (id, incident) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
        bench.arrives(id, incident);
    }
    assert_eq!(bench.sends(), [1, 2, 4]);
}

#[test]
fn keys_take_turns_however_much_waits_for_one_of_them() {
    let mut bench = Bench::new(DeliveryLimits { in_flight: 1, ..limits() });
    for id in 1..=10 {
        bench.arrives_for(0, id, &id.to_string());
    }
    bench.arrives_for(1, 11, "11");
    bench.arrives_for(2, 12, "12");
    let mut order = Vec::new();
    for _ in 0..5 {
        let Next::Send { id, key } = bench.scheduler.next(bench.now) else { panic!("much is waiting") };
        order.push(id.get());
        let disposition = bench.scheduler.answered(&key, id, &delivered(), bench.now, 0.0);
        bench.scheduler.settled(&key, id, &disposition);
    }
    assert_eq!(order, [1, 11, 12, 2, 3]);
}

#[test]
fn slow_keys_leave_places_for_a_key_that_has_nothing_in_flight() {
    let mut bench = Bench::new(DeliveryLimits { in_flight: 8, in_flight_per_key: 8, ..limits() });
    bench.passes(0);
    for id in 1..=10 {
        bench.arrives_for(0, id, &id.to_string());
    }
    assert_eq!(bench.sends(), [1, 2, 3, 4, 5, 6], "a quarter is kept");
    bench.arrives_for(1, 11, "11");
    bench.arrives_for(1, 12, "12");
    assert_eq!(bench.sends(), [11]);
}

#[test]
fn an_attempt_that_could_not_be_marked_is_made_again_after_the_pause() {
    let mut bench = Bench::new(DeliveryLimits { rate: 1, ..limits() });
    bench.arrives(1, "a");
    bench.arrives(2, "a");
    assert_eq!(bench.sends(), [1]);
    bench.scheduler.not_begun(&service_key(0), EventId::new(1), bench.now + seconds(1));
    assert_eq!(bench.waits(), Some(seconds(1)), "nothing was sent, so the rate allows it");
    bench.wakes();
    assert_eq!(bench.sends(), [1]);
}

#[test]
fn an_event_that_vanished_from_the_queue_makes_way_for_the_next() {
    let mut bench = Bench::new(DeliveryLimits { rate: 1, ..limits() });
    bench.arrives(1, "a");
    bench.arrives(2, "a");
    assert_eq!(bench.sends(), [1]);
    bench.scheduler.gone(&service_key(0), EventId::new(1));
    assert_eq!(bench.sends(), [2], "nothing was sent, so the rate allows it");
    assert_eq!(bench.scheduler.in_flight(), 1);
}
