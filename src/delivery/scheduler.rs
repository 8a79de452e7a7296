//! What to send next, and when to look again.
//!
//! Pure: events, answers, the time and randomness come in as arguments, decisions go out. Nothing here waits, reads a clock
//! or knows how an event is stored or sent.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use super::circuit_breaker::{AttemptEnd, TlsBreaker};
use super::connections::{Connections, Speed};
use super::service_key_queue::{Readiness, ServiceKeyQueue};
use super::view::DeliveryView;
use super::{DeliveryLimits, Moment};
use crate::pagerduty::ServiceKey;
use crate::pagerduty::outcome::Outcome;
use crate::queue::{Disposition, EventId, Page, WaitingEvent};

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// Attempt this event now; the scheduler counts it as begun.
    Send {
        /// The event.
        id: EventId,
        /// The service key that it is sent to.
        key: ServiceKey,
    },
    /// Read the next page of this key's waiting events and pass it to [`Scheduler::loaded`].
    Load {
        /// The service key.
        key: ServiceKey,
        /// The page begins after this event.
        after: Option<EventId>,
    },
    /// Nothing to do before this moment, unless an answer or an arrival comes first. `None`: nothing to do before an
    /// answer or an arrival.
    Wait(Option<Moment>),
}

/// Schedules all deliveries.
#[derive(Debug)]
pub struct Scheduler {
    limits: DeliveryLimits,
    queues: BTreeMap<ServiceKey, ServiceKeyQueue>,
    /// Round robin: the key served last in each group. The search for the next key of a group starts after it.
    served_quick: Option<ServiceKey>,
    served_slow: Option<ServiceKey>,
    /// The group of the key that was served last. The other group is next, if it has something to send.
    last_group: Group,
    in_flight: u32,
    /// The number of the last attempt that began.
    latest: u64,
    tls_breaker: TlsBreaker,
}

/// The keys that PagerDuty answers quickly and those that it answers slowly take turns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Group {
    Quick,
    Slow,
}

impl Group {
    /// A key counts as quick until it turns out to be slow.
    fn of(speed: Speed) -> Self {
        match speed {
            Speed::Quick | Speed::Unknown => Self::Quick,
            Speed::Slow => Self::Slow,
        }
    }
}

impl Scheduler {
    /// A scheduler without events.
    #[must_use]
    pub fn new(limits: DeliveryLimits) -> Self {
        Self {
            limits,
            queues: BTreeMap::new(),
            served_quick: None,
            served_slow: None,
            last_group: Group::Quick,
            in_flight: 0,
            latest: 0,
            tls_breaker: TlsBreaker::default(),
        }
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &DeliveryLimits {
        &self.limits
    }

    /// Returns how many attempts have begun whose answer is not known yet.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Reads on in the queue of `key`, which holds waiting events that were not announced, such as after a restart.
    pub fn read_on(&mut self, key: &ServiceKey) {
        self.queue(key).prefetch().read_on();
    }

    /// Reads the queue of `key` again, because an editor or another bridge changed it: events may be waiting again, at
    /// their old places, and others may be gone. Attempts in flight are not affected. That an event is gone is noticed
    /// when it is about to be sent, see [`gone`](Self::gone). A quarantined event that was reset is tried at once.
    pub fn reread(&mut self, key: &ServiceKey) {
        self.queue(key).prefetch().reread();
    }

    /// Lets no attempt for `key` begin after this moment, because the bridge's lease of the key ends. A later call
    /// replaces the moment. Without any call there is no such limit.
    pub fn send_until(&mut self, key: &ServiceKey, until: Moment) {
        self.queue(key).send_until(until);
    }

    /// Forgets everything about `key`, because another bridge delivers for it from now on. The end of each of its attempts
    /// in flight has to be reported with [`ended_elsewhere`](Self::ended_elsewhere).
    pub fn forget(&mut self, key: &ServiceKey) {
        self.queues.remove(key);
        // Without keys no attempt would ever show that PagerDuty is trusted again.
        if self.queues.is_empty() {
            self.tls_breaker = TlsBreaker::default();
        }
    }

    /// Reports the end of an attempt in flight whose key was [forgotten](Self::forget) since it began.
    pub fn ended_elsewhere(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Restores attempts of one event in an earlier run, `times` of them, that may have reached PagerDuty as late as
    /// `end`. They count towards the rate. See [`latest_arrival`](super::rate_limiter::latest_arrival).
    pub fn restore_attempts(&mut self, key: &ServiceKey, end: Moment, times: u32) {
        self.queue(key).restore_attempts(end, times);
    }

    /// Restores why the last attempt for `key` in an earlier run failed, and whether PagerDuty throttled it. The failure
    /// is shown until PagerDuty accepts an event, and delays nothing.
    pub fn restore_failure(&mut self, key: &ServiceKey, reason: String, is_throttled: bool) {
        self.queue(key).restore_failure(reason, is_throttled);
    }

    /// Restores why PagerDuty could not be trusted at the end of an earlier run. Until an attempt shows otherwise, one event
    /// at a time is sent.
    pub fn restore_untrusted(&mut self, reason: String) {
        self.tls_breaker.restore(reason);
    }

    /// An event was committed. Events of one key have to be announced in the order of their ids.
    pub fn arrived(&mut self, event: &WaitingEvent) {
        self.queue(&event.service_key).arrived(event);
    }

    /// A page requested by [`Next::Load`] was read.
    pub fn loaded(&mut self, key: &ServiceKey, page: &Page) {
        self.queue(key).loaded(page);
    }

    /// A page requested by [`Next::Load`] could not be read; it will be requested again.
    pub fn not_loaded(&mut self, key: &ServiceKey) {
        self.queue(key).prefetch().not_loaded();
    }

    /// Returns what to do now.
    pub fn next(&mut self, now: Moment) -> Next {
        for (key, queue) in &mut self.queues {
            if queue.wants_page() {
                return Next::Load { key: key.clone(), after: queue.prefetch().read_to() };
            }
        }
        let most = if self.tls_breaker.is_half_open() { 1 } else { self.limits.in_flight };
        if self.in_flight >= most {
            return Next::Wait(None);
        }
        if self.tls_breaker.blocked_until() > now {
            return Next::Wait(Some(self.tls_breaker.blocked_until()));
        }
        let connections = self.connections(now);
        let mut wake = None;
        let groups = match self.last_group {
            Group::Quick => [Group::Slow, Group::Quick],
            Group::Slow => [Group::Quick, Group::Slow],
        };
        for group in groups {
            let found = match self.served(group).clone() {
                None => self.begin_first(group, &connections, .., now, &mut wake),
                Some(served) => self
                    .begin_first(group, &connections, (Bound::Excluded(&served), Bound::Unbounded), now, &mut wake)
                    .or_else(|| self.begin_first(group, &connections, ..=&served, now, &mut wake)),
            };
            if let Some((id, key)) = found {
                self.in_flight += 1;
                self.last_group = group;
                *self.served(group) = Some(key.clone());
                return Next::Send { id, key };
            }
        }
        Next::Wait(wake)
    }

    fn served(&mut self, group: Group) -> &mut Option<ServiceKey> {
        match group {
            Group::Quick => &mut self.served_quick,
            Group::Slow => &mut self.served_slow,
        }
    }

    /// Returns the connections in use, by the speed of their keys.
    fn connections(&self, now: Moment) -> Connections {
        let mut connections = Connections::new(self.limits.in_flight as usize);
        for queue in self.queues.values().filter(|queue| queue.in_flight() > 0) {
            connections.count(queue.in_flight(), queue.speed(now), queue.speed_is_fresh(now));
        }
        connections
    }

    /// Begins an attempt for the first key of `group` in `keys` that has something to send and gets a connection. If there is
    /// none, brings `wake` forward to the moment when one of them has something to send.
    fn begin_first<'a>(
        &mut self,
        group: Group,
        connections: &Connections,
        keys: impl RangeBounds<&'a ServiceKey>,
        now: Moment,
        wake: &mut Option<Moment>,
    ) -> Option<(EventId, ServiceKey)> {
        let bounds = (keys.start_bound().cloned(), keys.end_bound().cloned());
        for (key, queue) in self.queues.range_mut::<ServiceKey, _>(bounds) {
            let speed = queue.speed(now);
            let admitted = connections.admit(queue.in_flight(), speed, queue.speed_is_fresh(now));
            if Group::of(speed) != group || !admitted {
                continue;
            }
            match queue.readiness(now) {
                Readiness::Now(id) => {
                    self.latest += 1;
                    queue.begun(id, self.latest, now);
                    return Some((id, key.clone()));
                }
                Readiness::At(moment) => *wake = Some(wake.map_or(moment, |wake| wake.min(moment))),
                Readiness::Idle => {}
            }
        }
        None
    }

    /// An attempt could not begin for a reason within the bridge; it is tried again, but not before `until`.
    pub fn not_begun(&mut self, key: &ServiceKey, id: EventId, until: Moment) {
        self.ended(key).not_begun(id, until);
    }

    /// An attempt could not begin because an earlier event of its incident waits that the scheduler does not know, for
    /// example because it was put back into the queue. All events of the key are read again, and the event stays where it
    /// is until then.
    pub fn blocked(&mut self, key: &ServiceKey, id: EventId) {
        self.ended(key).blocked(id);
    }

    /// An attempt could not begin because the event does not wait any more.
    pub fn gone(&mut self, key: &ServiceKey, id: EventId) {
        self.ended(key).gone(id);
    }

    /// An attempt ended. Returns the disposition of the event. `chance` is a random number from 0 up to 1. The event's
    /// incident stops until [`settled`](Self::settled) reports that the disposition is committed: if a later event of the
    /// incident were sent before that, a crash could cause the earlier one to be sent again after it.
    pub fn answered(
        &mut self,
        key: &ServiceKey,
        id: EventId,
        outcome: &Outcome,
        now: Moment,
        chance: f64,
    ) -> Disposition<Moment> {
        let latest = self.latest;
        let queue = self.ended(key);
        let end = AttemptEnd { number: queue.attempt_number(id), latest, now, chance };
        let mut disposition = queue.answered(id, outcome, &end);
        if let Outcome::Untrusted { reason } = outcome {
            self.tls_breaker.failed(&end, reason);
            if let Disposition::Retry { next_attempt_at, .. } = &mut disposition {
                *next_attempt_at = self.tls_breaker.blocked_until();
            }
        } else {
            self.tls_breaker.trusted(&end);
        }
        disposition
    }

    /// The disposition of an event is committed.
    pub fn settled(&mut self, key: &ServiceKey, id: EventId, disposition: &Disposition<Moment>) {
        self.queue(key).settled(id, disposition);
    }

    /// Returns the deliveries as they are at `now`. The cost depends on the number of service keys, not on how many events
    /// wait.
    #[must_use]
    pub fn view(&self, now: Moment) -> DeliveryView<Moment> {
        let keys = self.queues.iter().map(|(key, queue)| queue.view(key, now, self.tls_breaker.blocked_until()));
        let untrusted = self.tls_breaker.reason().map(str::to_owned);
        DeliveryView { keys: keys.collect(), untrusted, ..DeliveryView::default() }
    }

    fn queue(&mut self, key: &ServiceKey) -> &mut ServiceKeyQueue {
        self.queues.entry(key.clone()).or_insert_with(|| ServiceKeyQueue::new(self.limits))
    }

    /// Counts an attempt of `key` as ended, and returns the queue of the key.
    fn ended(&mut self, key: &ServiceKey) -> &mut ServiceKeyQueue {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.queue(key)
    }
}

#[cfg(test)]
mod tests;
