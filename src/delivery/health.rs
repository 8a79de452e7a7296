//! What the answers for one service key say about PagerDuty and the way to it.

use super::Moment;
use super::backoff::Backoff;
use std::time::Duration;

/// The number of an attempt; later attempts have greater ones.
pub(super) type Attempt = u64;

/// The trouble of one service key.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures in a row that speak against PagerDuty or the way to it.
    failures: u32,
    /// Throttling answers in a row.
    throttled: u32,
    /// Attempts up to this one began before the last failure was known, so they fail for the same cause.
    judged: Attempt,
    /// No attempt begins before this moment.
    open_at: Moment,
    last_passed: Option<Moment>,
}

impl Health {
    /// No attempt begins before this moment.
    pub(super) fn open_at(&self) -> Moment {
        self.open_at
    }

    /// When an event was delivered last.
    pub(super) fn last_passed(&self) -> Option<Moment> {
        self.last_passed
    }

    /// In trouble, events go one at a time; then this is the attempt behind which the next one may be under way.
    pub(super) fn trouble(&self) -> Option<Attempt> {
        (self.failures > 0 || self.throttled > 0).then_some(self.judged)
    }

    /// Which event to probe with, were several ready. Every other one is the newest: behind a row of events that
    /// PagerDuty chokes on, one that it would take need not wait for all of them to be tried.
    pub(super) fn probes_newest(&self) -> bool {
        self.failures % 2 == 1
    }

    /// An attempt failed and it is not known whether the event is to blame; `latest` is the last one that began.
    ///
    /// The first failure closes nothing, since it may be the event's own; from the second on there are pauses.
    pub(super) fn failed(
        &mut self,
        attempt: Attempt,
        latest: Attempt,
        now: Moment,
        chance: f64,
        asked: Option<Duration>,
    ) {
        if attempt > self.judged {
            self.judged = latest;
            if self.failures > 0 {
                self.close(now + Backoff::TROUBLE.wait(self.failures, chance));
            }
            self.failures = self.failures.saturating_add(1);
        }
        self.close(now + asked.unwrap_or_default());
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
        if attempt > self.judged {
            self.failures = 0;
            self.throttled = 0;
        }
    }
}
