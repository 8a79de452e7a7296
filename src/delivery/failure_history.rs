//! Whether an event is itself the cause of its failures: a poison event.
//!
//! PagerDuty once answered 500 to invalid events for an hour (2021-04-23), and a proxy may fail on one body forever. Such
//! an event differs from an outage in that other events of its key are delivered meanwhile.

use std::time::Duration;

use super::Moment;
use crate::pagerduty::outcome::FailureCause;

/// The most that one failure adds to the time an event is blamed for. An outage may lie between two failures of an event,
/// so an event is given up only after many failures, each with a delivery of another event before it.
const MAX_BLAME_PER_FAILURE: Duration = Duration::from_mins(2);

/// The failures of an event so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct FailureHistory {
    failures: u32,
    last_failed: Option<Moment>,
    /// The time before this moment was blamed on the event already, or was not its fault.
    accounted_until: Moment,
    blamed: Duration,
    quarantined: bool,
    /// Whether a connection ended before PagerDuty answered the event.
    dropped: bool,
}

impl FailureHistory {
    /// Restores what the queue kept of an earlier run: the time the event was blamed for, and the number of its attempts.
    pub(super) fn restored(blamed: Duration, attempts: u32) -> Self {
        if blamed.is_zero() {
            return Self::default();
        }
        Self { failures: attempts, blamed, quarantined: true, ..Self::default() }
    }

    /// How often it failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// For how long it failed while others were delivered.
    pub(super) fn blamed(&self) -> Duration {
        self.blamed
    }

    /// Whether it ever failed again after others were delivered.
    pub(super) fn is_quarantined(&self) -> bool {
        self.quarantined
    }

    /// Records that the connection ended before an answer. Returns `true` if that does not count as a failure, which is so
    /// only the first time, and only if the event did not fail before.
    pub(super) fn dropped(&mut self) -> bool {
        !std::mem::replace(&mut self.dropped, true) && self.failures == 0
    }

    /// Counts a failure. Returns whether other events were delivered since the previous failure. `last_delivered` is when
    /// an event of the key was delivered last.
    pub(super) fn failed(&mut self, now: Moment, last_delivered: Option<Moment>, cause: FailureCause) -> bool {
        self.failures = self.failures.saturating_add(1);
        let failed_before = self.last_failed.replace(now);
        let others_delivered = failed_before.is_some() && last_delivered > failed_before;
        self.quarantined |= others_delivered;
        match cause {
            // PagerDuty did not see the event.
            FailureCause::NetworkError => self.accounted_until = now,
            FailureCause::ServerError | FailureCause::Timeout if others_delivered => {
                self.blamed += now.saturating_sub(self.accounted_until).min(MAX_BLAME_PER_FAILURE);
                self.accounted_until = now;
            }
            FailureCause::ServerError | FailureCause::Timeout if failed_before.is_none() => self.accounted_until = now,
            FailureCause::ServerError | FailureCause::Timeout => {}
        }
        others_delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_event_that_fails_while_others_pass_is_blamed_for_the_time_between() {
        let mut event = FailureHistory::default();
        event.failed(at(10), Some(at(9)), FailureCause::ServerError);
        assert!(!event.is_quarantined(), "one failure proves nothing");
        event.failed(at(20), Some(at(15)), FailureCause::ServerError);
        assert!(event.is_quarantined());
        assert_eq!(event.blamed(), at(10));
        event.failed(at(50), Some(at(15)), FailureCause::ServerError);
        assert_eq!(event.blamed(), at(10), "nothing passed since it failed last");
        event.failed(at(60), Some(at(55)), FailureCause::ServerError);
        assert_eq!(event.blamed(), at(50));
        assert_eq!(event.failures(), 4);
    }

    #[test]
    fn a_long_outage_between_two_failures_is_not_the_events_fault() {
        let mut event = FailureHistory::default();
        event.failed(at(0), None, FailureCause::ServerError);
        event.failed(at(36_000), Some(at(35_999)), FailureCause::ServerError);
        assert_eq!(event.blamed(), MAX_BLAME_PER_FAILURE);
    }

    #[test]
    fn network_errors_quarantine_an_event_but_are_never_blamed_on_it() {
        let mut event = FailureHistory::default();
        event.failed(at(0), None, FailureCause::NetworkError);
        event.failed(at(9), Some(at(5)), FailureCause::NetworkError);
        assert!(event.is_quarantined());
        assert_eq!(event.blamed(), Duration::ZERO);
        event.failed(at(20), Some(at(15)), FailureCause::ServerError);
        assert_eq!(event.blamed(), at(11), "from the moment the network worked again");
    }

    #[test]
    fn a_connection_that_ends_before_an_answer_is_excused_once_and_not_after_a_failure() {
        let mut event = FailureHistory::default();
        assert!(event.dropped());
        assert!(!event.dropped());
        let mut event = FailureHistory::default();
        event.failed(at(0), None, FailureCause::NetworkError);
        assert!(!event.dropped());
    }

    #[test]
    fn only_what_was_blamed_survives_a_restart() {
        assert_eq!(FailureHistory::restored(Duration::ZERO, 7), FailureHistory::default());
        let event = FailureHistory::restored(at(60), 7);
        assert!(event.is_quarantined());
        assert_eq!((event.failures(), event.blamed()), (7, at(60)));
    }
}
