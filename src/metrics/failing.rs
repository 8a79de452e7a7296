//! The service keys for which attempts fail at present: since when, and how.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::pagerduty::{OutcomeKind, ServiceKey};

/// How the attempts for a service key fail. It ends when PagerDuty accepts or rejects an event of the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failing {
    /// How the last of these attempts ended.
    pub kind: OutcomeKind,
    /// When the first of these attempts ended, in this run or an earlier one.
    pub since: DateTime<Utc>,
}

/// The service keys whose attempts fail, and which of them changed since they were saved.
#[derive(Debug, Default)]
pub(super) struct FailingKeys {
    keys: BTreeMap<ServiceKey, Failing>,
    unsaved: BTreeSet<ServiceKey>,
}

impl FailingKeys {
    /// An attempt for `key` ended at `at`. Returns whether that has to be saved.
    pub(super) fn attempted(&mut self, key: &ServiceKey, kind: OutcomeKind, at: DateTime<Utc>) -> bool {
        let is_changed = match (kind, self.keys.get_mut(key)) {
            (OutcomeKind::Delivered | OutcomeKind::Refused, _) => self.keys.remove(key).is_some(),
            // An idle connection that PagerDuty closed says nothing about how the others fail.
            (OutcomeKind::Dropped, Some(_)) => false,
            (kind, Some(failing)) => std::mem::replace(&mut failing.kind, kind) != kind,
            (kind, None) => self.keys.insert(key.clone(), Failing { kind, since: at }).is_none(),
        };
        if is_changed {
            self.unsaved.insert(key.clone());
        }
        is_changed
    }

    /// Forgets how attempts for `key` failed, because other bridges may have delivered for it since. What they saved is
    /// not deleted.
    pub(super) fn forget(&mut self, key: &ServiceKey) {
        if self.keys.remove(key).is_some() {
            self.unsaved.remove(key);
        }
    }

    pub(super) fn of(&self, key: &ServiceKey) -> Option<Failing> {
        self.keys.get(key).copied()
    }

    pub(super) fn get(&self) -> BTreeMap<ServiceKey, Failing> {
        self.keys.clone()
    }

    /// Restores what an earlier run saved, unless PagerDuty accepted an event of the key since; `delivered` says when.
    pub(super) fn restore(
        &mut self,
        saved: BTreeMap<ServiceKey, Option<Failing>>,
        delivered: &BTreeMap<ServiceKey, DateTime<Utc>>,
        now: DateTime<Utc>,
    ) {
        for (key, failing) in saved {
            let Some(failing) = failing.filter(|failing| still_holds(*failing, delivered.get(&key))) else { continue };
            let since = failing.since.min(now);
            self.keys.entry(key).or_insert(Failing { since, ..failing });
        }
    }

    /// The keys that changed since the last call; `None` for one that no longer fails.
    pub(super) fn take_unsaved(&mut self) -> BTreeMap<ServiceKey, Option<Failing>> {
        let keys = std::mem::take(&mut self.unsaved).into_iter();
        keys.map(|key| (key.clone(), self.keys.get(&key).copied())).collect()
    }

    /// Records that these keys were not saved.
    pub(super) fn not_saved(&mut self, unsaved: &BTreeMap<ServiceKey, Option<Failing>>) {
        // A failing key that was forgotten meanwhile would be deleted, and with it what another bridge saved.
        let saved_again = unsaved.iter().filter(|(key, failing)| failing.is_none() || self.keys.contains_key(*key));
        self.unsaved.extend(saved_again.map(|(key, _)| key.clone()));
    }
}

/// Adds what other bridges have saved. The earlier of two beginnings counts, unless PagerDuty accepted an event since.
pub(super) fn include(
    keys: &mut BTreeMap<ServiceKey, Failing>,
    saved: &BTreeMap<ServiceKey, Option<Failing>>,
    delivered: &BTreeMap<ServiceKey, DateTime<Utc>>,
) {
    // Another bridge may have delivered since. What is over on one side must not hide what began later on the other.
    keys.retain(|key, failing| still_holds(*failing, delivered.get(key)));
    for (key, failing) in saved {
        let Some(failing) = failing.filter(|failing| still_holds(*failing, delivered.get(key))) else { continue };
        let known = keys.entry(key.clone()).or_insert(failing);
        known.since = known.since.min(failing.since);
    }
}

fn still_holds(failing: Failing, delivered: Option<&DateTime<Utc>>) -> bool {
    delivered.is_none_or(|delivered| *delivered <= failing.since)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn key() -> ServiceKey {
        ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn the_first_failure_after_a_delivery_is_the_beginning() {
        let mut failing = FailingKeys::default();
        failing.attempted(&key(), OutcomeKind::Timeout, at(1));
        failing.attempted(&key(), OutcomeKind::NetworkError, at(2));
        failing.attempted(&key(), OutcomeKind::Dropped, at(3));
        let known = Failing { kind: OutcomeKind::NetworkError, since: at(1) };
        assert_eq!(failing.get().get(&key()), Some(&known));
        assert_eq!(failing.take_unsaved(), BTreeMap::from([(key(), Some(known))]));
        failing.attempted(&key(), OutcomeKind::Delivered, at(4));
        assert_eq!((failing.get().len(), failing.take_unsaved()), (0, BTreeMap::from([(key(), None)])));
        failing.attempted(&key(), OutcomeKind::Delivered, at(5));
        assert_eq!(failing.take_unsaved(), BTreeMap::new(), "nothing changed");
        failing.attempted(&key(), OutcomeKind::Throttled, at(6));
        assert_eq!(failing.get()[&key()].since, at(6));
        failing.attempted(&key(), OutcomeKind::Refused, at(7));
        assert_eq!(failing.get().len(), 0, "PagerDuty has answered");
    }

    #[test]
    fn a_restart_keeps_the_beginning_unless_an_event_was_delivered_since() {
        let saved = BTreeMap::from([(key(), Some(Failing { kind: OutcomeKind::Timeout, since: at(10) }))]);
        let restored = |delivered: i64, now: i64| {
            let mut failing = FailingKeys::default();
            failing.restore(saved.clone(), &BTreeMap::from([(key(), at(delivered))]), at(now));
            failing.attempted(&key(), OutcomeKind::NetworkError, at(now));
            failing.get()[&key()].since
        };
        assert_eq!(restored(9, 100), at(10));
        assert_eq!(restored(11, 100), at(100));
        assert_eq!(restored(9, 5), at(5), "the clock was set back");
    }

    #[test]
    fn the_earlier_beginning_of_two_bridges_counts() {
        let failing = |since| Failing { kind: OutcomeKind::Timeout, since: at(since) };
        let saved = BTreeMap::from([(key(), Some(failing(10)))]);
        let seen = |own: Option<i64>, delivered: i64| {
            let mut keys: BTreeMap<_, _> = own.map(|since| (key(), failing(since))).into_iter().collect();
            include(&mut keys, &saved, &BTreeMap::from([(key(), at(delivered))]));
            keys.get(&key()).map(|failing| failing.since)
        };
        assert_eq!(seen(None, 5), Some(at(10)));
        assert_eq!(seen(Some(20), 5), Some(at(10)));
        assert_eq!(seen(Some(20), 15), Some(at(20)));
        assert_eq!(seen(Some(20), 25), None);
    }

    #[test]
    fn what_is_over_hides_nothing_that_another_bridge_sees() {
        let failing = |since| Failing { kind: OutcomeKind::Timeout, since: at(since) };
        let mut keys = BTreeMap::from([(key(), failing(10))]);
        let saved = BTreeMap::from([(key(), Some(failing(20)))]);
        include(&mut keys, &saved, &BTreeMap::from([(key(), at(15))]));
        assert_eq!(keys.get(&key()), Some(&failing(20)));
    }

    #[test]
    fn a_key_that_is_taken_over_fails_anew() {
        let mut failing = FailingKeys::default();
        failing.attempted(&key(), OutcomeKind::Timeout, at(10));
        let unsaved = failing.take_unsaved();
        // Another bridge delivered in between.
        failing.forget(&key());
        assert!(failing.attempted(&key(), OutcomeKind::Timeout, at(30)));
        let anew = Failing { kind: OutcomeKind::Timeout, since: at(30) };
        assert_eq!(failing.take_unsaved(), BTreeMap::from([(key(), Some(anew))]));
        failing.forget(&key());
        failing.not_saved(&unsaved);
        assert_eq!(failing.take_unsaved(), BTreeMap::new(), "what the other bridge saved is not deleted");
    }
}
