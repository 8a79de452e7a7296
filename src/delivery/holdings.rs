//! The service keys that this worker delivers for, and the fence of each lease. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::pagerduty::ServiceKey;
use crate::queue::Fence;

/// The service keys of the worker.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// `None`: the worker delivers for all keys, without a time limit.
    held: Option<BTreeMap<ServiceKey, Fence>>,
    /// The keys that are being taken over.
    gaining: BTreeMap<ServiceKey, Fence>,
}

/// The changes found by [`Holdings::update`].
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Change {
    /// Keys to take over. Each takeover ends with [`Holdings::gained`] or [`Holdings::not_gained`].
    pub(super) gaining: BTreeMap<ServiceKey, Fence>,
    /// Keys that were held until now.
    pub(super) lost: BTreeSet<ServiceKey>,
}

impl Holdings {
    /// Returns the holdings of a bridge that shares its queue; it has no keys yet.
    pub(super) fn shared() -> Self {
        Self { held: Some(BTreeMap::new()), gaining: BTreeMap::new() }
    }

    /// Whether this worker delivers for `key`.
    pub(super) fn has(&self, key: &ServiceKey) -> bool {
        self.held.as_ref().is_none_or(|held| held.contains_key(key))
    }

    /// Whether this worker delivers for `key` under this fence.
    pub(super) fn has_by(&self, key: &ServiceKey, fence: Option<Fence>) -> bool {
        self.held.as_ref().is_none_or(|held| held.get(key).copied() == fence)
    }

    /// Updates the holdings to the leases that the bridge has now. A key is not taken over while attempts that began under
    /// an earlier lease are in flight, which `is_busy` reports: otherwise the same event could be sent twice at the same
    /// time.
    pub(super) fn update(
        &mut self,
        rights: &BTreeMap<ServiceKey, Fence>,
        is_busy: impl Fn(&ServiceKey) -> bool,
    ) -> Change {
        let mut change = Change::default();
        let Some(held) = &mut self.held else { return change };
        held.retain(|key, fence| {
            let stays = rights.get(key) == Some(fence);
            if !stays {
                change.lost.insert(key.clone());
            }
            stays
        });
        self.gaining.retain(|key, fence| rights.get(key) == Some(fence));
        for (key, fence) in rights {
            if !held.contains_key(key) && !self.gaining.contains_key(key) && !is_busy(key) {
                self.gaining.insert(key.clone(), *fence);
                change.gaining.insert(key.clone(), *fence);
            }
        }
        change
    }

    /// Completes the takeover of a key, once everything that it needs was read. Returns whether the key was still to be
    /// taken over.
    pub(super) fn gained(&mut self, key: &ServiceKey, fence: Fence) -> bool {
        let is_wanted = self.gaining.get(key) == Some(&fence);
        if is_wanted && let Some(held) = &mut self.held {
            self.gaining.remove(key);
            held.insert(key.clone(), fence);
        }
        is_wanted
    }

    /// Cancels the takeover of a key, because what it needs could not be read. The next update requests it again.
    pub(super) fn not_gained(&mut self, key: &ServiceKey, fence: Fence) {
        if self.gaining.get(key) == Some(&fence) {
            self.gaining.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::BridgeId;

    fn key(number: usize) -> ServiceKey {
        ServiceKey::parse(&format!("{number:032}")).unwrap()
    }

    fn fence(number: i64) -> Fence {
        Fence { number, owner: BridgeId::new(1) }
    }

    fn rights(rights: &[(usize, i64)]) -> BTreeMap<ServiceKey, Fence> {
        rights.iter().map(|(key_number, number)| (key(*key_number), fence(*number))).collect()
    }

    #[test]
    fn who_has_the_queue_alone_has_every_key() {
        let mut holdings = Holdings::default();
        assert!(holdings.has(&key(1)) && holdings.has_by(&key(1), None));
        assert_eq!(holdings.update(&rights(&[]), |_| false), Change::default());
    }

    #[test]
    fn a_key_is_had_from_when_it_was_read_until_its_right_is_another_one() {
        let mut holdings = Holdings::shared();
        let change = holdings.update(&rights(&[(1, 5), (2, 1)]), |key_of| *key_of == key(2));
        assert_eq!(change, Change { gaining: rights(&[(1, 5)]), lost: BTreeSet::new() }, "2 is busy");
        assert!(!holdings.has(&key(1)));
        assert_eq!(holdings.update(&rights(&[(1, 5)]), |_| false), Change::default(), "it is being read");
        assert!(holdings.gained(&key(1), fence(5)));
        assert!(holdings.has_by(&key(1), Some(fence(5))) && !holdings.has_by(&key(1), Some(fence(4))));
        let change = holdings.update(&rights(&[(1, 7)]), |_| false);
        assert_eq!(change, Change { gaining: rights(&[(1, 7)]), lost: BTreeSet::from([key(1)]) });
        assert!(!holdings.gained(&key(1), fence(5)), "that was for an earlier right");
        holdings.not_gained(&key(1), fence(7));
        assert_eq!(holdings.update(&rights(&[(1, 7)]), |_| false).gaining, rights(&[(1, 7)]), "once more");
        holdings.update(&rights(&[]), |_| false);
        assert!(!holdings.gained(&key(1), fence(7)), "it is lost meanwhile");
    }
}
