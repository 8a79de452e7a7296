//! How long to wait after the n-th failure in a row.

use std::time::Duration;

/// An exponential backoff with a ceiling and jitter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure, before jitter.
    pub first: Duration,
    /// The longest wait, before jitter.
    pub ceiling: Duration,
}

impl Backoff {
    /// After trouble that may be over at any moment: it bounds what a recovered PagerDuty is kept waiting.
    pub const TROUBLE: Self = Self { first: Duration::from_secs(1), ceiling: Duration::from_secs(30) };
    /// After throttling: PagerDuty counts over 60 seconds, so asking sooner does not help.
    pub const THROTTLE: Self = Self { first: Duration::from_secs(10), ceiling: Duration::from_mins(1) };
    /// For an event that fails while others of its key pass; its ceiling bounds what it is kept waiting once PagerDuty
    /// takes it.
    pub const SUSPECT: Self = Self { first: Duration::from_secs(2), ceiling: Duration::from_mins(1) };

    /// The wait after `failures` failures in a row (1 or more), between half of the doubled time and all of it.
    ///
    /// `chance` is a random number from 0 up to 1; it keeps many bridges from coming back at the same moment.
    #[must_use]
    pub fn wait(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let whole = self.first.saturating_mul(1 << doublings).min(self.ceiling);
        whole.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_ceiling_and_jitter_takes_at_most_half() {
        let backoff = Backoff { first: Duration::from_secs(1), ceiling: Duration::from_secs(30) };
        let longest: Vec<u64> = (1..=7).map(|failures| backoff.wait(failures, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.wait(u32::MAX, 0.0), Duration::from_secs(15));
        assert_eq!(backoff.wait(0, 0.0), Duration::from_millis(500));
    }
}
