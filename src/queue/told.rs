//! What webhooks told a short while ago, so that a repetition is known for one.
//!
//! Only in memory: after a restart a repetition adds a line to the log of its incident, which is no harm.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use crate::ingest::{Dedup, DedupKey};

/// For how long. Sentry repeats a delivery three times, five minutes apart.
pub(super) const WINDOW: TimeDelta = TimeDelta::minutes(20);

/// How many keys are remembered at most; about 20 MB.
const MOST: usize = 200_000;

/// The keys of what was told, with the time each came last.
#[derive(Debug, Default)]
pub(super) struct Told {
    times: HashMap<DedupKey, DateTime<Utc>>,
    order: VecDeque<(DateTime<Utc>, DedupKey)>,
}

impl Told {
    /// Whether the same was told within the window before `now`.
    pub(super) fn knows(&self, dedup: &Dedup, now: DateTime<Utc>) -> bool {
        dedup.seen_if.iter().any(|key| self.times.get(key).is_some_and(|told| is_recent(*told, now)))
    }

    /// Remembers what was told at `now`.
    pub(super) fn remember(&mut self, dedup: Dedup, now: DateTime<Utc>) {
        for key in dedup.records {
            self.times.insert(key.clone(), now);
            self.order.push_back((now, key));
        }
        while let Some((told, _)) = self.order.front()
            && (!is_recent(*told, now) || self.order.len() > MOST)
            && let Some((told, key)) = self.order.pop_front()
        {
            // Told again meanwhile, it has a later place in the order.
            if self.times.get(&key) == Some(&told) {
                self.times.remove(&key);
            }
        }
    }
}

/// Whether something was told a short while ago. What was told later than now was told before the clock was set back, and
/// nobody knows how long ago.
fn is_recent(told: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - told).abs() < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::dedup;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn told(text: &str) -> Dedup {
        let keys = vec![dedup::key_of(text)];
        Dedup { seen_if: keys.clone(), records: keys, ..Dedup::default() }
    }

    #[test]
    fn what_was_told_is_known_for_a_while_and_then_forgotten() {
        let mut memory = Told::default();
        assert!(!memory.knows(&told("a"), at(0)));
        memory.remember(told("a"), at(0));
        assert!(memory.knows(&told("a"), at(19)));
        assert!(!memory.knows(&told("b"), at(19)));
        assert!(!memory.knows(&told("a"), at(20)));
        memory.remember(told("b"), at(20));
        assert_eq!(memory.times.len(), 1);
    }

    #[test]
    fn what_is_told_again_is_remembered_from_then_on() {
        let mut memory = Told::default();
        memory.remember(told("a"), at(0));
        memory.remember(told("a"), at(15));
        memory.remember(told("b"), at(21));
        assert!(memory.knows(&told("a"), at(34)));
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many() {
        let mut memory = Told::default();
        for number in 0..=MOST {
            memory.remember(told(&number.to_string()), at(0));
        }
        assert!(!memory.knows(&told("0"), at(0)));
        assert!(memory.knows(&told("1"), at(0)));
        assert_eq!((memory.times.len(), memory.order.len()), (MOST, MOST));
    }
}
