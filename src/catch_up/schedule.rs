//! When catch-up runs: after a start, after the bridge could not take alerts, after a silence, and every hour. Pure.

use std::time::Duration;

use crate::backoff::Backoff;

/// The pause between runs while nothing happens.
const HOUR: Duration = Duration::from_hours(1);

/// The pause after a run that was due to a gap; the next run looks for alerts that were too recent for that one.
const SETTLED: Duration = Duration::from_mins(4);

/// The time without webhooks after which it is a silence.
const SILENCE: Duration = Duration::from_mins(15);

/// The pause after a run that failed.
const RETRY: Backoff = Backoff { first: Duration::from_secs(10), ceiling: HOUR };

/// Decides when a run is due. All times are of a monotonic clock, since an arbitrary moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CatchUpSchedule {
    due: Duration,
    /// Whether there was a gap since the last complete run.
    gap: bool,
    failures: u32,
    was_well: bool,
    silent_for: Option<Duration>,
}

impl CatchUpSchedule {
    /// A schedule of a bridge that starts at `now`: the time before its start is a gap.
    #[must_use]
    pub(super) fn new(now: Duration) -> Self {
        Self { due: now, gap: true, failures: 0, was_well: true, silent_for: None }
    }

    /// Whether a run is due at `now`. `is_well` is whether the bridge can commit alerts, and `since_webhook` is the time
    /// since its last webhook.
    #[must_use]
    pub(super) fn is_due(&mut self, now: Duration, is_well: bool, since_webhook: Option<Duration>) -> bool {
        let silence_ended = match (self.silent_for, since_webhook) {
            (Some(before), Some(since)) => before >= SILENCE && since < before,
            _ => false,
        };
        self.silent_for = since_webhook;
        if (is_well && !self.was_well) || silence_ended {
            self.gap = true;
            self.due = now;
        }
        self.was_well = is_well;
        is_well && now >= self.due
    }

    /// Records that a run ended at `now`.
    pub(super) fn ran(&mut self, now: Duration, is_complete: bool) {
        if !is_complete {
            self.failures += 1;
            self.due = now + RETRY.pause(self.failures);
            return;
        }
        self.failures = 0;
        self.due = now + if self.gap { SETTLED } else { HOUR };
        self.gap = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(minutes: u64) -> Duration {
        Duration::from_mins(minutes)
    }

    #[test]
    fn it_runs_at_the_start_a_little_later_and_then_every_hour() {
        let mut schedule = CatchUpSchedule::new(minutes(0));
        assert!(schedule.is_due(minutes(0), true, None));
        schedule.ran(minutes(1), true);
        assert!(!schedule.is_due(minutes(4), true, None));
        assert!(schedule.is_due(minutes(5), true, None));
        schedule.ran(minutes(5), true);
        assert!(!schedule.is_due(minutes(64), true, None));
        assert!(schedule.is_due(minutes(65), true, None));
    }

    #[test]
    fn it_runs_once_the_bridge_can_take_alerts_again() {
        let mut schedule = CatchUpSchedule::new(minutes(0));
        assert!(!schedule.is_due(minutes(0), false, None), "not before");
        assert!(schedule.is_due(minutes(1), true, None));
        schedule.ran(minutes(1), true);
        schedule.ran(minutes(5), true);
        assert!(!schedule.is_due(minutes(10), false, None));
        assert!(schedule.is_due(minutes(11), true, None));
    }

    #[test]
    fn it_runs_when_a_webhook_comes_after_a_silence() {
        let mut schedule = CatchUpSchedule::new(minutes(0));
        schedule.ran(minutes(0), true);
        schedule.ran(minutes(4), true);
        assert!(!schedule.is_due(minutes(10), true, Some(minutes(10))));
        assert!(!schedule.is_due(minutes(11), true, Some(minutes(0))), "a short one");
        assert!(!schedule.is_due(minutes(30), true, Some(minutes(19))), "it lasts");
        assert!(schedule.is_due(minutes(31), true, Some(minutes(0))));
    }

    #[test]
    fn a_run_that_failed_is_repeated_ever_more_slowly() {
        let mut schedule = CatchUpSchedule::new(minutes(0));
        let mut now = minutes(0);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            schedule.ran(now, false);
            pauses.push(schedule.due.saturating_sub(now).as_secs());
            now = schedule.due;
        }
        assert_eq!(pauses[..4], [10, 20, 40, 80]);
        assert_eq!(pauses[9], 3600);
        schedule.ran(now, true);
        assert_eq!(schedule.due.saturating_sub(now), SETTLED, "the gap is looked at again");
    }
}
