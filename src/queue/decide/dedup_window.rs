//! The dedup window: the keys of the webhooks of the last minutes, by which repetitions are recognised.
//!
//! If the store is not shared, the window is only in memory: after a restart, a repetition adds a line to the log of
//! its incident, which does no harm.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use super::Batch;
use crate::envelope::{Dedup, DedupKey};
use crate::queue::store::Known;

/// The length of the window. Sentry repeats a delivery three times, five minutes apart.
pub(in crate::queue) const DEDUP_WINDOW: TimeDelta = TimeDelta::minutes(20);

/// How many keys the window holds at most; about 20 MB.
const MAX_KEYS: usize = 200_000;

/// The keys of the window, each with the time it was last received.
#[derive(Debug, Default)]
pub(in crate::queue) struct DedupWindow {
    times: HashMap<DedupKey, DateTime<Utc>>,
    order: VecDeque<(DateTime<Utc>, DedupKey)>,
}

impl DedupWindow {
    /// Whether a webhook that this one repeats was received within the window around `now`.
    pub(in crate::queue) fn knows(&self, dedup: &Dedup, now: DateTime<Utc>) -> bool {
        dedup.lookup_keys.iter().any(|key| self.times.get(key).is_some_and(|came| is_recent(*came, now)))
    }

    /// Adds the keys of a webhook that was received at `now`.
    pub(in crate::queue) fn remember(&mut self, dedup: &Dedup, now: DateTime<Utc>) {
        for key in &dedup.recorded_keys {
            self.times.insert(key.clone(), now);
            self.order.push_back((now, key.clone()));
        }
        while let Some((came, _)) = self.order.front()
            && (!is_recent(*came, now) || self.order.len() > MAX_KEYS)
            && let Some((came, key)) = self.order.pop_front()
        {
            // A key that was received again has a later place in the order.
            if self.times.get(&key) == Some(&came) {
                self.times.remove(&key);
            }
        }
    }
}

/// Whether `came` is within the window around `now`. A time later than `now` was recorded before the clock was set
/// back, so its true age is unknown.
fn is_recent(came: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - came).abs() < DEDUP_WINDOW
}

/// For each webhook, whether it repeats one within the dedup window or one before it in the batch.
pub(super) fn repeated(batch: &Batch<'_>, known: &Known, window: &DedupWindow) -> Vec<bool> {
    let mut of_batch: HashSet<&DedupKey> = HashSet::new();
    let came_elsewhere = |key, now| known.dedup_keys.get(key).is_some_and(|came| is_recent(*came, now));
    let mut repeated = Vec::with_capacity(batch.enqueues.len());
    for enqueue in &batch.enqueues {
        let (dedup, received_at) = (enqueue.dedup(), enqueue.received_at());
        let is_repeated = !batch.is_late
            && (window.knows(dedup, received_at)
                || dedup.lookup_keys.iter().any(|key| of_batch.contains(key) || came_elsewhere(key, received_at)));
        if !is_repeated {
            of_batch.extend(&dedup.recorded_keys);
        }
        repeated.push(is_repeated);
    }
    repeated
}

/// Each dedup key once, with the latest time at which it was received.
pub(super) fn dedup_keys<'b>(webhooks: &[(&'b Dedup, DateTime<Utc>)]) -> Vec<(&'b DedupKey, DateTime<Utc>)> {
    let mut times = BTreeMap::new();
    for (dedup, received_at) in webhooks {
        for key in &dedup.recorded_keys {
            let latest = times.entry(key).or_insert(*received_at);
            *latest = (*latest).max(*received_at);
        }
    }
    times.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::dedup;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn keyed(text: &str) -> Dedup {
        let keys = vec![dedup::key_of(text)];
        Dedup { lookup_keys: keys.clone(), recorded_keys: keys, ..Dedup::default() }
    }

    #[test]
    fn what_was_said_is_known_for_a_while_and_then_forgotten() {
        let mut window = DedupWindow::default();
        assert!(!window.knows(&keyed("a"), at(0)));
        window.remember(&keyed("a"), at(0));
        assert!(window.knows(&keyed("a"), at(19)));
        assert!(!window.knows(&keyed("b"), at(19)));
        assert!(!window.knows(&keyed("a"), at(20)));
        window.remember(&keyed("b"), at(20));
        assert_eq!(window.times.len(), 1);
    }

    #[test]
    fn what_is_said_again_is_remembered_from_then_on() {
        let mut window = DedupWindow::default();
        window.remember(&keyed("a"), at(0));
        window.remember(&keyed("a"), at(15));
        window.remember(&keyed("b"), at(21));
        assert!(window.knows(&keyed("a"), at(34)));
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many() {
        let mut window = DedupWindow::default();
        for number in 0..=MAX_KEYS {
            window.remember(&keyed(&number.to_string()), at(0));
        }
        assert!(!window.knows(&keyed("0"), at(0)));
        assert!(window.knows(&keyed("1"), at(0)));
        assert_eq!((window.times.len(), window.order.len()), (MAX_KEYS, MAX_KEYS));
    }
}
