//! The waiting events of one service key, in a queue for each incident, and which event is sent next.
//!
//! Only the head of a queue may be sent, and the event after it only once the head's disposition is committed. The oldest
//! head is sent first. Heads that failed are backed off, so that a poison event cannot prevent the others from showing
//! that PagerDuty accepts them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::Moment;
use super::failure_history::FailureHistory;
use crate::pagerduty::IncidentKey;
use crate::pagerduty::outcome::FailureCause;
use crate::queue::{EventId, WaitingEvent};

/// How many heads that did not fail are sent for each head that failed, while both kinds are waiting all the time.
const READY_PER_RETRY: u32 = 9;

/// How many quarantined events are released when one of them is delivered. After an intermittent outage, when many events
/// are quarantined, all of them are soon tried, while a true poison event costs little.
const RELEASED_AT_ONCE: usize = 2;

/// The events of one service key.
#[derive(Debug, Default)]
pub(super) struct IncidentQueues {
    by_incident: HashMap<IncidentKey, IncidentQueue>,
    /// The heads, and the blocked events that failed or were a head before.
    events: HashMap<EventId, TrackedEvent>,
    ready: BTreeSet<EventId>,
    backed_off: BTreeSet<(Moment, EventId)>,
    quarantined: BTreeSet<(Moment, EventId)>,
    /// The number of ready events that were sent since the last event that had failed.
    ready_in_a_row: u32,
}

#[derive(Debug, Default)]
struct IncidentQueue {
    /// Oldest first.
    ids: VecDeque<EventId>,
    /// The event between the beginning of its attempt and the commit of its disposition. It is the head, unless an older
    /// event was put back into the queue meanwhile.
    in_flight: Option<EventId>,
}

#[derive(Debug)]
struct TrackedEvent {
    incident_key: IncidentKey,
    state: EventState,
    /// The state of the event after the attempt in flight; if not set, it follows from `history`.
    next_state: Option<EventState>,
    history: FailureHistory,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EventState {
    /// It waits behind the head of its queue, or behind an event in flight.
    Blocked,
    InFlight,
    /// It may be sent; the oldest first.
    Ready,
    /// It failed, the last time at this moment, and no event was delivered since. When one is delivered, it is ready
    /// again.
    BackedOff(Moment),
    /// It failed while others were delivered: it may be tried again after this moment.
    Quarantined(Moment),
}

/// The event that should be sent next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Candidate {
    /// It is the turn of this event.
    Due(EventId),
    /// It failed before, and is sent only because no other event is ready; it should leave capacity for ready events.
    Spare(EventId),
}

impl IncidentQueues {
    /// How many heads are ready.
    pub(super) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Adds an event that was just committed.
    pub(super) fn push(&mut self, id: EventId, incident_key: &IncidentKey) {
        self.insert(id, incident_key, FailureHistory::default());
    }

    /// Whether the event is a head, or a blocked event that failed or was a head before.
    pub(super) fn is_tracked(&self, id: EventId) -> bool {
        self.events.contains_key(&id)
    }

    /// Adds an event that was read from the queue, if it is not known already.
    pub(super) fn push_waiting(&mut self, event: &WaitingEvent) {
        let history = FailureHistory::restored(event.blamed, event.attempts);
        match self.events.get_mut(&event.id) {
            // The event was reset in the queue, to have it tried again.
            Some(known)
                if event.blamed.is_zero()
                    && !known.history.blamed().is_zero()
                    && matches!(known.state, EventState::Quarantined(_)) =>
            {
                known.history = history;
                self.set_state(event.id, EventState::Ready);
            }
            Some(_) => {}
            None => self.insert(event.id, &event.incident_key, history),
        }
    }

    fn insert(&mut self, id: EventId, incident_key: &IncidentKey, history: FailureHistory) {
        let queue = self.by_incident.entry(incident_key.clone()).or_default();
        let Err(index) = queue.ids.binary_search(&id) else { return };
        queue.ids.insert(index, id);
        let was_head = if index == 0 { queue.ids.get(1).copied() } else { None };
        let is_head = index == 0 && queue.in_flight.is_none();
        if is_head || history != FailureHistory::default() {
            self.events.insert(id, TrackedEvent::blocked(incident_key, history));
        }
        if is_head {
            if let Some(head) = was_head {
                self.set_state(head, EventState::Blocked);
            }
            self.promote(id, incident_key);
        }
    }

    /// Returns the event that should be sent next, if one may be sent now. Events that failed may be sent from `retry_at`
    /// on, or not at all if it is `None`.
    pub(super) fn next(&self, now: Moment, newest: bool, retry_at: Option<Moment>) -> Option<Candidate> {
        let ready = if newest { self.ready.last() } else { self.ready.first() };
        let failed = self.next_failed(retry_at).filter(|(moment, _)| *moment <= now);
        match (ready, failed) {
            (_, Some((_, id))) if self.ready_in_a_row >= READY_PER_RETRY => Some(Candidate::Due(id)),
            (Some(id), _) => Some(Candidate::Due(*id)),
            (None, Some((_, id))) => Some(Candidate::Spare(id)),
            (None, None) => None,
        }
    }

    /// Returns when the next event that failed may be tried again.
    pub(super) fn next_retry_at(&self, retry_at: Option<Moment>) -> Option<Moment> {
        self.next_failed(retry_at).map(|(moment, _)| moment)
    }

    /// Returns the moment before which no head may be sent, given that heads that failed may be sent from `retry_at` on;
    /// `None` if a head is ready, or if no head waits.
    pub(super) fn all_wait_until(&self, retry_at: Moment) -> Option<Moment> {
        if self.ready.is_empty() { self.next_retry_at(Some(retry_at)) } else { None }
    }

    fn next_failed(&self, retry_at: Option<Moment>) -> Option<(Moment, EventId)> {
        let (moment, id) = self.backed_off.first().into_iter().chain(self.quarantined.first()).min()?;
        Some((retry_at?.max(*moment), *id))
    }

    /// Whether the event is ready, as opposed to one that waited after a failure.
    pub(super) fn is_ready(&self, id: EventId) -> bool {
        self.ready.contains(&id)
    }

    /// An attempt of the event begins.
    pub(super) fn begin(&mut self, id: EventId) {
        self.ready_in_a_row = if self.is_ready(id) { self.ready_in_a_row.saturating_add(1) } else { 0 };
        let Some(event) = self.events.get(&id) else { return };
        if let Some(queue) = self.by_incident.get_mut(&event.incident_key) {
            queue.in_flight = Some(id);
        }
        self.set_state(id, EventState::InFlight);
    }

    /// Returns how long the event failed while others were delivered.
    pub(super) fn blamed(&self, id: EventId) -> Duration {
        self.events.get(&id).map(|event| event.history.blamed()).unwrap_or_default()
    }

    /// The connection of the event's attempt ended before an answer; see [`FailureHistory::dropped`].
    pub(super) fn dropped(&mut self, id: EventId) -> bool {
        self.events.get_mut(&id).is_some_and(|event| event.history.dropped())
    }

    /// The event's attempt failed; see [`FailureHistory::failed`].
    pub(super) fn failed(
        &mut self,
        id: EventId,
        now: Moment,
        last_delivered: Option<Moment>,
        cause: FailureCause,
    ) -> (FailureHistory, bool) {
        let Some(event) = self.events.get_mut(&id) else { return Default::default() };
        let others_delivered = event.history.failed(now, last_delivered, cause);
        (event.history, others_delivered)
    }

    /// Sets the state that the event, whose attempt failed, gets once its disposition is committed.
    pub(super) fn set_next_state(&mut self, id: EventId, state: EventState) {
        if let Some(event) = self.events.get_mut(&id) {
            event.next_state = Some(state);
        }
    }

    /// The attempt of an event is over, and the event still waits, at its old place.
    pub(super) fn keep_waiting(&mut self, id: EventId) {
        let Some(event) = self.events.get_mut(&id) else { return };
        let next_state = event.next_state.take();
        let incident_key = event.incident_key.clone();
        let Some(queue) = self.by_incident.get_mut(&incident_key) else { return };
        queue.in_flight = None;
        match queue.ids.front().copied() {
            Some(head) if head != id => {
                self.set_state(id, EventState::Blocked);
                self.promote(head, &incident_key);
            }
            _ => match next_state {
                Some(state) => self.set_state(id, state),
                None => self.promote(id, &incident_key),
            },
        }
    }

    /// Removes an event in flight that no longer waits. The next event of its incident may then be sent.
    pub(super) fn remove(&mut self, id: EventId) {
        self.set_state(id, EventState::Blocked);
        let Some(event) = self.events.remove(&id) else { return };
        let Some(queue) = self.by_incident.get_mut(&event.incident_key) else { return };
        if let Ok(index) = queue.ids.binary_search(&id) {
            queue.ids.remove(index);
        }
        queue.in_flight = None;
        match queue.ids.front().copied() {
            Some(head) => self.promote(head, &event.incident_key),
            None => {
                self.by_incident.remove(&event.incident_key);
            }
        }
    }

    /// Records that an event was delivered. Events that failed before may not have been the cause, so they are ready
    /// again.
    pub(super) fn delivered(&mut self, id: EventId) {
        for (_, id) in std::mem::take(&mut self.backed_off) {
            self.set_state(id, EventState::Ready);
        }
        if self.events.get(&id).is_some_and(|event| event.history.is_quarantined()) {
            for (_, id) in self.quarantined.iter().take(RELEASED_AT_ONCE).copied().collect::<Vec<_>>() {
                self.set_state(id, EventState::Ready);
            }
        }
    }

    fn promote(&mut self, head: EventId, incident_key: &IncidentKey) {
        let new = || TrackedEvent::blocked(incident_key, FailureHistory::default());
        let event = self.events.entry(head).or_insert_with(new);
        let is_quarantined = event.history.is_quarantined();
        self.set_state(head, if is_quarantined { EventState::Quarantined(Moment::ZERO) } else { EventState::Ready });
    }

    fn set_state(&mut self, id: EventId, state: EventState) {
        let Some(event) = self.events.get_mut(&id) else { return };
        match std::mem::replace(&mut event.state, state) {
            EventState::Ready => self.ready.remove(&id),
            EventState::BackedOff(moment) => self.backed_off.remove(&(moment, id)),
            EventState::Quarantined(moment) => self.quarantined.remove(&(moment, id)),
            EventState::Blocked | EventState::InFlight => false,
        };
        match state {
            EventState::Ready => self.ready.insert(id),
            EventState::BackedOff(moment) => self.backed_off.insert((moment, id)),
            EventState::Quarantined(moment) => self.quarantined.insert((moment, id)),
            EventState::Blocked | EventState::InFlight => false,
        };
    }
}

impl TrackedEvent {
    fn blocked(incident_key: &IncidentKey, history: FailureHistory) -> Self {
        Self { incident_key: incident_key.clone(), state: EventState::Blocked, next_state: None, history }
    }
}
