//! Exponential backoff: how long to pause after failures in a row. Pure.

use std::time::Duration;

/// Pauses that double with each failure in a row, up to a ceiling.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest pause.
    pub ceiling: Duration,
}

impl Backoff {
    /// Returns the pause after `failures` failures in a row; none counts as one.
    #[must_use]
    pub fn pause(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1);
        self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.ceiling)
    }

    /// Returns a part of [`pause`](Self::pause), between half and all of it. `chance` is a random number from 0 up to 1; it
    /// keeps many bridges from retrying at the same moment.
    #[must_use]
    pub fn pause_with_jitter(&self, failures: u32, chance: f64) -> Duration {
        self.pause(failures).mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), ceiling: Duration::from_secs(30) };

    #[test]
    fn the_pause_doubles_up_to_the_ceiling() {
        let pauses: Vec<u64> = (0..=7).map(|failures| BACKOFF.pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(BACKOFF.pause(u32::MAX), BACKOFF.ceiling);
        assert_eq!(Backoff { ceiling: Duration::MAX, ..BACKOFF }.pause(99), Duration::from_secs(u32::MAX.into()));
    }

    #[test]
    fn jitter_takes_at_most_half() {
        assert_eq!(BACKOFF.pause_with_jitter(5, 1.0), Duration::from_secs(16));
        assert_eq!(BACKOFF.pause_with_jitter(u32::MAX, 0.0), Duration::from_secs(15));
        assert_eq!(BACKOFF.pause_with_jitter(0, 0.0), Duration::from_millis(500));
    }
}
