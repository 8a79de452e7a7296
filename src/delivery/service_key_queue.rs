//! The scheduler's state of one service key: its events, its rate and how its attempts end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::circuit_breaker::{AttemptEnd, CircuitBreaker, QUARANTINE_BACKOFF};
use super::connections::{Latency, Speed};
use super::incident_queue::{Candidate, EventState, IncidentQueues};
use super::prefetch::Prefetch;
use super::rate_limiter::RateLimiter;
use super::view::KeyView;
use super::{DeliveryLimits, Moment};
use crate::pagerduty::ServiceKey;
use crate::pagerduty::outcome::{FailureCause, Outcome};
use crate::queue::{Disposition, EventId, Page, WaitingEvent};

/// The incident queues of one service key, with its rate limiter and circuit breaker.
#[derive(Debug)]
pub(super) struct ServiceKeyQueue {
    limits: DeliveryLimits,
    incidents: IncidentQueues,
    rate_limiter: RateLimiter,
    breaker: CircuitBreaker,
    latency: Latency,
    prefetch: Prefetch,
    in_flight: HashMap<EventId, AttemptInFlight>,
    /// Events that are blocked by earlier events which are still to be read.
    awaiting_reread: Vec<EventId>,
    /// Events whose failure was committed after the page that is being read was requested: the page may be older than the
    /// failure.
    failed_meanwhile: HashSet<EventId>,
    /// No attempt begins after this moment.
    send_until: Option<Moment>,
    /// Why the last attempt failed, if it did.
    last_failure: Option<String>,
    /// Whether that was a permanent failure.
    is_permanent: bool,
    /// Whether PagerDuty throttled that attempt.
    is_throttled: bool,
}

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
struct AttemptInFlight {
    number: u64,
    began: Moment,
    /// Whether the event had failed before.
    is_retry: bool,
}

/// When a key has something to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Readiness {
    /// This event can be sent now.
    Now(EventId),
    /// Nothing can be sent before this moment.
    At(Moment),
    /// Nothing can be sent before an answer or an arrival.
    Idle,
}

impl ServiceKeyQueue {
    pub(super) fn new(limits: DeliveryLimits) -> Self {
        Self {
            limits,
            incidents: IncidentQueues::default(),
            rate_limiter: RateLimiter::new(limits.rate),
            breaker: CircuitBreaker::default(),
            latency: Latency::default(),
            prefetch: Prefetch::default(),
            in_flight: HashMap::new(),
            awaiting_reread: Vec::new(),
            failed_meanwhile: HashSet::new(),
            send_until: None,
            last_failure: None,
            is_permanent: false,
            is_throttled: false,
        }
    }

    pub(super) fn send_until(&mut self, until: Moment) {
        self.send_until = Some(until);
    }

    pub(super) fn restore_attempts(&mut self, end: Moment, times: u32) {
        self.rate_limiter.restore(end, times);
    }

    pub(super) fn restore_failure(&mut self, reason: String, is_throttled: bool) {
        if self.last_failure.is_none() {
            (self.last_failure, self.is_throttled) = (Some(reason), is_throttled);
        }
    }

    pub(super) fn prefetch(&mut self) -> &mut Prefetch {
        &mut self.prefetch
    }

    pub(super) fn arrived(&mut self, event: &WaitingEvent) {
        if self.prefetch.accepts(event.id, self.incidents.ready_count() >= self.limits.prefetch) {
            self.incidents.push(event.id, &event.incident_key);
        }
    }

    /// Whether a page of events should be read now. If so, it counts as being read from then on.
    ///
    /// Room is counted in ready events: blocked and failed events take no room from the others, however many there are.
    pub(super) fn wants_page(&mut self) -> bool {
        self.prefetch.wants_page(self.incidents.ready_count() <= self.limits.prefetch / 2)
    }

    pub(super) fn loaded(&mut self, page: &Page) {
        let failed_meanwhile = std::mem::take(&mut self.failed_meanwhile);
        for event in &page.events {
            // The page may be older than what is known here.
            if !(failed_meanwhile.contains(&event.id) && self.incidents.is_tracked(event.id)) {
                self.incidents.push_waiting(event);
            }
        }
        self.prefetch.loaded(page.end, page.is_last);
        if !self.prefetch.is_rereading() {
            for id in std::mem::take(&mut self.awaiting_reread) {
                self.incidents.keep_waiting(id);
            }
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How fast PagerDuty answers for this key.
    pub(super) fn speed(&self, now: Moment) -> Speed {
        let oldest = self.in_flight.values().map(|attempt| attempt.began).min();
        self.latency.speed(now.saturating_sub(oldest.unwrap_or(now)))
    }

    /// Whether an attempt ended within the last second.
    pub(super) fn speed_is_fresh(&self, now: Moment) -> bool {
        self.latency.is_fresh(now)
    }

    /// The number of the event's attempt in flight; 0 if there is none.
    pub(super) fn attempt_number(&self, id: EventId) -> u64 {
        self.in_flight.get(&id).map_or(0, |attempt| attempt.number)
    }

    /// Returns the view for people and metrics. No key sends anything before `blocked_until`.
    pub(super) fn view(&self, key: &ServiceKey, now: Moment, blocked_until: Moment) -> KeyView<Moment> {
        let all_wait_until = self.incidents.all_wait_until(self.breaker.retry_at()).unwrap_or_default();
        let backs_off_until = blocked_until.max(self.breaker.blocked_until()).max(all_wait_until);
        KeyView {
            service_key: key.clone(),
            allowed: self.rate_limiter.allowed(now),
            rate: self.rate_limiter.full(),
            in_flight: u32::try_from(self.in_flight.len()).unwrap_or(u32::MAX),
            backs_off_until: (backs_off_until > now).then_some(backs_off_until),
            last_failure: self.last_failure.clone(),
            is_permanent: self.is_permanent,
            is_throttled: self.is_throttled,
            last_delivered_at: self.breaker.last_delivered_at(),
        }
    }

    pub(super) fn readiness(&mut self, now: Moment) -> Readiness {
        if self.send_until.is_some_and(|until| until < now) {
            return Readiness::Idle;
        }
        let most = self.limits.in_flight_per_key;
        let retry_at = self.has_room(most, true).then_some(self.breaker.retry_at());
        let Some(candidate) = self.incidents.next(now, self.breaker.probes_newest(), retry_at) else {
            return self.incidents.next_retry_at(retry_at).map_or(Readiness::Idle, Readiness::At);
        };
        let (id, limited) = match candidate {
            Candidate::Due(id) if self.has_room(most, false) => (id, self.rate_limiter.next_at(now)),
            // Half of the connections and of the rate are left to events that did not fail, which may come at any moment.
            Candidate::Spare(id) if self.has_room(most.div_ceil(2), true) => {
                (id, self.rate_limiter.next_at_half_rate(now))
            }
            Candidate::Due(_) | Candidate::Spare(_) => return Readiness::Idle,
        };
        match limited.map(|moment| moment.max(self.breaker.blocked_until())) {
            None => Readiness::Idle,
            Some(moment) if moment <= now => Readiness::Now(id),
            Some(moment) => Readiness::At(moment),
        }
    }

    /// Whether one more attempt may begin, if at most `most` may be in flight.
    fn has_room(&self, most: u32, is_retry: bool) -> bool {
        let among_most = self.in_flight.len() < most as usize;
        let Some(since) = self.breaker.half_open() else { return among_most };
        // A retry that hangs as a probe does not keep an event that has not failed from being tried.
        let is_probe = |other: &AttemptInFlight| other.number > since && (is_retry || !other.is_retry);
        among_most && !self.in_flight.values().any(is_probe)
    }

    pub(super) fn begun(&mut self, id: EventId, number: u64, now: Moment) {
        let is_retry = !self.incidents.is_ready(id);
        self.incidents.begin(id);
        self.rate_limiter.begun();
        self.in_flight.insert(id, AttemptInFlight { number, began: now, is_retry });
    }

    /// Nothing was sent; the event stays at the head of its queue.
    pub(super) fn not_begun(&mut self, id: EventId, until: Moment) {
        self.cancel(id);
        self.breaker.block_until(until);
        self.incidents.keep_waiting(id);
    }

    /// Nothing was sent, because an earlier event of the incident waits that is not known here. The incident stops until
    /// that event is read.
    pub(super) fn blocked(&mut self, id: EventId) {
        self.cancel(id);
        self.awaiting_reread.push(id);
        self.prefetch.reread();
    }

    /// Nothing was sent, because the event does not wait any more.
    pub(super) fn gone(&mut self, id: EventId) {
        self.cancel(id);
        self.incidents.remove(id);
    }

    fn cancel(&mut self, id: EventId) {
        self.rate_limiter.cancelled();
        self.in_flight.remove(&id);
    }

    /// Handles the end of an attempt, and returns the disposition of its event.
    pub(super) fn answered(&mut self, id: EventId, outcome: &Outcome, end: &AttemptEnd) -> Disposition<Moment> {
        self.rate_limiter.ended(end.now);
        if let Some(attempt) = self.in_flight.remove(&id) {
            self.latency.ended(end.now.saturating_sub(attempt.began), end.now);
        }
        if let Outcome::Dropped { reason } = outcome
            && self.breaker.dropped(end)
            && self.incidents.dropped(id)
        {
            return Disposition::RetryNow { reason: reason.clone() };
        }
        if let Some(reason) = outcome.failure() {
            self.last_failure = Some(reason.to_owned());
            self.is_permanent = matches!(outcome, Outcome::Refused { .. });
            self.is_throttled = matches!(outcome, Outcome::Throttled { .. });
        }
        match outcome {
            Outcome::Delivered { note } => {
                self.breaker.delivered(end);
                // A success of an attempt that began before the last failure was known does not clear it.
                if self.breaker.half_open().is_none() {
                    self.last_failure = None;
                    self.is_permanent = false;
                    self.is_throttled = false;
                }
                self.incidents.delivered(id);
                Disposition::Delivered { note: note.clone() }
            }
            Outcome::Refused { reason } => {
                self.breaker.got_through(end);
                Disposition::Dead { reason: reason.clone() }
            }
            Outcome::Throttled { reason, retry_after } => {
                if self.breaker.throttled(end, *retry_after) {
                    self.rate_limiter.halve(end.now);
                }
                self.retry_without_blame(id, reason)
            }
            Outcome::Untrusted { reason } => self.retry_without_blame(id, reason),
            Outcome::Transient { reason, cause, retry_after } => self.failed(id, reason, *cause, *retry_after, end),
            Outcome::Dropped { reason } => self.failed(id, reason, FailureCause::NetworkError, None, end),
        }
    }

    fn failed(
        &mut self,
        id: EventId,
        reason: &str,
        cause: FailureCause,
        retry_after: Option<Duration>,
        end: &AttemptEnd,
    ) -> Disposition<Moment> {
        let now = end.now;
        let (history, others_delivered) = self.incidents.failed(id, now, self.breaker.last_delivered_at(), cause);
        let blamed = history.blamed();
        if others_delivered && cause.may_be_the_event() && blamed >= self.limits.give_up_after {
            return Disposition::Dead { reason: given_up(reason, blamed) };
        }
        if !others_delivered {
            self.breaker.failed(end, history.failures() == 1, retry_after);
        }
        let (state, may_at) = if history.is_quarantined() {
            let wait = QUARANTINE_BACKOFF.pause_with_jitter(history.failures(), end.chance);
            let until = now + wait.max(retry_after.unwrap_or_default());
            (EventState::Quarantined(until), until)
        } else {
            (EventState::BackedOff(now), now)
        };
        self.incidents.set_next_state(id, state);
        let next_attempt_at = may_at.max(self.breaker.retry_at()).max(self.breaker.blocked_until());
        Disposition::Retry { reason: reason.to_owned(), next_attempt_at, blamed }
    }

    /// The attempt failed, and the event is not the cause.
    fn retry_without_blame(&self, id: EventId, reason: &str) -> Disposition<Moment> {
        let next_attempt_at = self.breaker.blocked_until();
        Disposition::Retry { reason: reason.to_owned(), next_attempt_at, blamed: self.incidents.blamed(id) }
    }

    /// The event's disposition is committed: it leaves its queue, or is at its head again.
    pub(super) fn settled(&mut self, id: EventId, disposition: &Disposition<Moment>) {
        match disposition {
            Disposition::Retry { .. } | Disposition::RetryNow { .. } => {
                if self.prefetch.is_loading() {
                    self.failed_meanwhile.insert(id);
                }
                self.incidents.keep_waiting(id);
            }
            Disposition::Delivered { .. } | Disposition::Dead { .. } => self.incidents.remove(id),
        }
    }
}

fn given_up(reason: &str, blamed: Duration) -> String {
    let blamed = humantime::format_duration(Duration::from_secs(blamed.as_secs()));
    format!("{reason}; given up after it failed for {blamed} while other events of its key were delivered")
}
