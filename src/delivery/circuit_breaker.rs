//! When attempts may begin, depending on how earlier attempts failed.
//!
//! Each service key has a [`CircuitBreaker`]. While it is half-open, one event at a time probes whether PagerDuty accepts
//! events again. All keys share one [`TlsBreaker`].

use std::time::Duration;

use super::Moment;
use crate::backoff::Backoff;

/// The end of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptEnd {
    /// The number of the attempt that ended; later attempts have greater numbers.
    pub(super) number: u64,
    /// The number of the last attempt that began so far, of any event.
    pub(super) latest: u64,
    pub(super) now: Moment,
    /// A random number from 0 up to 1, for jitter.
    pub(super) chance: f64,
}

/// After transient failures, which may be over at any moment. The ceiling limits how late a recovery of PagerDuty is
/// noticed.
pub const TRANSIENT_BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), ceiling: Duration::from_secs(30) };

/// After throttling: PagerDuty counts over 60 seconds, so trying sooner does not help.
const THROTTLED_BACKOFF: Backoff = Backoff { first: Duration::from_secs(10), ceiling: Duration::from_mins(1) };

/// For an event that fails while others of its key are delivered. The ceiling limits how late the event is delivered once
/// PagerDuty accepts it.
pub(super) const QUARANTINE_BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(2), ceiling: Duration::from_mins(1) };

/// The circuit breaker of one service key.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker {
    /// Failures in a row that PagerDuty or the network may have caused.
    failures: u32,
    /// The failures among them that were the first of their event.
    first_failures: u32,
    /// Throttling answers in a row.
    throttled: u32,
    /// Attempts up to this one began before the last failure was known, so their failures have the same cause and their
    /// successes say nothing about it.
    last_before_failure: u64,
    /// No attempt begins before this moment.
    blocked_until: Moment,
    /// No event that failed before is tried again before this moment.
    retry_at: Moment,
    last_delivered_at: Option<Moment>,
    /// The last attempt that had begun when a connection ended before an answer; set until an event gets through.
    dropped: Option<u64>,
}

impl CircuitBreaker {
    /// Returns the moment before which no attempt begins.
    pub(super) fn blocked_until(&self) -> Moment {
        self.blocked_until
    }

    /// Returns the moment before which no event that failed before is tried again.
    pub(super) fn retry_at(&self) -> Moment {
        self.retry_at
    }

    pub(super) fn last_delivered_at(&self) -> Option<Moment> {
        self.last_delivered_at
    }

    /// Returns `Some` while the breaker is half-open: an event may then be tried only while no attempt after this one is
    /// in flight.
    pub(super) fn half_open(&self) -> Option<u64> {
        (self.failures > 0 || self.throttled > 0).then_some(self.last_before_failure)
    }

    /// Whether to probe with the newest event when several are ready. Every other probe is the newest event: if the oldest
    /// events are all poison events, an event that PagerDuty accepts does not have to wait until all of them have been
    /// tried.
    pub(super) fn probes_newest(&self) -> bool {
        self.first_failures % 2 == 1
    }

    /// Records a failed attempt, whose event may or may not be the cause. `first`: whether the event had not failed
    /// before.
    ///
    /// A single event that fails again and again delays only events that failed as well; a new event is tried at once.
    /// Once a second event fails at its first attempt, all events wait.
    pub(super) fn failed(&mut self, end: &AttemptEnd, first: bool, retry_after: Option<Duration>) {
        if end.number > self.last_before_failure {
            self.last_before_failure = end.latest;
            self.failures = self.failures.saturating_add(1);
            self.retry_at = end.now + TRANSIENT_BACKOFF.pause_with_jitter(self.failures, end.chance);
            if first && self.first_failures > 0 {
                self.block_until(end.now + TRANSIENT_BACKOFF.pause_with_jitter(self.first_failures, end.chance));
            }
            self.first_failures = self.first_failures.saturating_add(first.into());
        }
        self.block_until(end.now + retry_after.unwrap_or_default());
    }

    /// Records that the connection of an attempt ended before an answer. Returns `true` if that does not count as a
    /// failure: PagerDuty closes idle connections, and the bridge may use one at that very moment.
    ///
    /// It counts as a failure when the breaker is half-open, or when the attempt began after another had ended like this
    /// and no event got through since.
    pub(super) fn dropped(&mut self, end: &AttemptEnd) -> bool {
        self.half_open().is_none() && end.number <= *self.dropped.get_or_insert(end.latest)
    }

    /// Records that PagerDuty throttled an attempt. Returns whether the throttling was not known yet when the attempt
    /// began.
    pub(super) fn throttled(&mut self, end: &AttemptEnd, retry_after: Option<Duration>) -> bool {
        let is_new = end.number > self.last_before_failure;
        if is_new {
            self.last_before_failure = end.latest;
            self.throttled = self.throttled.saturating_add(1);
            self.block_until(end.now + THROTTLED_BACKOFF.pause_with_jitter(self.throttled, end.chance));
        }
        self.block_until(end.now + retry_after.unwrap_or_default());
        is_new
    }

    /// Lets no attempt begin before `moment`.
    pub(super) fn block_until(&mut self, moment: Moment) {
        self.blocked_until = self.blocked_until.max(moment);
    }

    pub(super) fn delivered(&mut self, end: &AttemptEnd) {
        self.last_delivered_at = Some(end.now);
        self.got_through(end);
    }

    /// Records that PagerDuty accepted or rejected an event, so it works. An attempt that began before the last failure
    /// was known does not show that.
    pub(super) fn got_through(&mut self, end: &AttemptEnd) {
        if self.dropped.is_some_and(|dropped| end.number > dropped) {
            self.dropped = None;
        }
        if end.number > self.last_before_failure {
            self.failures = 0;
            self.first_failures = 0;
            self.throttled = 0;
        }
    }
}

/// The circuit breaker of all service keys, which opens when the server cannot prove that it is PagerDuty.
#[derive(Debug, Default)]
pub(super) struct TlsBreaker {
    failures: u32,
    /// The last TLS error, while the breaker is not closed.
    reason: Option<String>,
    blocked_until: Moment,
    /// Attempts up to this one began before the last failure was known.
    last_before_failure: u64,
}

impl TlsBreaker {
    /// Restores the state of an earlier run: the breaker is half-open.
    pub(super) fn restore(&mut self, reason: String) {
        self.failures = self.failures.max(1);
        self.reason.get_or_insert(reason);
    }

    /// Whether the breaker is half-open: one event at a time is sent as a probe.
    pub(super) fn is_half_open(&self) -> bool {
        self.failures > 0
    }

    /// Returns the moment before which no attempt of any key begins.
    pub(super) fn blocked_until(&self) -> Moment {
        self.blocked_until
    }

    /// Returns the last TLS error, until an attempt ends without one.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Records that an attempt ended with a TLS error. Attempts that were in flight together fail for the same cause and
    /// count once.
    pub(super) fn failed(&mut self, end: &AttemptEnd, reason: &str) {
        if end.number > self.last_before_failure {
            self.last_before_failure = end.latest;
            self.failures += 1;
            self.reason = Some(reason.to_owned());
            self.blocked_until = end.now + TRANSIENT_BACKOFF.pause_with_jitter(self.failures, end.chance);
        }
    }

    /// Records that an attempt ended without a TLS error.
    pub(super) fn trusted(&mut self, end: &AttemptEnd) {
        if end.number > self.last_before_failure {
            self.failures = 0;
            self.reason = None;
        }
    }
}
