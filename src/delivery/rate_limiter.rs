//! The rate limiter: a maximum number of events per 60 seconds and service key, lowered while PagerDuty throttles.
//!
//! Source: PagerDuty's page "Rate limits": about 120 calls a minute and integration key, counted "over a 60 second
//! window looking back from the current time", and lowered when its systems are busy.
//!
//! PagerDuty keeps counting while the bridge restarts. For an earlier run, the queue knows how often each event was
//! attempted and when its last attempt was recorded, but not how that attempt ended; see [`lookback`] and
//! [`latest_arrival`].

use std::collections::VecDeque;
use std::time::Duration;

use super::Moment;

/// The length of the window in which PagerDuty counts.
pub const WINDOW: Duration = Duration::from_mins(1);

/// How long a lowered rate stays before it is doubled again.
const RECOVERY: Duration = Duration::from_secs(30);

/// Throttling never lowers the rate below the full rate divided by this number: a lower rate would make the recovery
/// slower than the throttling was.
const FLOOR: u32 = 8;

/// The longest time assumed between the recorded time of an attempt, which is when its commit is requested, and its
/// sending, which follows the commit. If a commit takes longer, the disk has a greater problem than the rate.
const COMMIT: Duration = Duration::from_secs(5);

/// Limits the attempts of one service key so that no window of 60 seconds, wherever it begins, contains more than the
/// rate.
///
/// PagerDuty counts when an event arrives, which lies somewhere between the beginning and the end of its attempt. An attempt
/// is therefore counted from its beginning until 60 seconds after its end.
#[derive(Clone, Debug)]
pub(super) struct RateLimiter {
    full: u32,
    allowed: u32,
    changed_at: Moment,
    in_flight: u32,
    ended: VecDeque<Moment>,
}

impl RateLimiter {
    /// Allows `rate` attempts per [`WINDOW`]; at least one.
    pub(super) fn new(rate: u32) -> Self {
        let full = rate.max(1);
        Self { full, allowed: full, changed_at: Moment::ZERO, in_flight: 0, ended: VecDeque::new() }
    }

    /// Returns how many attempts are allowed per 60 seconds at `now`.
    pub(super) fn allowed(&self, now: Moment) -> u32 {
        self.recovered(now).0
    }

    /// Returns how many attempts are allowed per 60 seconds while PagerDuty does not throttle.
    pub(super) fn full(&self) -> u32 {
        self.full
    }

    /// Returns when the next attempt may begin: `Some(now)` or an earlier moment means at once, `None` means that an
    /// attempt in flight has to end first. The moment is never later than the one at which a lowered rate rises.
    pub(super) fn next_at(&mut self, now: Moment) -> Option<Moment> {
        self.recover(now);
        self.free_at(now, self.allowed)
    }

    /// Returns the same for an attempt that leaves half of the rate to other events, which may arrive at any moment.
    pub(super) fn next_at_half_rate(&mut self, now: Moment) -> Option<Moment> {
        self.recover(now);
        self.free_at(now, self.allowed.div_ceil(2))
    }

    fn free_at(&mut self, now: Moment, allowed: u32) -> Option<Moment> {
        while self.ended.front().is_some_and(|end| *end + WINDOW <= now) {
            self.ended.pop_front();
        }
        let rises = (self.allowed < self.full).then_some(self.changed_at + RECOVERY);
        let Some(free) = allowed.checked_sub(self.in_flight).filter(|free| *free > 0) else { return rises };
        // Of the attempts that ended within the window, all but the newest `free - 1` must have left it.
        let blocking = self.ended.len().checked_sub(free as usize).and_then(|index| self.ended.get(index));
        let leaves = blocking.map_or(now, |end| *end + WINDOW);
        Some(rises.map_or(leaves, |rises| leaves.min(rises)))
    }

    /// An attempt begins.
    pub(super) fn begun(&mut self) {
        self.in_flight += 1;
    }

    /// An attempt ended, with any outcome.
    pub(super) fn ended(&mut self, now: Moment) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.restore(now, 1);
    }

    /// An attempt did not begin after all: nothing was sent.
    pub(super) fn cancelled(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Counts `times` attempts of an earlier run that may have arrived as late as `end`. Only the newest are kept, as many
    /// as the full rate: older ones never decide when the next attempt may begin.
    pub(super) fn restore(&mut self, end: Moment, times: u32) {
        let index = self.ended.partition_point(|other| *other <= end);
        for _ in 0..times.min(self.full) {
            self.ended.insert(index, end);
        }
        let excess = self.ended.len().saturating_sub(self.full as usize);
        self.ended.drain(..excess);
    }

    /// Halves the rate for now, because PagerDuty throttled.
    pub(super) fn halve(&mut self, now: Moment) {
        self.recover(now);
        self.allowed = (self.allowed / 2).max(self.full / FLOOR).max(1);
        self.changed_at = now;
    }

    fn recover(&mut self, now: Moment) {
        (self.allowed, self.changed_at) = self.recovered(now);
    }

    /// Returns the rate that is allowed at `now`, and since when.
    fn recovered(&self, now: Moment) -> (u32, Moment) {
        let (mut allowed, mut since) = (self.allowed, self.changed_at);
        while allowed < self.full && since + RECOVERY <= now {
            allowed = allowed.saturating_mul(2).min(self.full);
            since += RECOVERY;
        }
        (allowed, since)
    }
}

/// Returns how far back to look for attempts of an earlier run, given the longest time that an attempt takes.
#[must_use]
pub fn lookback(timeout: Duration) -> Duration {
    WINDOW + COMMIT + timeout
}

/// Returns the latest moment at which an attempt that was recorded `age` ago, or an earlier attempt of its event, may have
/// reached PagerDuty: not after the attempt timed out, and not after the earlier run ended, which was before `now`.
///
/// The clock has to be at [`WINDOW`] or later when the bridge starts, so that this moment is not before the clock began.
#[must_use]
pub fn latest_arrival(age: Duration, now: Moment, timeout: Duration) -> Moment {
    (now + COMMIT + timeout).saturating_sub(age).min(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_never_sees_more_than_the_rate() {
        let mut limiter = RateLimiter::new(3);
        for second in 0..3 {
            assert_eq!(limiter.next_at(at(second)), Some(at(second)));
            limiter.begun();
            limiter.ended(at(second));
        }
        assert_eq!(limiter.next_at(at(3)), Some(at(60)));
        assert_eq!(limiter.next_at(at(60)), Some(at(60)));
        limiter.begun();
        limiter.ended(at(60));
        assert_eq!(limiter.next_at(at(60)), Some(at(61)));
    }

    #[test]
    fn an_attempt_holds_its_place_until_a_window_after_its_end() {
        let mut limiter = RateLimiter::new(1);
        limiter.begun();
        assert_eq!(limiter.next_at(at(100)), None);
        limiter.ended(at(100));
        assert_eq!(limiter.next_at(at(100)), Some(at(160)));
    }

    #[test]
    fn throttling_halves_the_rate_and_time_restores_it() {
        let mut limiter = RateLimiter::new(120);
        for expected in [60, 30, 15, 15] {
            limiter.halve(at(0));
            assert_eq!(limiter.allowed(at(0)), expected);
        }
        for (second, expected) in [(29, 15), (30, 30), (60, 60), (1000, 120)] {
            assert_eq!(limiter.allowed(at(second)), expected, "whether or not something is sent meanwhile");
            limiter.next_at(at(second));
            assert_eq!(limiter.allowed(at(second)), expected);
        }
    }

    #[test]
    fn the_attempts_of_an_earlier_run_count() {
        let mut limiter = RateLimiter::new(2);
        limiter.restore(at(5), 1);
        limiter.restore(at(1), 1);
        assert_eq!(limiter.next_at(at(6)), Some(at(61)));
        limiter.restore(at(5), u32::MAX);
        assert_eq!(limiter.next_at(at(61)), Some(at(65)));
        assert_eq!(limiter.next_at(at(65)), Some(at(65)));
    }

    #[test]
    fn however_many_attempts_of_an_earlier_run_there_are_only_as_many_as_the_rate_are_remembered() {
        let mut limiter = RateLimiter::new(3);
        for second in 0..100_000 {
            limiter.restore(at(second % 50), 2);
            assert!(limiter.ended.len() <= 3, "{limiter:?}");
        }
        assert_eq!(limiter.next_at(at(50)), Some(at(109)), "the newest are");
    }

    #[test]
    fn what_was_not_sent_does_not_count() {
        let mut limiter = RateLimiter::new(1);
        limiter.begun();
        limiter.cancelled();
        assert_eq!(limiter.next_at(at(1)), Some(at(1)));
    }

    #[test]
    fn half_of_the_rate_can_be_left_to_others() {
        let mut limiter = RateLimiter::new(4);
        for second in 0..2 {
            assert_eq!(limiter.next_at_half_rate(at(second)), Some(at(second)));
            limiter.begun();
            limiter.ended(at(second));
        }
        assert_eq!(limiter.next_at_half_rate(at(2)), Some(at(60)));
        assert_eq!(limiter.next_at(at(2)), Some(at(2)));
    }

    #[test]
    fn a_lowered_rate_is_looked_at_again_when_it_rises() {
        let mut limiter = RateLimiter::new(4);
        for _ in 0..2 {
            limiter.begun();
            limiter.ended(at(0));
        }
        limiter.halve(at(0));
        assert_eq!(limiter.next_at(at(0)), Some(at(30)), "a third is allowed then, and not at 60 only");
        assert_eq!(limiter.next_at(at(30)), Some(at(30)));
        limiter.halve(at(30));
        limiter.halve(at(30));
        limiter.begun();
        assert_eq!(limiter.next_at(at(31)), Some(at(60)));
    }

    #[test]
    fn a_rate_of_one_can_be_throttled_and_still_sends() {
        let mut limiter = RateLimiter::new(1);
        limiter.halve(at(0));
        assert_eq!(limiter.allowed(at(0)), 1);
    }

    #[test]
    fn an_attempt_may_have_arrived_until_it_timed_out_or_the_run_ended() {
        assert_eq!(latest_arrival(at(3), at(100), at(10)), at(100));
        assert_eq!(latest_arrival(at(50), at(100), at(10)), at(65));
    }

    #[test]
    fn what_lies_beyond_the_lookback_left_the_window() {
        let (now, timeout) = (WINDOW, at(10));
        assert_eq!(latest_arrival(lookback(timeout), now, timeout) + WINDOW, now);
    }
}
