//! How long the attempts of one service key take, and whether that makes the key slow.

use std::time::Duration;

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

/// An exponentially weighted moving average of how long attempts took, however they ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latency(Option<Duration>);

impl Latency {
    /// An attempt ended after `took`. The last attempt weighs as much as all before it: after timeouts of 10 seconds, a
    /// key is quick again with the fourth quick answer.
    pub(super) fn ended(&mut self, took: Duration) {
        self.0 = Some(self.0.map_or(took, |average| (average + took) / 2));
    }

    /// Whether an attempt has ended yet.
    pub(super) fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// How fast the key is, when the oldest of its attempts in flight has taken `oldest` so far.
    pub(super) fn speed(self, oldest: Duration) -> Speed {
        match self.0 {
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
        millis.iter().for_each(|millis| latency.ended(Duration::from_millis(*millis)));
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
}
