//! Failures of PagerDuty or the network, throttling, TLS errors, and connections that end before an answer.

use super::*;

/// Only one attempt at a time.
fn one_place() -> DeliveryLimits {
    DeliveryLimits { in_flight_per_key: 1, ..limits() }
}

fn with_incidents(limits: DeliveryLimits, events: i64) -> Bench {
    let mut bench = Bench::new(limits);
    for id in 1..=events {
        bench.arrives(id, &id.to_string());
    }
    bench
}

#[test]
fn attempts_that_fail_together_count_once_and_one_probe_at_a_time_follows() {
    let mut bench = with_incidents(limits(), 20);
    assert_eq!(bench.sends(), [1, 2, 3, 4, 5, 6, 7, 8]);
    for id in 1..=8 {
        bench.ends(id, &unreachable());
    }
    let [probe] = *bench.sends() else { panic!("the first failure closes nothing, and one probe goes") };
    bench.ends(probe, &unreachable());
    assert_eq!(bench.waits(), Some(seconds(1)));
}

#[test]
fn the_pauses_between_probes_double_up_to_half_a_minute() {
    let mut bench = with_incidents(one_place(), 20);
    let [first] = *bench.sends() else { panic!("one at a time") };
    bench.ends(first, &error());
    for pause in [1, 2, 4, 8, 16, 30, 30, 30] {
        let [probe] = *bench.sends() else { panic!("one probe at a time") };
        bench.ends(probe, &error());
        assert_eq!(bench.waits(), Some(seconds(pause)));
        bench.wakes();
    }
}

#[test]
fn every_other_probe_is_the_newest_event() {
    let mut bench = with_incidents(one_place(), 20);
    let mut probes = Vec::new();
    for _ in 0..4 {
        let [id] = *bench.sends() else { panic!("one probe at a time") };
        probes.push(id);
        bench.ends(id, &error());
        bench.now += minutes(1);
    }
    assert_eq!(probes, [1, 20, 2, 19]);
}

#[test]
fn one_event_that_fails_over_and_over_delays_no_event_that_just_came() {
    let mut bench = with_incidents(limits(), 1);
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(bench.sends(), [1]);
        bench.ends(1, &error());
        assert_eq!(bench.waits(), Some(seconds(pause)));
        bench.wakes();
    }
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &error());
    bench.arrives(2, "2");
    assert_eq!(bench.sends(), [2], "although the other one failed just now");
    bench.now += minutes(1);
    bench.ends(2, &error());
    bench.now += minutes(1);
    assert_eq!(bench.sends(), [1]);
    bench.arrives(3, "3");
    assert_eq!(bench.sends(), [3], "not even while the other one hangs");
}

#[test]
fn a_refused_event_shows_as_well_that_the_failures_are_over() {
    let mut bench = with_incidents(one_place(), 9);
    for _ in 0..4 {
        let [probe] = *bench.sends() else { panic!("one probe at a time") };
        bench.ends(probe, &error());
        bench.now += minutes(1);
    }
    let [probe] = *bench.sends() else { panic!("one probe at a time") };
    bench.ends(probe, &refused());
    let [next] = *bench.sends() else { panic!("the next one follows at once") };
    bench.ends(next, &error());
    assert_eq!(bench.sends().len(), 1, "a first failure closes nothing");
}

#[test]
fn when_one_passes_all_that_failed_in_the_outage_leave_at_once_oldest_first() {
    let mut bench = with_incidents(limits(), 8);
    assert_eq!(bench.sends().len(), 8);
    for id in [5, 3, 1, 2, 4, 6, 7, 8] {
        bench.ends(id, &error());
        bench.now += Duration::from_millis(1);
    }
    bench.wakes();
    assert_eq!(bench.sends(), [5], "the one that failed first");
    assert_eq!(bench.waits(), None);
    bench.ends(5, &delivered());
    assert_eq!(bench.sends(), [1, 2, 3, 4, 6, 7, 8]);
}

#[test]
fn an_answer_to_an_attempt_from_before_the_failure_does_not_end_it() {
    let mut bench = with_incidents(DeliveryLimits { in_flight_per_key: 2, ..limits() }, 9);
    assert_eq!(bench.sends(), [1, 2]);
    bench.ends(1, &throttled(None));
    bench.ends(2, &delivered());
    assert_eq!(bench.waits(), Some(seconds(10)));
    bench.wakes();
    assert_eq!(bench.sends(), [1], "a single probe");
    bench.ends(1, &throttled(None));
    assert_eq!(bench.waits(), Some(seconds(20)));
    bench.wakes();
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &delivered());
    assert_eq!(bench.sends(), [3, 4], "now it is over");
    bench.ends(3, &throttled(None));
    assert_eq!(bench.waits(), Some(seconds(10)), "and the next one begins anew");
}

#[test]
fn retry_after_is_heeded_whichever_attempt_brings_it_and_longer_pauses_stay() {
    let asks = |pause| Outcome::Transient {
        reason: "answered 503".to_owned(),
        cause: FailureCause::ServerError,
        retry_after: Some(seconds(pause)),
    };
    let mut bench = with_incidents(limits(), 9);
    assert_eq!(bench.sends().len(), 8);
    bench.ends(1, &asks(20));
    assert_eq!(bench.waits(), Some(seconds(20)));
    bench.ends(2, &throttled(Some(seconds(90))));
    assert_eq!(bench.waits(), Some(seconds(90)), "although it began before the failure was known");
    bench.ends(3, &throttled(Some(Duration::ZERO)));
    assert_eq!(bench.waits(), Some(seconds(90)));
    bench.ends(4, &delivered());
    assert_eq!(bench.waits(), Some(seconds(90)));
}

#[test]
fn throttling_pauses_from_ten_seconds_up_to_a_minute_and_kills_nothing() {
    let mut bench = Bench::new(limits());
    bench.passes(1);
    bench.arrives(2, "2");
    for pause in [10, 20, 40, 60, 60, 60] {
        assert_eq!(bench.sends(), [2]);
        let Disposition::Retry { next_attempt_at: at, blamed, .. } = bench.ends(2, &throttled(None)) else {
            panic!("throttling kills nothing")
        };
        assert_eq!(at, bench.now + seconds(pause));
        assert_eq!(blamed, Duration::ZERO);
        assert_eq!(bench.waits(), Some(seconds(pause)));
        bench.wakes();
    }
}

#[test]
fn attempts_that_are_throttled_together_count_once() {
    let mut bench = with_incidents(DeliveryLimits { rate: 64, ..limits() }, 40);
    assert_eq!(bench.sends().len(), 8);
    for id in 1..=8 {
        bench.ends(id, &throttled(None));
    }
    assert_eq!(bench.waits(), Some(seconds(10)));
    bench.wakes();
    let mut left = 0;
    loop {
        let sent = bench.sends();
        if sent.is_empty() {
            break;
        }
        for id in sent {
            bench.ends(id, &delivered());
            left += 1;
        }
    }
    assert_eq!(left, 32 - 8, "half of the rate, less what was throttled");
}

#[test]
fn the_failures_of_one_key_delay_no_other() {
    let mut bench = with_incidents(limits(), 1);
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &throttled(Some(minutes(60))));
    bench.arrives_for(1, 2, "2");
    bench.arrives_for(1, 3, "3");
    assert_eq!(bench.sends(), [2, 3]);
}

#[test]
fn a_tls_error_stops_every_key_but_for_one_probe_until_the_first_answer() {
    let mut bench = Bench::new(limits());
    for (key, id) in [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)] {
        bench.arrives_for(key, id, &id.to_string());
    }
    assert_eq!(bench.sends().len(), 5);
    for (key, id) in [(0, 1), (1, 3), (2, 5), (0, 2), (1, 4)] {
        let disposition = bench.ends_for(key, id, &untrusted());
        assert!(matches!(disposition, Disposition::Retry { blamed: Duration::ZERO, .. }), "{disposition:?}");
    }
    assert_eq!(bench.waits(), Some(seconds(1)), "they failed for one cause");
    bench.wakes();
    let Next::Send { id, key } = bench.scheduler.next(bench.now) else { panic!("a probe is due") };
    assert_eq!(bench.waits(), None, "one probe, not one for each key");
    bench.scheduler.answered(&key, id, &untrusted(), bench.now, 1.0);
    assert_eq!(bench.waits(), Some(seconds(2)));
    bench.wakes();
    let Next::Send { id, key } = bench.scheduler.next(bench.now) else { panic!("a probe is due") };
    bench.scheduler.answered(&key, id, &unreachable(), bench.now, 1.0);
    assert!(bench.sends().len() >= 2, "whoever answered, it was not about trust");
}

#[test]
fn an_answer_from_before_the_tls_error_does_not_end_it() {
    let mut bench = with_incidents(DeliveryLimits { in_flight_per_key: 2, ..limits() }, 9);
    assert_eq!(bench.sends(), [1, 2]);
    bench.ends(1, &untrusted());
    bench.ends(2, &delivered());
    bench.wakes();
    assert_eq!(bench.sends(), [1], "a single probe");
}

fn again() -> Disposition<Moment> {
    Disposition::RetryNow { reason: "the connection ended".to_owned() }
}

#[track_caller]
fn assert_backs_off(disposition: &Disposition<Moment>, bench: &Bench) {
    assert!(
        matches!(disposition, Disposition::Retry { next_attempt_at, blamed: Duration::ZERO, .. } if *next_attempt_at > bench.now),
        "{disposition:?}"
    );
}

#[test]
fn the_first_time_an_event_is_sent_again_at_once_and_the_second_time_its_key_backs_off() {
    let mut bench = with_incidents(limits(), 1);
    assert_eq!(bench.sends(), [1]);
    assert_eq!(bench.ends(1, &dropped()), again());
    let view = bench.scheduler.view(bench.now).keys.remove(0);
    assert_eq!((view.last_failure, view.backs_off_until), (None, None), "nothing to speak of");
    assert_eq!(bench.sends(), [1]);
    let disposition = bench.ends(1, &dropped());
    assert_backs_off(&disposition, &bench);
    assert_eq!(bench.scheduler.view(bench.now).keys[0].last_failure.as_deref(), Some("the connection ended"));
    assert_eq!(bench.waits(), Some(seconds(1)));
}

#[test]
fn nothing_of_its_incident_leaves_before_it() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "1");
    bench.arrives(2, "1");
    assert_eq!(bench.sends(), [1]);
    let disposition = bench.answered(1, &dropped());
    assert_eq!(bench.sends(), [] as [i64; 0], "its disposition is not committed");
    bench.settled(1, &disposition);
    assert_eq!(bench.sends(), [1], "and then it goes itself");
    bench.ends(1, &delivered());
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn attempts_that_were_in_flight_together_are_excused_together() {
    let mut bench = with_incidents(limits(), 3);
    assert_eq!(bench.sends(), [1, 2, 3]);
    for id in [2, 1, 3] {
        assert_eq!(bench.ends(id, &dropped()), again());
    }
    assert_eq!(bench.sends(), [1, 2, 3]);
}

#[test]
fn a_second_event_of_the_key_is_excused_only_if_something_passed_in_between() {
    for outcome in [delivered(), refused()] {
        let mut bench = with_incidents(limits(), 2);
        assert_eq!(bench.sends(), [1, 2]);
        assert_eq!(bench.ends(1, &dropped()), again());
        bench.ends(2, &outcome);
        assert_eq!(bench.sends(), [1]);
        bench.arrives(3, "3");
        assert_eq!(bench.sends(), [3]);
        let disposition = bench.ends(3, &dropped());
        assert_backs_off(&disposition, &bench);

        let mut bench = with_incidents(limits(), 1);
        assert_eq!(bench.sends(), [1]);
        assert_eq!(bench.ends(1, &dropped()), again());
        assert_eq!(bench.sends(), [1]);
        bench.ends(1, &outcome);
        bench.arrives(3, "3");
        assert_eq!(bench.sends(), [3]);
        assert_eq!(bench.ends(3, &dropped()), again(), "after {outcome:?}");
    }
}

#[test]
fn an_event_that_failed_before_is_not_excused_nor_is_one_of_a_key_that_fails() {
    let mut bench = with_incidents(limits(), 2);
    assert_eq!(bench.sends(), [1, 2]);
    bench.ends(1, &error());
    let disposition = bench.ends(2, &dropped());
    assert_backs_off(&disposition, &bench);
    bench.passes(3);
    assert_eq!(bench.sends(), [1, 2]);
    let disposition = bench.ends(1, &dropped());
    assert!(matches!(disposition, Disposition::Retry { .. }), "{disposition:?}");
}

#[test]
fn it_counts_for_the_rate() {
    let mut bench = Bench::new(DeliveryLimits { rate: 2, ..limits() });
    bench.arrives(1, "1");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &dropped());
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &delivered());
    bench.arrives(2, "2");
    assert_eq!(bench.waits(), Some(minutes(1)));
}
