//! The service keys that this worker delivers for, and the fence of each lease. Pure.

use std::collections::BTreeMap;

use crate::pagerduty::ServiceKey;
use crate::queue::Fence;

/// The keys that the worker delivers for, and those that it is taking over.
#[derive(Debug)]
pub struct OwnedKeys {
    /// `None`: the worker delivers for all keys, without a time limit.
    owned: Option<BTreeMap<ServiceKey, Fence>>,
    taking_over: BTreeMap<ServiceKey, Fence>,
}

impl OwnedKeys {
    /// Returns those of a bridge that has the queue to itself: all keys.
    #[must_use]
    pub fn all() -> Self {
        Self { owned: None, taking_over: BTreeMap::new() }
    }

    /// Returns those of a bridge that shares its queue and has no leases yet.
    #[must_use]
    pub fn none() -> Self {
        Self { owned: Some(BTreeMap::new()), taking_over: BTreeMap::new() }
    }

    /// Whether this worker delivers for `key`.
    #[must_use]
    pub fn has(&self, key: &ServiceKey) -> bool {
        self.owned.as_ref().is_none_or(|owned| owned.contains_key(key))
    }

    /// Whether this worker delivers for `key` under this fence.
    #[must_use]
    pub fn has_by(&self, key: &ServiceKey, fence: Option<Fence>) -> bool {
        self.owned.as_ref().is_none_or(|owned| owned.get(key).copied() == fence)
    }

    /// Gives up the keys that the bridge has no lease of any more, and returns those that it owned until now. `leases`
    /// are the leases that it has now.
    pub fn give_up(&mut self, leases: &BTreeMap<ServiceKey, Fence>) -> Vec<ServiceKey> {
        let is_leased = |key: &ServiceKey, fence: &Fence| leases.get(key) == Some(fence);
        self.taking_over.retain(|key, fence| is_leased(key, fence));
        let Some(owned) = &mut self.owned else { return Vec::new() };
        owned.extract_if(.., |key, fence| !is_leased(key, fence)).map(|(key, _)| key).collect()
    }

    /// Begins to take over the other keys of `leases`, and returns them. Each takeover ends with
    /// [`complete_takeover`](Self::complete_takeover) or [`cancel_takeover`](Self::cancel_takeover).
    ///
    /// A key is not taken over while attempts that began under an earlier lease are in flight, which `is_busy` reports:
    /// otherwise the same event could be sent twice at the same time.
    pub fn begin_takeover(
        &mut self,
        leases: &BTreeMap<ServiceKey, Fence>,
        is_busy: impl Fn(&ServiceKey) -> bool,
    ) -> BTreeMap<ServiceKey, Fence> {
        let Some(owned) = &self.owned else { return BTreeMap::new() };
        let is_new =
            |key: &ServiceKey| !owned.contains_key(key) && !self.taking_over.contains_key(key) && !is_busy(key);
        let new: BTreeMap<_, _> =
            leases.iter().filter(|(key, _)| is_new(key)).map(|(key, fence)| (key.clone(), *fence)).collect();
        self.taking_over.extend(new.clone());
        new
    }

    /// Completes the takeover of a key, once everything that it needs was read. Returns whether the key was still to be
    /// taken over.
    pub fn complete_takeover(&mut self, key: &ServiceKey, fence: Fence) -> bool {
        let is_wanted = self.taking_over.get(key) == Some(&fence);
        if is_wanted && let Some(owned) = &mut self.owned {
            self.taking_over.remove(key);
            owned.insert(key.clone(), fence);
        }
        is_wanted
    }

    /// Cancels the takeover of a key, because what it needs could not be read. It begins again with the next
    /// [`begin_takeover`](Self::begin_takeover).
    pub fn cancel_takeover(&mut self, key: &ServiceKey, fence: Fence) {
        if self.taking_over.get(key) == Some(&fence) {
            self.taking_over.remove(key);
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

    fn leases(leases: &[(usize, i64)]) -> BTreeMap<ServiceKey, Fence> {
        leases.iter().map(|(key_number, number)| (key(*key_number), fence(*number))).collect()
    }

    /// Follows the leases, while no attempt is in flight. Returns the keys given up and those to take over.
    fn follow(keys: &mut OwnedKeys, now: &[(usize, i64)]) -> (Vec<ServiceKey>, BTreeMap<ServiceKey, Fence>) {
        (keys.give_up(&leases(now)), keys.begin_takeover(&leases(now), |_| false))
    }

    #[test]
    fn who_has_the_queue_alone_has_every_key() {
        let mut keys = OwnedKeys::all();
        assert!(keys.has(&key(1)) && keys.has_by(&key(1), None));
        assert_eq!(follow(&mut keys, &[]), (Vec::new(), leases(&[])));
    }

    #[test]
    fn a_key_is_had_from_when_it_was_read_until_its_right_is_another_one() {
        let mut keys = OwnedKeys::none();
        assert_eq!(keys.give_up(&leases(&[(1, 5), (2, 1)])), []);
        let new = keys.begin_takeover(&leases(&[(1, 5), (2, 1)]), |key_of| *key_of == key(2));
        assert_eq!(new, leases(&[(1, 5)]), "2 is busy");
        assert!(!keys.has(&key(1)));
        assert_eq!(follow(&mut keys, &[(1, 5)]), (Vec::new(), leases(&[])), "it is being read");
        assert!(keys.complete_takeover(&key(1), fence(5)));
        assert!(keys.has_by(&key(1), Some(fence(5))) && !keys.has_by(&key(1), Some(fence(4))));
        assert_eq!(follow(&mut keys, &[(1, 7)]), (vec![key(1)], leases(&[(1, 7)])));
        assert!(!keys.complete_takeover(&key(1), fence(5)), "that was for an earlier right");
        keys.cancel_takeover(&key(1), fence(7));
        assert_eq!(follow(&mut keys, &[(1, 7)]), (Vec::new(), leases(&[(1, 7)])), "once more");
        follow(&mut keys, &[]);
        assert!(!keys.complete_takeover(&key(1), fence(7)), "it is lost meanwhile");
    }
}
