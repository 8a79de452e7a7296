//! How the service keys share the connections to PagerDuty.
//!
//! An attempt holds a connection until PagerDuty answers, or until its timeout. Without a limit a few dozen keys that are
//! answered slowly would hold all of them with one attempt each, and every other key would wait for their answers.

use super::latency::Speed;

/// The attempts in flight at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Connections {
    /// The most that may be in flight.
    limit: usize,
    in_flight: usize,
    /// Those of slow keys.
    slow: usize,
    /// Those of keys of which no attempt has ended within the last second, without the first of each key.
    unproven: usize,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Counts the attempts in flight of one key; `fresh` says whether an attempt of it has ended within the last second.
    pub(super) fn count(&mut self, in_flight: usize, speed: Speed, fresh: bool) {
        self.in_flight += in_flight;
        if speed == Speed::Slow {
            self.slow += in_flight;
        }
        if !fresh {
            self.unproven += in_flight.saturating_sub(1);
        }
    }

    /// Whether an attempt may begin for such a key, which has `own` attempts in flight.
    ///
    /// - Slow keys share half of the connections. One of them may begin whenever none is in flight, so that quick keys
    ///   cannot starve them.
    /// - A key of which no attempt has ended within the last second may turn out to be slow. Its first attempt is let in;
    ///   the further ones of all such keys share a quarter of the connections.
    /// - The last quarter, and the last quarter of the slow keys' half, is for keys that have nothing in flight.
    /// - The last eighth is for quick keys that have nothing in flight: however many slow keys are met for the first time
    ///   at once, a quick key goes on.
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

    /// Begins attempts for keys of this speed that have nothing in flight until no more is let in.
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
}
