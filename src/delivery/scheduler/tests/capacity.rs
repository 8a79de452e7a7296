//! The rate of each key, and the connections that the keys share.

use super::*;

const CONNECTIONS: u32 = 32;

/// Many keys with events that are answered slowly or quickly.
struct Keys {
    bench: Bench,
    next_id: i64,
    in_flight: Vec<(usize, i64)>,
}

impl Keys {
    fn new() -> Self {
        let bench = Bench::new(DeliveryLimits { in_flight: CONNECTIONS, ..limits() });
        Self { bench, next_id: 1, in_flight: Vec::new() }
    }

    /// `events` events, each of its own incident, arrive for each of the keys.
    fn arrive(&mut self, keys: std::ops::Range<usize>, events: usize) {
        for _ in 0..events {
            for key in keys.clone() {
                self.bench.arrives_for(key, self.next_id, &self.next_id.to_string());
                self.next_id += 1;
            }
        }
    }

    /// Sends what is due, and returns the keys of the events.
    fn send(&mut self) -> Vec<usize> {
        let mut keys = Vec::new();
        while let Next::Send { id, key } = self.bench.scheduler.next(self.bench.now) {
            let number = key.expose().parse().unwrap();
            self.in_flight.push((number, id.get()));
            keys.push(number);
        }
        keys
    }

    /// PagerDuty accepts all events in flight of these keys.
    fn answer(&mut self, keys: &std::ops::Range<usize>) {
        let (answered, rest) = std::mem::take(&mut self.in_flight).into_iter().partition(|(key, _)| keys.contains(key));
        self.in_flight = rest;
        let answered: Vec<(usize, i64)> = answered;
        for (key, id) in answered {
            self.bench.ends_for(key, id, &delivered());
        }
    }

    /// One event of each key arrives, and is answered after `took`.
    fn are_answered_within(&mut self, keys: std::ops::Range<usize>, took: Duration) {
        for key in keys {
            self.arrive(key..key + 1, 1);
            assert_eq!(self.send(), [key]);
            self.bench.now += took;
            self.answer(&(key..key + 1));
        }
    }

    fn held_by(&self, keys: &std::ops::Range<usize>) -> usize {
        self.in_flight.iter().filter(|(key, _)| keys.contains(key)).count()
    }
}

#[test]
fn however_many_keys_are_slow_they_hold_half_of_the_connections_and_the_others_go_on() {
    let (slow, quick) = (0..80, 80..90);
    let mut keys = Keys::new();
    keys.are_answered_within(slow.clone(), seconds(9));
    keys.are_answered_within(quick.clone(), Duration::from_millis(50));
    keys.arrive(slow.clone(), 5);
    keys.arrive(quick.clone(), 5);
    keys.send();
    for _ in 0..5 {
        assert_eq!(keys.held_by(&slow), 16);
        assert!(keys.held_by(&quick) > 0);
        keys.bench.now += Duration::from_millis(50);
        keys.answer(&quick);
        keys.send();
    }
    assert_eq!(keys.held_by(&quick), 0, "all that came for them has left");
}

#[test]
fn slow_keys_take_turns_among_themselves_whatever_the_quick_ones_send() {
    let (slow, quick) = (0..20, 20..21);
    let mut keys = Keys::new();
    keys.are_answered_within(slow.clone(), seconds(9));
    keys.are_answered_within(quick.clone(), Duration::from_millis(50));
    keys.arrive(slow.clone(), 10);
    let mut served: Vec<usize> = keys.send();
    while served.len() < 60 {
        keys.arrive(quick.clone(), 1);
        keys.send();
        keys.bench.now += Duration::from_millis(50);
        keys.answer(&quick);
        // One slow answer at a time.
        keys.bench.now += seconds(2);
        let (key, id) = keys.in_flight.remove(0);
        keys.bench.ends_for(key, id, &delivered());
        served.extend(keys.send().into_iter().filter(|key| slow.contains(key)));
    }
    for key in slow {
        let turns = served.iter().filter(|served| **served == key).count();
        assert!((2..=4).contains(&turns), "key {key} had {turns} of {} turns", served.len());
    }
}

#[test]
fn slow_keys_go_on_while_quick_ones_fill_every_connection() {
    let (slow, quick) = (0..2, 2..100);
    let mut keys = Keys::new();
    keys.are_answered_within(slow.clone(), seconds(9));
    keys.are_answered_within(quick.clone(), Duration::from_millis(50));
    keys.arrive(quick.clone(), 20);
    keys.send();
    assert_eq!(keys.held_by(&quick), CONNECTIONS as usize);
    keys.arrive(slow.clone(), 1);
    assert_eq!(keys.send(), [] as [usize; 0]);
    let (key, id) = keys.in_flight.remove(0);
    keys.bench.ends_for(key, id, &delivered());
    let sent = keys.send();
    assert!(sent.iter().all(|key| slow.contains(key)) && !sent.is_empty(), "{sent:?}");
}

#[test]
fn a_key_that_is_answered_quickly_again_leaves_the_slow_ones() {
    let slow = 0..40;
    let mut keys = Keys::new();
    keys.are_answered_within(slow.clone(), seconds(9));
    keys.arrive(slow.clone(), 1);
    assert_eq!(keys.send().len(), 16);
    keys.bench.now += Duration::from_millis(50);
    keys.answer(&slow);
    while !keys.send().is_empty() {
        keys.answer(&slow);
    }
    for _ in 0..4 {
        keys.are_answered_within(slow.clone(), Duration::from_millis(50));
    }
    keys.arrive(slow, 1);
    assert_eq!(keys.send().len(), CONNECTIONS as usize);
}

#[test]
fn new_keys_that_never_answer_leave_connections_to_keys_that_were_answered_before() {
    let (quick, new) = (0..4, 4..200);
    let mut keys = Keys::new();
    keys.are_answered_within(quick.clone(), Duration::from_millis(50));
    keys.arrive(new.clone(), 8);
    keys.send();
    assert_eq!(keys.held_by(&new), 28);
    keys.arrive(quick.clone(), 1);
    assert_eq!(keys.send(), [0, 1, 2, 3], "before it is known that the new ones are slow");
    keys.answer(&quick);
    keys.bench.now += seconds(5);
    keys.arrive(quick, 1);
    let sent = keys.send();
    assert_eq!(sent, [0, 1, 2, 3], "and after that");
}

#[test]
fn each_new_key_holds_one_connection_while_few_are_left() {
    let mut keys = Keys::new();
    keys.arrive(0..8, 8);
    keys.send();
    let held: Vec<usize> = (0..8).map(|key| keys.held_by(&(key..key + 1))).collect();
    assert_eq!(held, [2; 8], "a quarter of the connections beyond the first of each");
    keys.arrive(8..12, 1);
    assert_eq!(keys.send(), [8, 9, 10, 11]);
}

#[test]
fn keys_that_turn_slow_all_at_once_leave_connections_to_the_others() {
    let (quick, turning) = (0..4, 4..24);
    let mut keys = Keys::new();
    keys.are_answered_within(turning.clone(), Duration::from_millis(50));
    keys.are_answered_within(quick.clone(), Duration::from_millis(50));
    keys.bench.now += minutes(10);
    // Until attempts take longer than a second, nothing shows that the keys are slow.
    for key in turning.clone() {
        keys.arrive(key..key + 1, 8);
        keys.send();
    }
    assert_eq!(keys.held_by(&turning), 28, "one for each key, and a quarter of the connections beyond");
    keys.arrive(quick, 1);
    assert_eq!(keys.send(), [0, 1, 2, 3]);
}

#[test]
fn no_more_than_the_rate_leaves_in_any_minute_and_the_attempts_of_an_earlier_run_count() {
    let mut bench = Bench::new(DeliveryLimits { rate: 5, ..limits() });
    bench.scheduler.restore_attempts(&service_key(0), bench.now - seconds(10), 2);
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
    let mut bench = Bench::new(DeliveryLimits { rate: 2, ..limits() });
    for id in 1..=3 {
        bench.arrives(id, &id.to_string());
    }
    assert_eq!(bench.sends(), [1, 2]);
    bench.now += minutes(10);
    assert_eq!(bench.waits(), None);
}

#[test]
fn throttling_halves_the_rate_which_rises_again() {
    let mut bench = Bench::new(DeliveryLimits { rate: 8, in_flight_per_key: 1, ..limits() });
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
