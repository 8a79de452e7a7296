//! Whether the attempts of this bridge reach PagerDuty. Pure.
//!
//! A bridge that reports that it does not reach PagerDuty gets no keys while another bridge does not report the same.
//! Without keys it makes no attempts. After a while it therefore assumes that PagerDuty may be reachable again, and finds
//! out with the keys that it then gets.

use std::time::Duration;

use super::member::Moment;
use crate::pagerduty::OutcomeKind;

/// How many attempts in a row have to fail on the way to PagerDuty, over at least [`FAILING`].
const FAILURES: u32 = 5;

/// How long attempts have to fail, so that a short disturbance moves no keys.
const FAILING: Duration = Duration::from_secs(30);

/// How long after the last failure PagerDuty counts as not reached.
const RETRY: Duration = Duration::from_mins(5);

/// How the last attempts of this bridge ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    failures: u32,
    failing_since: Moment,
    unreached_since: Option<Moment>,
}

impl Reach {
    /// An attempt ended.
    pub(super) fn ended(&mut self, kind: OutcomeKind, now: Moment) {
        match kind {
            OutcomeKind::Unreachable | OutcomeKind::Dropped | OutcomeKind::Timeout | OutcomeKind::Untrusted => {
                if self.failures == 0 {
                    self.failing_since = now;
                }
                self.failures = self.failures.saturating_add(1);
                if self.failures >= FAILURES && now.saturating_sub(self.failing_since) >= FAILING {
                    self.unreached_since = Some(now);
                }
            }
            OutcomeKind::Delivered | OutcomeKind::Throttled | OutcomeKind::Refused | OutcomeKind::Error => {
                *self = Self::default();
            }
        }
    }

    /// Whether PagerDuty is reached, as far as is known.
    pub(super) fn is_reached(&self, now: Moment) -> bool {
        self.unreached_since.is_none_or(|since| now.saturating_sub(since) >= RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_failures_that_last_count_and_any_answer_ends_them() {
        let mut reach = Reach::default();
        (0..20).for_each(|_| reach.ended(OutcomeKind::Unreachable, at(0)));
        assert!(reach.is_reached(at(29)), "it did not last");
        reach.ended(OutcomeKind::Timeout, at(30));
        assert!(!reach.is_reached(at(30)));
        assert!(!reach.is_reached(at(329)));
        assert!(reach.is_reached(at(330)), "it may be better");
        reach.ended(OutcomeKind::Dropped, at(331));
        assert!(!reach.is_reached(at(331)));
        reach.ended(OutcomeKind::Throttled, at(332));
        assert!(reach.is_reached(at(332)));
        (0..4).for_each(|seconds| reach.ended(OutcomeKind::Unreachable, at(340 + 20 * seconds)));
        assert!(reach.is_reached(at(400)), "too few");
    }
}
