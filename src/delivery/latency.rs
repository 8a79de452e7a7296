//! How long the attempts of one service key take, and whether that makes the key slow.

use std::time::Duration;

use super::moment::Moment;

/// A key whose attempts take longer than this is slow. PagerDuty answers in a few tenths of a second when it is well, a
/// new TLS connection included.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// What is known of how fast a service key is answered.
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
    /// An attempt ended after `took`. The last attempt weighs as much as all before it: after timeouts of 10 seconds, a
    /// key is quick again with the fourth quick answer.
    pub(super) fn ended(&mut self, took: Duration, now: Moment) {
        self.average = Some(self.average.map_or(took, |average| (average + took) / 2));
        self.last_ended = now;
    }

    /// Whether an attempt ended within the last moments, so that what is known of the key is not out of date.
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

#[cfg(test)]
mod tests {
    use super::*;

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
