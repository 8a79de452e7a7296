//! Keys that this bridge delivers for only until a lease ends.

use super::*;

#[test]
fn nothing_begins_after_the_end_of_a_lease_until_it_is_put_off() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "a");
    let key = service_key(0);
    bench.scheduler.send_until(&key, bench.now - seconds(1));
    assert_eq!(bench.sends(), [] as [i64; 0]);
    assert_eq!(bench.waits(), None, "only a renewal changes that");
    bench.scheduler.send_until(&key, bench.now);
    assert_eq!(bench.sends(), [1]);
}

#[test]
fn what_is_known_of_a_lost_key_is_forgotten_and_its_attempts_still_take_connections_until_they_end() {
    let mut bench = Bench::new(DeliveryLimits { in_flight: 1, ..limits() });
    bench.arrives(1, "a");
    bench.arrives(2, "b");
    assert_eq!(bench.sends(), [1]);
    bench.scheduler.forget(&service_key(0));
    bench.arrives_for(1, 3, "c");
    assert_eq!(bench.sends(), [] as [i64; 0], "event 2 is gone, and the connection is in use");
    bench.scheduler.ended_elsewhere();
    assert_eq!(bench.sends(), [3]);
    assert_eq!(bench.scheduler.in_flight(), 1);
}

#[test]
fn a_bridge_that_lost_all_keys_says_nothing_about_a_certificate_any_more() {
    let mut bench = Bench::new(limits());
    bench.arrives_for(0, 1, "a");
    bench.arrives_for(1, 2, "b");
    assert_eq!(bench.sends(), [1, 2]);
    bench.ends_for(0, 1, &untrusted());
    bench.ends_for(1, 2, &untrusted());
    bench.scheduler.forget(&service_key(0));
    assert!(bench.scheduler.view(bench.now).untrusted.is_some(), "the other key still waits for it");
    bench.scheduler.forget(&service_key(1));
    assert_eq!(bench.scheduler.view(bench.now).untrusted, None);
    bench.arrives_for(0, 3, "c");
    bench.arrives_for(0, 4, "d");
    assert_eq!(bench.sends(), [3, 4], "nothing holds up what it gets later");
}
