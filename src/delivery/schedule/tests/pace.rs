//! The rate.

use super::*;

#[test]
fn no_more_than_the_rate_leaves_in_any_minute_and_the_attempts_of_an_earlier_run_count() {
    let mut bench = Bench::new(Limits { rate: 5, ..limits() });
    bench.schedule.remember_attempts(&service_key(0), bench.now - seconds(10), 2);
    for id in 1..=6 {
        bench.arrives(id, &id.to_string());
    }
    assert_eq!(bench.sends(), [1, 2, 3]);
    assert_eq!(bench.waits(), Some(seconds(50)));
    bench.now += seconds(20);
    for id in 1..=3 {
        bench.ends(id, &delivered());
    }
    bench.wakes();
    assert_eq!(bench.sends(), [4, 5]);
    assert_eq!(bench.waits(), Some(seconds(30)), "a minute from the end of the first attempt");
}

#[test]
fn attempts_that_never_end_hold_their_places() {
    let mut bench = Bench::new(Limits { rate: 2, ..limits() });
    for id in 1..=3 {
        bench.arrives(id, &id.to_string());
    }
    assert_eq!(bench.sends(), [1, 2]);
    bench.now += minutes(10);
    assert_eq!(bench.waits(), None);
}

#[test]
fn throttling_halves_the_rate_which_rises_again() {
    let mut bench = Bench::new(Limits { rate: 8, in_flight_per_key: 1, ..limits() });
    bench.arrives(1, "1");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &throttled(None));
    for id in 2..=20 {
        bench.arrives(id, &id.to_string());
    }
    let mut left = Vec::new();
    for _ in 0..3 {
        bench.wakes();
        let mut count = 0;
        while let [id] = *bench.sends() {
            bench.ends(id, &delivered());
            count += 1;
        }
        left.push((bench.now - minutes(10), count));
    }
    assert_eq!(left, [(seconds(10), 3), (seconds(30), 4), (seconds(60), 1)]);
}
