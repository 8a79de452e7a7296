//! Connections that end before an answer.

use super::*;

fn with_incidents(events: i64) -> Bench {
    let mut bench = Bench::new(limits());
    for id in 1..=events {
        bench.arrives(id, &id.to_string());
    }
    bench
}

fn again() -> Fate {
    Fate::Again { reason: "the connection ended".to_owned() }
}

#[track_caller]
fn assert_backs_off(fate: &Fate, bench: &Bench) {
    assert!(matches!(fate, Fate::Retry { at, blamed: Duration::ZERO, .. } if *at > bench.now), "{fate:?}");
}

#[test]
fn the_first_time_an_event_is_sent_again_at_once_and_the_second_time_its_key_backs_off() {
    let mut bench = with_incidents(1);
    assert_eq!(bench.sends(), [1]);
    assert_eq!(bench.ends(1, &dropped()), again());
    let lane = bench.schedule.view(bench.now).lanes.remove(0);
    assert_eq!((lane.trouble, lane.backs_off_until), (None, None), "nothing to speak of");
    assert_eq!(bench.sends(), [1]);
    let fate = bench.ends(1, &dropped());
    assert_backs_off(&fate, &bench);
    assert_eq!(bench.schedule.view(bench.now).lanes[0].trouble.as_deref(), Some("the connection ended"));
    assert_eq!(bench.waits(), Some(seconds(1)));
}

#[test]
fn nothing_of_its_incident_leaves_before_it() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "1");
    bench.arrives(2, "1");
    assert_eq!(bench.sends(), [1]);
    let fate = bench.answered(1, &dropped());
    assert_eq!(bench.sends(), [] as [i64; 0], "its fate is not committed");
    bench.settled(1, &fate);
    assert_eq!(bench.sends(), [1], "and then it goes itself");
    bench.ends(1, &delivered());
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn attempts_that_were_under_way_together_are_excused_together() {
    let mut bench = with_incidents(3);
    assert_eq!(bench.sends(), [1, 2, 3]);
    for id in [2, 1, 3] {
        assert_eq!(bench.ends(id, &dropped()), again());
    }
    assert_eq!(bench.sends(), [1, 2, 3]);
}

#[test]
fn a_second_event_of_the_key_is_excused_only_if_something_passed_in_between() {
    for outcome in [delivered(), refused()] {
        let mut bench = with_incidents(2);
        assert_eq!(bench.sends(), [1, 2]);
        assert_eq!(bench.ends(1, &dropped()), again());
        bench.ends(2, &outcome);
        assert_eq!(bench.sends(), [1]);
        bench.arrives(3, "3");
        assert_eq!(bench.sends(), [3]);
        let fate = bench.ends(3, &dropped());
        assert_backs_off(&fate, &bench);

        let mut bench = with_incidents(1);
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
fn an_event_that_failed_before_is_not_excused_nor_is_one_of_a_key_in_trouble() {
    let mut bench = with_incidents(2);
    assert_eq!(bench.sends(), [1, 2]);
    bench.ends(1, &error());
    let fate = bench.ends(2, &dropped());
    assert_backs_off(&fate, &bench);
    bench.passes(3);
    assert_eq!(bench.sends(), [1, 2]);
    let fate = bench.ends(1, &dropped());
    assert!(matches!(fate, Fate::Retry { .. }), "{fate:?}");
}

#[test]
fn it_counts_for_the_pace() {
    let mut bench = Bench::new(Limits { rate: 2, ..limits() });
    bench.arrives(1, "1");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &dropped());
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &delivered());
    bench.arrives(2, "2");
    assert_eq!(bench.waits(), Some(minutes(1)));
}
