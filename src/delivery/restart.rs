//! What the attempts of an earlier run mean for the pace.
//!
//! PagerDuty looks back over 60 seconds and does not care that the bridge was restarted meanwhile. The queue knows of
//! each event how often it was attempted and when the last attempt was marked, but not how it ended.

use std::time::Duration;

use super::moment::Moment;
use super::pace::WINDOW;

/// An attempt is marked when the commit of the mark is asked for, and sent when it is done: at most so much later, or
/// the disk is in more trouble than the pace.
const COMMIT: Duration = Duration::from_secs(5);

/// How far back to look for attempts, given the longest time one takes.
#[must_use]
pub fn horizon(timeout: Duration) -> Duration {
    WINDOW + COMMIT + timeout
}

/// The latest moment at which an attempt that was marked `age` ago, and any earlier one of its event, may have reached
/// PagerDuty: not after it timed out, and not after the earlier run ended, which was before `now`.
///
/// For the moment not to lie before the clock began, that clock has to be at [`WINDOW`] or later when the bridge starts.
#[must_use]
pub fn latest_arrival(age: Duration, now: Moment, timeout: Duration) -> Moment {
    (now + COMMIT + timeout).saturating_sub(age).min(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_attempt_may_have_arrived_until_it_timed_out_or_the_run_ended() {
        assert_eq!(latest_arrival(seconds(3), seconds(100), seconds(10)), seconds(100));
        assert_eq!(latest_arrival(seconds(50), seconds(100), seconds(10)), seconds(65));
    }

    #[test]
    fn what_lies_beyond_the_horizon_left_the_window() {
        let (now, timeout) = (WINDOW, seconds(10));
        assert_eq!(latest_arrival(horizon(timeout), now, timeout) + WINDOW, now);
    }
}
