//! Waiting events that cannot be read. They are set aside, so that no other event waits for them, and tried again from
//! time to time: the disk may be able to read them later, or they may be repaired.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::view::UnreadableView;
use crate::pagerduty::ServiceKey;
use crate::queue::{EventId, Page, Unreadable, WaitingKeys};

/// The events that are set aside.
#[derive(Debug, Default)]
pub(super) struct UnreadableEvents {
    events: BTreeMap<EventId, Unreadable>,
    /// The service keys whose waiting events cannot be read at all, and why.
    keys: BTreeMap<ServiceKey, String>,
    /// Events that PagerDuty accepted or rejected, but whose disposition cannot be committed.
    unsettled: BTreeMap<EventId, ServiceKey>,
    /// The event that was tried again last.
    tried_last: Option<EventId>,
}

impl UnreadableEvents {
    /// Sets an event aside. Returns whether it was not set aside before.
    pub(super) fn add(&mut self, event: Unreadable) -> bool {
        self.events.insert(event.id, event).is_none()
    }

    pub(super) fn remove(&mut self, id: EventId) {
        self.events.remove(&id);
    }

    /// Forgets everything about `key`, because another bridge delivers for it.
    pub(super) fn forget(&mut self, key: &ServiceKey) {
        self.keys.remove(key);
        self.events.retain(|_, event| event.service_key.as_ref() != Some(key));
        self.unsettled.retain(|_, other| other != key);
    }

    /// Whether the event is one that later events of its incident do not wait for.
    pub(super) fn contains(&self, id: EventId) -> bool {
        self.events.contains_key(&id) || self.unsettled.contains_key(&id)
    }

    /// Returns the events of `key` before `id` that event `id` does not wait for.
    pub(super) fn before(&self, key: &ServiceKey, id: EventId) -> Vec<EventId> {
        let unreadable = self.events.range(..id).filter(|(_, event)| event.service_key.as_ref() == Some(key));
        let unsettled = self.unsettled.range(..id).filter(|(_, other)| *other == key);
        unreadable.map(|(id, _)| *id).chain(unsettled.map(|(id, _)| *id)).collect()
    }

    /// Records that the disposition of an event cannot be committed, because the database is damaged.
    pub(super) fn unsettled(&mut self, id: EventId, key: ServiceKey) {
        self.unsettled.insert(id, key);
    }

    /// Records that the disposition of an event could be committed after all.
    pub(super) fn settled(&mut self, id: EventId) {
        self.unsettled.remove(&id);
    }

    /// Whether an event is finished except for the commit of its disposition.
    pub(super) fn is_unsettled(&self, id: EventId) -> bool {
        self.unsettled.contains_key(&id)
    }

    /// Updates the events from a page that begins after `after`. Returns the events that are newly set aside.
    pub(super) fn update_from_page(
        &mut self,
        key: &ServiceKey,
        after: Option<EventId>,
        page: &Page,
    ) -> Vec<Unreadable> {
        self.keys.remove(key);
        if !self.events.is_empty() {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let to = if page.is_last { Bound::Unbounded } else { page.end.map_or(Bound::Unbounded, Bound::Included) };
            let of_page = self.events.range((from, to)).filter(|(_, event)| event.service_key.as_ref() == Some(key));
            for id in of_page.map(|(id, _)| *id).collect::<Vec<_>>() {
                if page.unreadable.iter().all(|event| event.id != id) {
                    self.events.remove(&id);
                }
            }
        }
        page.unreadable.iter().filter(|event| self.add((*event).clone())).cloned().collect()
    }

    /// Updates the events from the keys with waiting events, which also list the events without a valid key. Returns the
    /// events that are newly set aside.
    pub(super) fn update_from_keys(&mut self, keys: &WaitingKeys) -> Vec<Unreadable> {
        self.events.retain(|id, event| match &event.service_key {
            // The key's pages show whether the event still waits, unless the key has no waiting events any more.
            Some(key) => keys.keys.binary_search(key).is_ok(),
            None => keys.unreadable.iter().any(|unreadable| unreadable.id == *id),
        });
        keys.unreadable.iter().filter(|event| self.add((*event).clone())).cloned().collect()
    }

    /// Records that the waiting events of `key` cannot be read.
    pub(super) fn key_failed(&mut self, key: &ServiceKey, reason: String) {
        self.keys.insert(key.clone(), reason);
    }

    /// Returns at most `most` events to try again. Successive calls go through all events in turn.
    pub(super) fn next_to_try(&mut self, most: usize) -> Vec<EventId> {
        let after = self.tried_last.map_or(Bound::Unbounded, Bound::Excluded);
        let ids: Vec<_> = self.events.range((after, Bound::Unbounded)).map(|(id, _)| *id).take(most).collect();
        self.tried_last = ids.last().copied().filter(|_| ids.len() == most);
        ids
    }

    pub(super) fn view(&self) -> UnreadableView {
        let event = self.events.values().next().map(|event| event.reason.clone());
        let key = self.keys.iter().next().map(|(key, reason)| format!("the queue of the service key {key}: {reason}"));
        UnreadableView {
            events: self.events.len() as u64,
            keys: self.keys.len() as u64,
            unsettled: self.unsettled.len() as u64,
            reason: event.or(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> ServiceKey {
        ServiceKey::parse(&format!("{number:032}")).unwrap()
    }

    fn unreadable(id: i64, key: Option<ServiceKey>) -> Unreadable {
        Unreadable { id: EventId::new(id), service_key: key, reason: format!("event {id} is damaged") }
    }

    fn page(ids: &[i64], end: i64, is_last: bool) -> Page {
        let unreadable = ids.iter().map(|id| unreadable(*id, Some(key(1)))).collect();
        Page { unreadable, end: Some(EventId::new(end)), is_last, ..Page::default() }
    }

    #[test]
    fn what_a_page_can_read_again_or_has_no_more_is_set_aside_no_longer() {
        let mut aside = UnreadableEvents::default();
        assert_eq!(aside.update_from_page(&key(1), None, &page(&[2, 3, 9], 10, false)).len(), 3);
        aside.add(unreadable(4, Some(key(2))));
        assert_eq!(aside.update_from_page(&key(1), None, &page(&[3], 5, false)), [], "it is not new");
        let left: Vec<_> = aside.events.keys().map(|id| id.get()).collect();
        assert_eq!(left, [3, 4, 9], "the page says nothing of what stands behind it or of another key");
        assert_eq!(aside.update_from_page(&key(1), Some(EventId::new(5)), &page(&[], 5, true)), []);
        assert!(!aside.contains(EventId::new(9)));
        assert_eq!(aside.before(&key(1), EventId::new(10)), [EventId::new(3)]);
    }

    #[test]
    fn what_stands_in_line_for_no_service_key_is_known_as_a_whole() {
        let mut aside = UnreadableEvents::default();
        aside.add(unreadable(1, Some(key(1))));
        let keys = |ids: &[i64]| WaitingKeys {
            keys: vec![key(1)],
            unreadable: ids.iter().map(|id| unreadable(*id, None)).collect(),
        };
        assert_eq!(aside.update_from_keys(&keys(&[2, 3])).len(), 2);
        assert_eq!(aside.update_from_keys(&keys(&[3])), []);
        let reason = Some("event 1 is damaged".to_owned());
        assert_eq!(aside.view(), UnreadableView { events: 2, reason, ..UnreadableView::default() });
        assert_eq!(aside.update_from_keys(&WaitingKeys::default()), []);
        assert_eq!(aside.view(), UnreadableView::default(), "nothing waits any more");
    }

    #[test]
    fn all_of_them_are_looked_at_again_in_turns() {
        let mut aside = UnreadableEvents::default();
        (1..=5).for_each(|id| assert!(aside.add(unreadable(id, None)), "{id} is not new"));
        let mut next = || aside.next_to_try(2).iter().map(|id| id.get()).collect::<Vec<_>>();
        assert_eq!((next(), next(), next(), next()), (vec![1, 2], vec![3, 4], vec![5], vec![1, 2]));
    }
}
