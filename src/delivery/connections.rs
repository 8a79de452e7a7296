//! How the service keys share the connections to PagerDuty.
//!
//! An attempt holds a connection until PagerDuty answers, or until its timeout. Without a limit a few dozen keys that are
//! answered slowly would hold all of them with one attempt each, and every other key would wait for their answers.

use std::time::Duration;

use super::Moment;

/// A key whose attempts take longer than this is slow. PagerDuty usually answers in a few tenths of a second, including
/// a new TLS connection.
const SLOW: Duration = Duration::from_secs(1);

/// How fast PagerDuty answers for a service key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Speed {
    /// Its attempts ended within [`SLOW`] lately.
    Quick,
    /// None of its attempts has ended yet, and none takes longer than [`SLOW`].
    Unknown,
    /// Its attempts took longer than [`SLOW`] lately, or one that is in flight already does.
    Slow,
}

/// How long attempts took, however they ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latency {
    /// An exponentially weighted moving average.
    average: Option<Duration>,
    last_ended: Moment,
}

impl Latency {
    /// Records that an attempt ended after `took`. The last attempt weighs as much as all earlier ones together: after
    /// timeouts of 10 seconds, a key is quick again with the fourth quick answer.
    pub(super) fn ended(&mut self, took: Duration, now: Moment) {
        self.average = Some(self.average.map_or(took, |average| (average + took) / 2));
        self.last_ended = now;
    }

    /// Whether an attempt ended within the last second, so that the speed is up to date.
    pub(super) fn is_fresh(self, now: Moment) -> bool {
        self.average.is_some() && now.saturating_sub(self.last_ended) <= SLOW
    }

    /// How fast the key is, when the oldest of its attempts in flight has taken `oldest` so far.
    pub(super) fn speed(self, oldest: Duration) -> Speed {
        match self.average {
            _ if oldest > SLOW => Speed::Slow,
            None => Speed::Unknown,
            Some(average) if average > SLOW => Speed::Slow,
            Some(_) => Speed::Quick,
        }
    }
}

/// The attempts in flight at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Connections {
    /// The maximum number of attempts in flight.
    limit: usize,
    in_flight: usize,
    /// The attempts of slow keys.
    slow: usize,
    /// The attempts of keys for which no attempt ended within the last second, without the first attempt of each key.
    unproven: usize,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Counts the attempts in flight of one key; `fresh` says whether an attempt for it has ended within the last second.
    pub(super) fn count(&mut self, in_flight: usize, speed: Speed, fresh: bool) {
        self.in_flight += in_flight;
        if speed == Speed::Slow {
            self.slow += in_flight;
        }
        if !fresh {
            self.unproven += in_flight.saturating_sub(1);
        }
    }

    /// Whether an attempt may begin for a key of this speed that has `own` attempts in flight.
    ///
    /// - Slow keys share half of the connections. A slow key may begin an attempt whenever no slow key has one in flight,
    ///   so that quick keys cannot starve them.
    /// - A key for which no attempt has ended within the last second may turn out to be slow. Its first attempt is
    ///   admitted; the further ones of all such keys share a quarter of the connections.
    /// - The last quarter, and the last quarter of the slow keys' half, is for keys that have nothing in flight.
    /// - The last eighth is for quick keys that have nothing in flight: they go on however many keys become slow at once.
    pub(super) fn admit(&self, own: usize, speed: Speed, fresh: bool) -> bool {
        let slow_share = (self.limit / 2).max(1);
        let reserved_for_idle = |share: usize| if own == 0 { 0 } else { share / 4 };
        let reserved = match speed {
            Speed::Slow if self.slow == 0 => 0,
            Speed::Slow if self.slow + reserved_for_idle(slow_share) >= slow_share => return false,
            _ if own > 0 && !fresh && self.unproven >= self.limit / 4 => return false,
            Speed::Slow | Speed::Unknown => reserved_for_idle(self.limit).max(self.limit / 8),
            Speed::Quick => reserved_for_idle(self.limit),
        };
        self.in_flight + reserved < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins attempts for keys of this speed that have nothing in flight, until no more is admitted.
    fn fill(connections: &mut Connections, speed: Speed) -> usize {
        let mut begun = 0;
        while connections.admit(0, speed, false) {
            connections.count(1, speed, false);
            begun += 1;
        }
        begun
    }

    #[test]
    fn slow_keys_hold_half_of_the_connections_and_quick_keys_the_rest() {
        let mut connections = Connections::new(64);
        assert_eq!(fill(&mut connections, Speed::Slow), 32);
        assert_eq!(fill(&mut connections, Speed::Quick), 32);
    }

    #[test]
    fn an_eighth_is_left_to_quick_keys_whatever_unknown_and_slow_ones_hold() {
        let mut connections = Connections::new(64);
        assert_eq!(fill(&mut connections, Speed::Unknown), 56);
        assert_eq!(fill(&mut connections, Speed::Slow), 1, "they are never without any");
        assert_eq!(fill(&mut connections, Speed::Quick), 7);
    }

    #[test]
    fn one_slow_attempt_may_begin_when_quick_keys_leave_a_single_place() {
        let mut connections = Connections::new(64);
        connections.count(63, Speed::Quick, true);
        assert_eq!(fill(&mut connections, Speed::Slow), 1);
    }

    #[test]
    fn keys_that_were_not_answered_lately_share_a_quarter_beyond_their_first_attempts() {
        for speed in [Speed::Quick, Speed::Unknown] {
            let mut connections = Connections::new(64);
            connections.count(17, speed, false);
            assert!(!connections.admit(1, speed, false));
            assert!(connections.admit(0, speed, false));
            assert!(connections.admit(1, Speed::Quick, true));
            let mut connections = Connections::new(64);
            connections.count(17, Speed::Slow, false);
            assert!(!connections.admit(1, speed, false), "also once they take longer than a quick answer");
        }
    }

    #[test]
    fn a_key_with_attempts_in_flight_leaves_the_last_quarter_to_others() {
        for speed in [Speed::Quick, Speed::Unknown, Speed::Slow] {
            let mut connections = Connections::new(64);
            connections.count(48, Speed::Quick, true);
            connections.count(1, Speed::Slow, true);
            assert!(!connections.admit(1, speed, true), "{speed:?}");
            assert!(connections.admit(0, speed, true), "{speed:?}");
        }
        let mut connections = Connections::new(64);
        connections.count(24, Speed::Slow, true);
        assert!(!connections.admit(1, Speed::Slow, true));
        assert!(connections.admit(0, Speed::Slow, true));
    }

    #[test]
    fn with_nothing_in_flight_everything_is_let_in() {
        for limit in 1..=9 {
            for speed in [Speed::Quick, Speed::Unknown, Speed::Slow] {
                assert!(Connections::new(limit).admit(0, speed, false), "{speed:?} of {limit}");
            }
        }
    }

    fn after(millis: &[u64]) -> Latency {
        let mut latency = Latency::default();
        for millis in millis {
            latency.ended(Duration::from_millis(*millis), Moment::ZERO);
        }
        latency
    }

    #[test]
    fn a_key_is_slow_by_its_answers_and_quick_again_after_four_quick_ones() {
        let expected = [
            (&[][..], Speed::Unknown),
            (&[50], Speed::Quick),
            (&[1000], Speed::Quick),
            (&[50, 9000], Speed::Slow),
            (&[10_000, 50, 50, 50], Speed::Slow),
            (&[10_000, 50, 50, 50, 50], Speed::Quick),
        ];
        for (millis, speed) in expected {
            assert_eq!(after(millis).speed(Duration::ZERO), speed, "{millis:?}");
        }
    }

    #[test]
    fn an_attempt_that_takes_longer_than_a_second_makes_its_key_slow_before_it_ends() {
        for latency in [after(&[]), after(&[50])] {
            assert_ne!(latency.speed(SLOW), Speed::Slow);
            assert_eq!(latency.speed(SLOW + Duration::from_millis(1)), Speed::Slow);
        }
    }

    #[test]
    fn what_is_known_is_fresh_for_a_second() {
        assert!(!after(&[]).is_fresh(Moment::ZERO));
        assert!(after(&[50]).is_fresh(SLOW));
        assert!(!after(&[50]).is_fresh(SLOW + Duration::from_millis(1)));
    }
}
