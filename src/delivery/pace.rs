//! So many events per 60 seconds and service key, fewer while PagerDuty throttles.
//!
//! Source: PagerDuty's page "Rate limits": about 120 calls a minute and integration key, counted "over a 60 second
//! window looking back from the current time", and lowered when its systems are busy.

use std::collections::VecDeque;
use std::time::Duration;

use super::moment::Moment;

/// The time PagerDuty looks back.
pub const WINDOW: Duration = Duration::from_mins(1);

/// How long a lowered rate stays before it is doubled again.
const RECOVERY: Duration = Duration::from_secs(30);

/// Throttling never lowers the rate below this part of the full one: less would make the recovery slower than the
/// throttling was.
const FLOOR: u32 = 8;

/// Counts the attempts of one service key so that no 60 seconds, wherever they begin, see more than the rate.
///
/// PagerDuty counts when an event arrives, which lies somewhere between the beginning and the end of its attempt. An
/// attempt therefore holds its place from its beginning until 60 seconds after its end.
#[derive(Clone, Debug)]
pub struct Pace {
    full: u32,
    allowed: u32,
    changed_at: Moment,
    under_way: u32,
    ended: VecDeque<Moment>,
}

impl Pace {
    /// A pace of `rate` attempts per [`WINDOW`]; at least one.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        let full = rate.max(1);
        Self { full, allowed: full, changed_at: Moment::ZERO, under_way: 0, ended: VecDeque::new() }
    }

    /// How many attempts 60 seconds may see at `now`.
    #[must_use]
    pub fn allowed(&self, now: Moment) -> u32 {
        self.risen(now).0
    }

    /// How many they may see while PagerDuty does not throttle.
    #[must_use]
    pub fn full(&self) -> u32 {
        self.full
    }

    /// When the next attempt may begin: `Some(now)` or an earlier moment means at once, `None` that an attempt under
    /// way has to end first. Never later than the moment at which a lowered rate rises.
    pub fn opens_at(&mut self, now: Moment) -> Option<Moment> {
        self.recover(now);
        self.room_at(now, self.allowed)
    }

    /// The same for an attempt that leaves half of the rate to others, which may come at any moment.
    pub fn half_free_at(&mut self, now: Moment) -> Option<Moment> {
        self.recover(now);
        self.room_at(now, self.allowed.div_ceil(2))
    }

    fn room_at(&mut self, now: Moment, allowed: u32) -> Option<Moment> {
        while self.ended.front().is_some_and(|end| *end + WINDOW <= now) {
            self.ended.pop_front();
        }
        let rises = (self.allowed < self.full).then_some(self.changed_at + RECOVERY);
        let Some(free) = allowed.checked_sub(self.under_way).filter(|free| *free > 0) else { return rises };
        // Of the attempts that ended within the window, all but the newest `free - 1` must have left it.
        let blocking = self.ended.len().checked_sub(free as usize).and_then(|index| self.ended.get(index));
        let leaves = blocking.map_or(now, |end| *end + WINDOW);
        Some(rises.map_or(leaves, |rises| leaves.min(rises)))
    }

    /// An attempt begins.
    pub fn begun(&mut self) {
        self.under_way += 1;
    }

    /// An attempt ended, in whatever way.
    pub fn ended(&mut self, now: Moment) {
        self.under_way = self.under_way.saturating_sub(1);
        self.remember(now, 1);
    }

    /// An attempt did not begin after all: nothing was sent.
    pub fn cancelled(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Attempts of an earlier run of the bridge, `times` of them, that may have arrived as late as `end`. Only the newest
    /// are kept, as many as the full rate: older ones never decide when the next attempt may begin.
    pub fn remember(&mut self, end: Moment, times: u32) {
        let place = self.ended.partition_point(|other| *other <= end);
        for _ in 0..times.min(self.full) {
            self.ended.insert(place, end);
        }
        let excess = self.ended.len().saturating_sub(self.full as usize);
        self.ended.drain(..excess);
    }

    /// PagerDuty throttled: half the rate, for now.
    pub fn halve(&mut self, now: Moment) {
        self.recover(now);
        self.allowed = (self.allowed / 2).max(self.full / FLOOR).max(1);
        self.changed_at = now;
    }

    fn recover(&mut self, now: Moment) {
        (self.allowed, self.changed_at) = self.risen(now);
    }

    /// What is allowed at `now`, and since when.
    fn risen(&self, now: Moment) -> (u32, Moment) {
        let (mut allowed, mut since) = (self.allowed, self.changed_at);
        while allowed < self.full && since + RECOVERY <= now {
            allowed = allowed.saturating_mul(2).min(self.full);
            since += RECOVERY;
        }
        (allowed, since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_never_sees_more_than_the_rate() {
        let mut pace = Pace::new(3);
        for second in 0..3 {
            assert_eq!(pace.opens_at(at(second)), Some(at(second)));
            pace.begun();
            pace.ended(at(second));
        }
        assert_eq!(pace.opens_at(at(3)), Some(at(60)));
        assert_eq!(pace.opens_at(at(60)), Some(at(60)));
        pace.begun();
        pace.ended(at(60));
        assert_eq!(pace.opens_at(at(60)), Some(at(61)));
    }

    #[test]
    fn an_attempt_holds_its_place_until_a_window_after_its_end() {
        let mut pace = Pace::new(1);
        pace.begun();
        assert_eq!(pace.opens_at(at(100)), None);
        pace.ended(at(100));
        assert_eq!(pace.opens_at(at(100)), Some(at(160)));
    }

    #[test]
    fn throttling_halves_the_rate_and_time_restores_it() {
        let mut pace = Pace::new(120);
        for expected in [60, 30, 15, 15] {
            pace.halve(at(0));
            assert_eq!(pace.allowed(at(0)), expected);
        }
        for (second, expected) in [(29, 15), (30, 30), (60, 60), (1000, 120)] {
            assert_eq!(pace.allowed(at(second)), expected, "whether or not something is sent meanwhile");
            pace.opens_at(at(second));
            assert_eq!(pace.allowed(at(second)), expected);
        }
    }

    #[test]
    fn the_attempts_of_an_earlier_run_count() {
        let mut pace = Pace::new(2);
        pace.remember(at(5), 1);
        pace.remember(at(1), 1);
        assert_eq!(pace.opens_at(at(6)), Some(at(61)));
        pace.remember(at(5), u32::MAX);
        assert_eq!(pace.opens_at(at(61)), Some(at(65)));
        assert_eq!(pace.opens_at(at(65)), Some(at(65)));
    }

    #[test]
    fn however_many_attempts_of_an_earlier_run_there_are_only_as_many_as_the_rate_are_remembered() {
        let mut pace = Pace::new(3);
        for second in 0..100_000 {
            pace.remember(at(second % 50), 2);
            assert!(pace.ended.len() <= 3, "{pace:?}");
        }
        assert_eq!(pace.opens_at(at(50)), Some(at(109)), "the newest are");
    }

    #[test]
    fn what_was_not_sent_does_not_count() {
        let mut pace = Pace::new(1);
        pace.begun();
        pace.cancelled();
        assert_eq!(pace.opens_at(at(1)), Some(at(1)));
    }

    #[test]
    fn half_of_the_rate_can_be_left_to_others() {
        let mut pace = Pace::new(4);
        for second in 0..2 {
            assert_eq!(pace.half_free_at(at(second)), Some(at(second)));
            pace.begun();
            pace.ended(at(second));
        }
        assert_eq!(pace.half_free_at(at(2)), Some(at(60)));
        assert_eq!(pace.opens_at(at(2)), Some(at(2)));
    }

    #[test]
    fn a_lowered_rate_is_looked_at_again_when_it_rises() {
        let mut pace = Pace::new(4);
        for _ in 0..2 {
            pace.begun();
            pace.ended(at(0));
        }
        pace.halve(at(0));
        assert_eq!(pace.opens_at(at(0)), Some(at(30)), "a third is allowed then, and not at 60 only");
        assert_eq!(pace.opens_at(at(30)), Some(at(30)));
        pace.halve(at(30));
        pace.halve(at(30));
        pace.begun();
        assert_eq!(pace.opens_at(at(31)), Some(at(60)));
    }

    #[test]
    fn a_rate_of_one_can_be_throttled_and_still_sends() {
        let mut pace = Pace::new(1);
        pace.halve(at(0));
        assert_eq!(pace.allowed(at(0)), 1);
    }
}
