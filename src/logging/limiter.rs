//! How often a line may be repeated. Pure: the time is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// What one cause may say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budget {
    /// So many lines at once.
    pub burst: u32,
    /// Then one in this time. A cause that was quiet for so long begins anew.
    pub pause: Duration,
    /// So many causes are told apart; further ones share a budget.
    pub causes: usize,
}

/// Counts the lines of each cause. Its memory is bounded by [`Budget::causes`].
#[derive(Debug)]
pub struct Limiter<C> {
    budget: Budget,
    tallies: HashMap<C, Tally>,
    /// Of all causes that found no room.
    others: Tally,
}

/// Lines that were left out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LeftOut {
    /// How many.
    pub lines: u64,
    /// Since how long ago.
    pub since: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Lines written since the cause began to speak.
    written: u32,
    left_out: u64,
    /// When a line was written last.
    last_written: Duration,
    /// When there was something to write last.
    last_seen: Duration,
}

impl<C: Eq + Hash> Limiter<C> {
    /// A limiter that has seen nothing.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { budget, tallies: HashMap::new(), others: Tally::default() }
    }

    /// Whether a line of `cause` may be written at `now`, the time on a clock that never goes back; `None` leaves it
    /// out. A line that is written has to say what was left out before it.
    #[must_use]
    pub fn admit(&mut self, cause: C, now: Duration) -> Option<LeftOut> {
        let Budget { burst, pause, causes } = self.budget;
        let tally = if self.tallies.len() < causes || self.tallies.contains_key(&cause) {
            self.tallies.entry(cause).or_default()
        } else {
            &mut self.others
        };
        if now.saturating_sub(tally.last_seen) >= pause {
            tally.written = 0;
        }
        tally.last_seen = now;
        if tally.written >= burst && now.saturating_sub(tally.last_written) < pause {
            tally.left_out += 1;
            return None;
        }
        tally.written = tally.written.saturating_add(1);
        Some(tally.tell(now))
    }

    /// Forgets the causes that are quiet since [`Budget::pause`] at `now`, and returns what of theirs was left out and
    /// never told; `None` stands for all causes that found no room.
    #[must_use]
    pub fn quiet(&mut self, now: Duration) -> Vec<(Option<C>, LeftOut)> {
        let pause = self.budget.pause;
        self.forget(now, |tally| now.saturating_sub(tally.last_seen) >= pause)
    }

    /// Forgets all, quiet or not; as [`quiet`](Self::quiet) otherwise.
    #[must_use]
    pub fn finish(&mut self, now: Duration) -> Vec<(Option<C>, LeftOut)> {
        self.forget(now, |_| true)
    }

    fn forget(&mut self, now: Duration, gone: impl Fn(&Tally) -> bool) -> Vec<(Option<C>, LeftOut)> {
        let quiet = self.tallies.extract_if(|_, tally| gone(tally));
        let mut told: Vec<_> = quiet.map(|(cause, mut tally)| (Some(cause), tally.tell(now))).collect();
        if gone(&self.others) {
            told.push((None, std::mem::take(&mut self.others).tell(now)));
        }
        told.retain(|(_, left_out)| left_out.lines > 0);
        told
    }
}

impl Tally {
    fn tell(&mut self, now: Duration) -> LeftOut {
        let left_out = LeftOut { lines: self.left_out, since: now.saturating_sub(self.last_written) };
        self.left_out = 0;
        self.last_written = now;
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { burst: 3, pause: Duration::from_mins(1), causes: 2 };

    /// What is left out before the lines that are written, when `cause` speaks at these seconds.
    fn written(limiter: &mut Limiter<char>, cause: char, seconds: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
        let admit = |second| Some((second, limiter.admit(cause, Duration::from_secs(second))?.lines));
        seconds.into_iter().filter_map(admit).collect()
    }

    #[test]
    fn the_first_lines_are_written_and_then_one_a_minute_that_counts_the_others() {
        let limiter = &mut Limiter::new(BUDGET);
        let lines = written(limiter, 'a', 100..300);
        assert_eq!(lines, [(100, 0), (101, 0), (102, 0), (162, 59), (222, 59), (282, 59)]);
        assert_eq!(limiter.admit('a', Duration::from_secs(342)), Some(LeftOut { lines: 17, since: BUDGET.pause }));
    }

    #[test]
    fn what_comes_less_often_than_the_pause_is_never_left_out() {
        let limiter = &mut Limiter::new(BUDGET);
        assert_eq!(written(limiter, 'a', (0..600).step_by(60)).len(), 10);
    }

    #[test]
    fn after_a_quiet_minute_a_cause_has_its_whole_budget_and_still_tells_what_it_left_out() {
        let limiter = &mut Limiter::new(BUDGET);
        assert_eq!(written(limiter, 'a', [0; 10]).len(), 3);
        assert_eq!(written(limiter, 'a', [60; 10]), [(60, 7), (60, 0), (60, 0)]);
    }

    #[test]
    fn one_cause_does_not_take_anothers_lines_unless_there_is_no_room_for_more() {
        let limiter = &mut Limiter::new(BUDGET);
        for cause in ['a', 'b'] {
            assert_eq!(written(limiter, cause, [0; 9]).len(), 3, "{cause}");
        }
        let lines: Vec<_> = ('c'..='z').filter(|cause| limiter.admit(*cause, Duration::ZERO).is_some()).collect();
        assert_eq!(lines, ['c', 'd', 'e']);
        assert_eq!(limiter.tallies.len(), 2);
        let later = limiter.finish(Duration::ZERO).into_iter().map(|(cause, left_out)| (cause, left_out.lines));
        let mut later: Vec<_> = later.collect();
        later.sort_unstable();
        assert_eq!(later, [(None, 21), (Some('a'), 6), (Some('b'), 6)]);
    }

    #[test]
    fn what_is_quiet_is_told_once_and_forgotten() {
        let limiter = &mut Limiter::new(BUDGET);
        assert_eq!(written(limiter, 'a', [0; 5]).len(), 3);
        assert_eq!(written(limiter, 'b', [30]).len(), 1);
        assert_eq!(limiter.quiet(Duration::from_secs(59)), []);
        let left_out = LeftOut { lines: 2, since: Duration::from_secs(90) };
        assert_eq!(limiter.quiet(Duration::from_secs(90)), [(Some('a'), left_out)]);
        assert_eq!(limiter.quiet(Duration::from_hours(1)), []);
        assert_eq!(limiter.tallies.len(), 0, "what left nothing out is forgotten as well");
    }
}
