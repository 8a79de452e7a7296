//! What to send next, and when to look again.
//!
//! Pure: events, answers, the time and chance come in as arguments, decisions go out. Nothing here waits, reads a
//! clock or knows how an event is stored or sent.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use super::backoff::Backoff;
use super::connections::Connections;
use super::fate::Fate;
use super::health::Attempt;
use super::lane::{Lane, Readiness};
use super::latency::Speed;
use super::limits::Limits;
use super::moment::Moment;
use super::view::DeliveryView;
use crate::pagerduty::ServiceKey;
use crate::pagerduty::outcome::Outcome;
use crate::queue::{Arrival, EventId, WaitingEvent};

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// Attempt this event now; the schedule counts it as begun.
    Send {
        /// The event.
        id: EventId,
        /// The integration it goes to.
        key: ServiceKey,
    },
    /// Read the next page of this key's waiting events and hand it to [`Schedule::loaded`].
    Load {
        /// The integration.
        key: ServiceKey,
        /// The page begins behind this event.
        after: Option<EventId>,
    },
    /// Nothing to do before this moment, an answer or an arrival; `None`: only those can change anything.
    Wait(Option<Moment>),
}

/// The schedule of all deliveries.
#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    lanes: BTreeMap<ServiceKey, Lane>,
    /// The keys that were served last, a quick one and a slow one; the others of their group get their turn first.
    served: [Option<ServiceKey>; 2],
    /// Whether it was a slow key that was served last; then a quick one is next, if it has something to send.
    slow_was_last: bool,
    in_flight: u32,
    /// The number of the last attempt that began.
    latest: Attempt,
    distrust: Distrust,
}

/// Attempts in a row that ended because the other side could not prove who it is.
#[derive(Debug, Default)]
struct Distrust {
    failures: u32,
    /// What the last of them said.
    reason: Option<String>,
    until: Moment,
    /// Attempts up to this one began before the last failure was known.
    judged: Attempt,
}

impl Schedule {
    /// An empty schedule.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let distrust = Distrust::default();
        let served = [None, None];
        Self { limits, lanes: BTreeMap::new(), served, slow_was_last: false, in_flight: 0, latest: 0, distrust }
    }

    /// The limits it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many attempts have begun whose answer is not known yet.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The queue holds waiting events of `key` that nobody announced, as after a restart.
    pub fn look_for(&mut self, key: &ServiceKey) {
        self.lane(key).window().look_on();
    }

    /// Somebody else changed the queue of `key`: events may be in line again, at their old places, others gone. All is
    /// read anew; attempts under way are not disturbed. An event that is gone is found out when it is to be sent, see
    /// [`vanished`](Self::vanished). One whose blame was wiped out is tried at once.
    pub fn rescan(&mut self, key: &ServiceKey) {
        self.lane(key).window().look_anew();
    }

    /// Attempts of one event in an earlier run, `times` of them, that may have reached PagerDuty as late as `end`; they
    /// count for the pace. See [`restart`](super::restart).
    pub fn remember_attempts(&mut self, key: &ServiceKey, end: Moment, times: u32) {
        self.lane(key).remember_attempts(end, times);
    }

    /// How the last attempt for `key` ended in an earlier run, in words, where that failed. It is shown until PagerDuty takes
    /// something, and holds up nothing.
    pub fn remember_trouble(&mut self, key: &ServiceKey, reason: String) {
        self.lane(key).remember_trouble(reason);
    }

    /// Why PagerDuty could not be trusted at the end of an earlier run. Until an attempt shows otherwise, one event at a time
    /// is sent.
    pub fn remember_untrusted(&mut self, reason: String) {
        self.distrust.failures = self.distrust.failures.max(1);
        self.distrust.reason.get_or_insert(reason);
    }

    /// An event was committed. Events of one key have to be announced in the order of their ids.
    pub fn arrived(&mut self, event: &Arrival) {
        let limits = self.limits;
        self.lane(&event.service_key).arrived(event, &limits);
    }

    /// A page asked for by [`Next::Load`] was read; `last` says that nothing newer was waiting at that moment.
    pub fn loaded(&mut self, key: &ServiceKey, page: &[WaitingEvent], last: bool) {
        self.loaded_to(key, page, page.last().map(|event| event.id), last);
    }

    /// The same where some events of the page could not be read, so that it goes further than those that could: to `end`.
    pub fn loaded_to(&mut self, key: &ServiceKey, page: &[WaitingEvent], end: Option<EventId>, last: bool) {
        self.lane(key).loaded(page, end, last);
    }

    /// A page asked for by [`Next::Load`] could not be read; it will be asked for again.
    pub fn not_loaded(&mut self, key: &ServiceKey) {
        self.lane(key).window().not_loaded();
    }

    /// What to do now.
    pub fn next(&mut self, now: Moment) -> Next {
        for (key, lane) in &mut self.lanes {
            if lane.wants_page(&self.limits) {
                return Next::Load { key: key.clone(), after: lane.window().read_to() };
            }
        }
        let most = if self.distrust.failures > 0 { 1 } else { self.limits.in_flight };
        if self.in_flight >= most {
            return Next::Wait(None);
        }
        if self.distrust.until > now {
            return Next::Wait(Some(self.distrust.until));
        }
        let connections = self.connections(now);
        let mut wake = None;
        for slow in [!self.slow_was_last, self.slow_was_last] {
            let found = match self.served[usize::from(slow)].clone() {
                None => self.offer(slow, &connections, .., now, &mut wake),
                Some(served) => self
                    .offer(slow, &connections, (Bound::Excluded(&served), Bound::Unbounded), now, &mut wake)
                    .or_else(|| self.offer(slow, &connections, ..=&served, now, &mut wake)),
            };
            if let Some((id, key)) = found {
                self.in_flight += 1;
                self.slow_was_last = slow;
                self.served[usize::from(slow)] = Some(key.clone());
                return Next::Send { id, key };
            }
        }
        Next::Wait(wake)
    }

    /// Who holds the connections.
    fn connections(&self, now: Moment) -> Connections {
        let mut connections = Connections::new(self.limits.in_flight as usize);
        for lane in self.lanes.values().filter(|lane| lane.under_way() > 0) {
            connections.count(lane.under_way(), lane.speed(now), lane.speed_is_fresh(now));
        }
        connections
    }

    /// Begins an attempt of the first key in `keys`, among the slow ones or among the others, that has something to send
    /// and gets a connection; otherwise `wake` is brought forward to when one of them will.
    fn offer<'a>(
        &mut self,
        slow: bool,
        connections: &Connections,
        keys: impl RangeBounds<&'a ServiceKey>,
        now: Moment,
        wake: &mut Option<Moment>,
    ) -> Option<(EventId, ServiceKey)> {
        let bounds = (keys.start_bound().cloned(), keys.end_bound().cloned());
        for (key, lane) in self.lanes.range_mut::<ServiceKey, _>(bounds) {
            let speed = lane.speed(now);
            let admitted = connections.admit(lane.under_way(), speed, lane.speed_is_fresh(now));
            if (speed == Speed::Slow) != slow || !admitted {
                continue;
            }
            match lane.readiness(now, &self.limits) {
                Readiness::Now(id) => {
                    self.latest += 1;
                    lane.begun(id, self.latest, now);
                    return Some((id, key.clone()));
                }
                Readiness::At(moment) => *wake = Some(wake.map_or(moment, |wake| wake.min(moment))),
                Readiness::Idle => {}
            }
        }
        None
    }

    /// An attempt could not begin for a reason of the bridge's own; it is tried again, not before `until`.
    pub fn not_begun(&mut self, key: &ServiceKey, id: EventId, until: Moment) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.lane(key).not_begun(id, until);
    }

    /// An attempt could not begin because an earlier event of its incident is in line that the schedule does not know of,
    /// as after somebody put that back. All of the key is read anew, and the event stays where it is until then.
    pub fn behind(&mut self, key: &ServiceKey, id: EventId) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.lane(key).behind(id);
    }

    /// An attempt could not begin because the event is no longer in line.
    pub fn vanished(&mut self, key: &ServiceKey, id: EventId) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.lane(key).vanished(id);
    }

    /// An attempt ended. `chance` is a random number from 0 up to 1. The event's line stands still until
    /// [`settled`](Self::settled) says that its fate is committed: were a later event of the incident sent before,
    /// a crash could send the earlier one again behind it.
    pub fn answered(&mut self, key: &ServiceKey, id: EventId, outcome: &Outcome, now: Moment, chance: f64) -> Fate {
        self.in_flight = self.in_flight.saturating_sub(1);
        let (limits, latest) = (self.limits, self.latest);
        let lane = self.lane(key);
        let attempt = lane.attempt(id);
        let mut fate = lane.answered(id, outcome, latest, now, chance, &limits);
        if let Outcome::Untrusted { reason } = outcome {
            // Attempts that were under way together fail for one cause and count once.
            if attempt > self.distrust.judged {
                self.distrust.judged = latest;
                self.distrust.failures += 1;
                self.distrust.reason = Some(reason.clone());
                self.distrust.until = now + Backoff::TROUBLE.wait(self.distrust.failures, chance);
            }
            if let Fate::Retry { at, .. } = &mut fate {
                *at = self.distrust.until;
            }
        } else if attempt > self.distrust.judged {
            self.distrust.failures = 0;
            self.distrust.reason = None;
        }
        fate
    }

    /// The fate of an event is committed.
    pub fn settled(&mut self, key: &ServiceKey, id: EventId, fate: &Fate) {
        self.lane(key).settled(id, fate);
    }

    /// What the deliveries look like at `now`. It costs as much as there are service keys, however many events wait.
    #[must_use]
    pub fn view(&self, now: Moment) -> DeliveryView<Moment> {
        let lanes = self.lanes.iter().map(|(key, lane)| lane.view(key, now, self.distrust.until));
        DeliveryView { lanes: lanes.collect(), untrusted: self.distrust.reason.clone(), ..DeliveryView::default() }
    }

    fn lane(&mut self, key: &ServiceKey) -> &mut Lane {
        self.lanes.entry(key.clone()).or_insert_with(|| Lane::new(self.limits.rate))
    }
}

#[cfg(test)]
mod tests;
