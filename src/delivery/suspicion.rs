//! Whether an event is itself to blame for its failures.
//!
//! PagerDuty once answered 500 to invalid events for an hour (2021-04-23), and a proxy may choke on one body for ever.
//! What tells such an event from an outage is that others of its key get through.

use std::time::Duration;

use super::moment::Moment;
use crate::pagerduty::outcome::Blame;

/// The most that one failure adds to the time an event is blamed for. An outage may lie between two failures of an
/// event, so it takes many of them, each with a delivery of another event before it, to give one up.
const BLAME_AT_ONCE: Duration = Duration::from_mins(2);

/// How an event failed so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Suspicion {
    failures: u32,
    last_failed: Option<Moment>,
    /// The time before this moment was blamed on the event already, or was not its fault.
    counted_to: Moment,
    blamed: Duration,
    suspect: bool,
    /// A connection ended before an answer to it.
    dropped: bool,
}

impl Suspicion {
    /// What an earlier run of the bridge kept: the time the event was blamed for, and the number of its attempts.
    pub(super) fn of_earlier_run(blamed: Duration, attempts: u32) -> Self {
        if blamed.is_zero() {
            return Self::default();
        }
        Self { failures: attempts, blamed, suspect: true, ..Self::default() }
    }

    /// How often it failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// For how long it failed while others passed.
    pub(super) fn blamed(&self) -> Duration {
        self.blamed
    }

    /// Whether it ever failed again after others had passed.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// The connection ended before an answer. Says whether that is no failure: only the first time, and if there was none.
    pub(super) fn dropped(&mut self) -> bool {
        !std::mem::replace(&mut self.dropped, true) && self.failures == 0
    }

    /// Counts a failure, and says whether others passed since the one before. `last_passed` is when an event of its key
    /// was delivered last.
    pub(super) fn failed(&mut self, now: Moment, last_passed: Option<Moment>, blame: Blame) -> bool {
        self.failures = self.failures.saturating_add(1);
        let failed_before = self.last_failed.replace(now);
        let others_passed = failed_before.is_some() && last_passed > failed_before;
        self.suspect |= others_passed;
        match blame {
            // It did not get as far as to be judged.
            Blame::Network => self.counted_to = now,
            Blame::Event if others_passed => {
                self.blamed += now.saturating_sub(self.counted_to).min(BLAME_AT_ONCE);
                self.counted_to = now;
            }
            Blame::Event if failed_before.is_none() => self.counted_to = now,
            Blame::Event => {}
        }
        others_passed
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
        let mut event = Suspicion::default();
        event.failed(at(10), Some(at(9)), Blame::Event);
        assert!(!event.is_suspect(), "one failure proves nothing");
        event.failed(at(20), Some(at(15)), Blame::Event);
        assert!(event.is_suspect());
        assert_eq!(event.blamed(), at(10));
        event.failed(at(50), Some(at(15)), Blame::Event);
        assert_eq!(event.blamed(), at(10), "nothing passed since it failed last");
        event.failed(at(60), Some(at(55)), Blame::Event);
        assert_eq!(event.blamed(), at(50));
        assert_eq!(event.failures(), 4);
    }

    #[test]
    fn a_long_outage_between_two_failures_is_not_the_events_fault() {
        let mut event = Suspicion::default();
        event.failed(at(0), None, Blame::Event);
        event.failed(at(36_000), Some(at(35_999)), Blame::Event);
        assert_eq!(event.blamed(), BLAME_AT_ONCE);
    }

    #[test]
    fn a_broken_way_makes_suspect_but_is_never_blamed() {
        let mut event = Suspicion::default();
        event.failed(at(0), None, Blame::Network);
        event.failed(at(9), Some(at(5)), Blame::Network);
        assert!(event.is_suspect());
        assert_eq!(event.blamed(), Duration::ZERO);
        event.failed(at(20), Some(at(15)), Blame::Event);
        assert_eq!(event.blamed(), at(11), "from the moment the way was open again");
    }

    #[test]
    fn a_connection_that_ends_before_an_answer_is_excused_once_and_not_after_a_failure() {
        let mut event = Suspicion::default();
        assert!(event.dropped());
        assert!(!event.dropped());
        let mut event = Suspicion::default();
        event.failed(at(0), None, Blame::Network);
        assert!(!event.dropped());
    }

    #[test]
    fn only_what_was_blamed_survives_a_restart() {
        assert_eq!(Suspicion::of_earlier_run(Duration::ZERO, 7), Suspicion::default());
        let event = Suspicion::of_earlier_run(at(60), 7);
        assert!(event.is_suspect());
        assert_eq!((event.failures(), event.blamed()), (7, at(60)));
    }
}
