//! What the answers for one service key say about PagerDuty and the way to it.

use super::backoff::Backoff;
use super::moment::Moment;
use std::time::Duration;

/// The number of an attempt; later attempts have greater ones.
pub(super) type Attempt = u64;

/// The trouble of one service key.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures in a row that may speak against PagerDuty or the way to it.
    failures: u32,
    /// Those of events that had not failed before.
    first_failures: u32,
    /// Throttling answers in a row.
    throttled: u32,
    /// Attempts up to this one began before the last failure was known, so they fail for the same cause.
    judged: Attempt,
    /// No attempt begins before this moment.
    open_at: Moment,
    /// No event that failed before is tried again before this moment.
    retry_at: Moment,
    last_passed: Option<Moment>,
    /// A connection ended before an answer and nothing passed since: attempts up to this one began before that was known.
    dropped: Option<Attempt>,
}

impl Health {
    /// No attempt begins before this moment.
    pub(super) fn open_at(&self) -> Moment {
        self.open_at
    }

    /// No event that failed before is tried again before this moment.
    pub(super) fn retry_at(&self) -> Moment {
        self.retry_at
    }

    /// When an event was delivered last.
    pub(super) fn last_passed(&self) -> Option<Moment> {
        self.last_passed
    }

    /// In trouble, events go one at a time: only if none of the attempts after this one is under way.
    pub(super) fn trouble(&self) -> Option<Attempt> {
        (self.failures > 0 || self.throttled > 0).then_some(self.judged)
    }

    /// Which event to probe with, were several ready. Every other one is the newest: behind a row of events that
    /// PagerDuty chokes on, one that it would take need not wait for all of them to be tried.
    pub(super) fn probes_newest(&self) -> bool {
        self.first_failures % 2 == 1
    }

    /// An attempt failed and it is not known whether the event is to blame; `first` says that it had not failed before,
    /// and `latest` is the last attempt that began.
    ///
    /// A single event that fails over and over delays only those that failed as well: one that just came is tried at
    /// once. From the second one on that fails at its first attempt, all of them wait.
    pub(super) fn failed(
        &mut self,
        attempt: Attempt,
        first: bool,
        latest: Attempt,
        now: Moment,
        chance: f64,
        asked: Option<Duration>,
    ) {
        if attempt > self.judged {
            self.judged = latest;
            self.failures = self.failures.saturating_add(1);
            self.retry_at = now + Backoff::TROUBLE.wait(self.failures, chance);
            if first && self.first_failures > 0 {
                self.close(now + Backoff::TROUBLE.wait(self.first_failures, chance));
            }
            self.first_failures = self.first_failures.saturating_add(first.into());
        }
        self.close(now + asked.unwrap_or_default());
    }

    /// The connection of an attempt ended before an answer. Says whether that is nothing to speak of: PagerDuty closes
    /// connections that were idle, and which are used again in the same moment is chance.
    ///
    /// It is not when the key is in trouble, or when the attempt began after another had ended so and nothing passed since.
    pub(super) fn dropped(&mut self, attempt: Attempt, latest: Attempt) -> bool {
        self.trouble().is_none() && attempt <= *self.dropped.get_or_insert(latest)
    }

    /// PagerDuty throttled an attempt. Says whether that is news.
    pub(super) fn throttled(
        &mut self,
        attempt: Attempt,
        latest: Attempt,
        now: Moment,
        chance: f64,
        asked: Option<Duration>,
    ) -> bool {
        let news = attempt > self.judged;
        if news {
            self.judged = latest;
            self.throttled = self.throttled.saturating_add(1);
            self.close(now + Backoff::THROTTLE.wait(self.throttled, chance));
        }
        self.close(now + asked.unwrap_or_default());
        news
    }

    /// Nothing begins before `moment`.
    pub(super) fn close(&mut self, moment: Moment) {
        self.open_at = self.open_at.max(moment);
    }

    /// An event was delivered.
    pub(super) fn passed(&mut self, attempt: Attempt, now: Moment) {
        self.last_passed = Some(now);
        self.judged_well(attempt);
    }

    /// PagerDuty is well enough to judge an event. What began before the trouble says nothing about it.
    pub(super) fn judged_well(&mut self, attempt: Attempt) {
        if self.dropped.is_some_and(|dropped| attempt > dropped) {
            self.dropped = None;
        }
        if attempt > self.judged {
            self.failures = 0;
            self.first_failures = 0;
            self.throttled = 0;
        }
    }
}
