//! Derives what is shown and alarmed from the stored canaries. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::queue::CanaryRecord;

/// Where trouble with the canary begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CanaryLimits {
    /// How long a canary may take to come back, and how long Sentry may fail to accept canaries. Minutes are normal while
    /// Sentry has a backlog.
    pub patience: Duration,
    /// An alert rule that has fired does not fire again for the same issue for at least five minutes. Sentry may therefore
    /// send no webhook for a canary that is sent sooner than this after one that came back.
    pub quiet: Duration,
    /// How long a trouble has to last before it pages. Canaries are timed by the machine's clock: if that was only set
    /// forward, the canary that is on its way comes back within this time.
    pub pending: Duration,
}

impl CanaryLimits {
    /// The limits of every bridge; tests have others.
    pub const USUAL: Self =
        Self { patience: Duration::from_mins(5), quiet: Duration::from_mins(6), pending: Duration::from_mins(1) };
}

/// A canary that came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoundTrip {
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// When its webhook arrived.
    pub returned_at: DateTime<Utc>,
}

impl RoundTrip {
    /// How long it took; zero if the clock was set back meanwhile.
    #[must_use]
    pub fn took(&self) -> Duration {
        round_trip(self.sent_at, self.returned_at)
    }
}

/// The time from `sent_at` to `returned_at`; zero if the clock was set back meanwhile.
#[must_use]
pub fn round_trip(sent_at: DateTime<Utc>, returned_at: DateTime<Utc>) -> Duration {
    (returned_at - sent_at).max(TimeDelta::zero()).to_std().unwrap_or_default()
}

/// What the canaries of this run show.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum CanaryProgress {
    /// No canary was sent yet, or those that would show something are still on their way.
    #[default]
    Unknown,
    /// The last canary that has had enough time came back.
    Returns,
    /// Sentry accepts no canaries.
    NotTaken {
        /// When the first canary that Sentry did not accept was sent.
        since: DateTime<Utc>,
        /// Why, as far as is known.
        reason: String,
    },
    /// A canary was sent, as far as is known with success, but its webhook did not come.
    Lost {
        /// When the first such canary was sent.
        sent_at: DateTime<Utc>,
    },
}

/// The canary at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CanaryStatus {
    /// The last one that came back, in this run or an earlier one.
    pub last: Option<RoundTrip>,
    /// When the newest one was sent.
    pub last_sent_at: Option<DateTime<Utc>>,
    /// What the canaries of this run show.
    pub progress: CanaryProgress,
}

impl CanaryStatus {
    /// Derives the status at `now` from `records`: the last canary that came back and all that were sent after it, the
    /// oldest first.
    ///
    /// Canaries that were sent before this run, which began at `started_at`, and did not come back show nothing: their
    /// webhooks may have come while no bridge was running.
    #[must_use]
    pub fn of(records: &[CanaryRecord], limits: CanaryLimits, started_at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let returned = |record: &CanaryRecord| {
            record.returned_at.map(|returned_at| RoundTrip { sent_at: record.sent_at, returned_at })
        };
        let last = records.iter().rev().find_map(returned);
        let last_sent_at = records.last().map(|record| record.sent_at);
        let is_due = |sent_at: DateTime<Utc>| round_trip(sent_at, now) >= limits.patience;
        let is_quiet = |sent_at: DateTime<Utc>| last.is_some_and(|last| sent_at < last.sent_at + limits.quiet);
        let mut open = records.iter().filter(|record| record.returned_at.is_none() && record.sent_at >= started_at);
        let overdue = open.clone().find(|record| {
            !matches!(record.taken, Some(Err(_))) && is_due(record.sent_at) && !is_quiet(record.sent_at)
        });
        let not_taken = open.clone().find(|record| matches!(record.taken, Some(Err(_))));
        let newest = open.rfind(|record| record.taken.is_some());
        let progress = match (overdue, not_taken, newest) {
            // Sentry's response to the newest canary shows which direction is interrupted now.
            (_, Some(first), Some(CanaryRecord { taken: Some(Err(reason)), .. })) if is_due(first.sent_at) => {
                CanaryProgress::NotTaken { since: first.sent_at, reason: reason.clone() }
            }
            (Some(first), ..) => CanaryProgress::Lost { sent_at: first.sent_at },
            // Sentry has accepted the newest canary, which is on its way: only its return ends the outage.
            (None, Some(first), _) if is_due(first.sent_at) => CanaryProgress::Unknown,
            _ if last.is_some_and(|last| last.returned_at >= started_at) => CanaryProgress::Returns,
            _ => CanaryProgress::Unknown,
        };
        Self { last, last_sent_at, progress }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::CanaryMark;
    use crate::pagerduty::ServiceKey;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
    }

    fn record(sent: i64, taken: Option<Result<(), &str>>, returned: Option<i64>) -> CanaryRecord {
        let mark = CanaryMark::new(&ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap());
        CanaryRecord {
            id: mark.event_id(at(sent), 0),
            sent_at: at(sent),
            taken: taken.map(|taken| taken.map_err(str::to_owned)),
            returned_at: returned.map(at),
        }
    }

    const TAKEN: Option<Result<(), &str>> = Some(Ok(()));

    #[track_caller]
    fn progress(records: &[CanaryRecord], now: i64) -> CanaryProgress {
        CanaryStatus::of(records, CanaryLimits::USUAL, at(0), at(now)).progress
    }

    #[test]
    fn a_canary_that_came_back_is_shown_with_its_time() {
        let status = CanaryStatus::of(
            &[record(10, TAKEN, Some(14)), record(610, TAKEN, None)],
            CanaryLimits::USUAL,
            at(0),
            at(620),
        );
        assert_eq!(status.last.map(|last| last.took()), Some(Duration::from_secs(4)));
        assert_eq!((status.last_sent_at, status.progress), (Some(at(610)), CanaryProgress::Returns));
        assert_eq!(progress(&[], 9999), CanaryProgress::Unknown);
        assert_eq!(progress(&[record(10, None, None)], 20), CanaryProgress::Unknown);
    }

    #[test]
    fn a_canary_that_does_not_come_back_in_time_is_lost() {
        let records = [record(10, TAKEN, Some(14)), record(610, TAKEN, None), record(1210, TAKEN, None)];
        assert_eq!(progress(&records[..2], 909), CanaryProgress::Returns);
        assert_eq!(progress(&records[..2], 910), CanaryProgress::Lost { sent_at: at(610) });
        assert_eq!(
            progress(&records, 1211),
            CanaryProgress::Lost { sent_at: at(610) },
            "and stays so while the next is sent"
        );
        assert_eq!(progress(&[record(10, None, None)], 310), CanaryProgress::Lost { sent_at: at(10) });
    }

    #[test]
    fn a_canary_that_an_alert_rule_may_be_quiet_about_is_not_lost() {
        let soon = [record(10, TAKEN, Some(14)), record(369, TAKEN, None)];
        assert_eq!(progress(&soon, 2000), CanaryProgress::Returns);
        let later = [record(10, TAKEN, Some(14)), record(369, TAKEN, None), record(370, TAKEN, None)];
        assert_eq!(progress(&later, 2000), CanaryProgress::Lost { sent_at: at(370) });
    }

    #[test]
    fn a_sentry_that_takes_none_for_long_enough_is_told_apart() {
        let refused = Some(Err("it throttles"));
        let records = [record(10, TAKEN, Some(14)), record(610, refused, None), record(670, refused, None)];
        assert_eq!(progress(&records, 700), CanaryProgress::Returns, "a hiccup is none");
        let not_taken = CanaryProgress::NotTaken { since: at(610), reason: "it throttles".to_owned() };
        assert_eq!(progress(&records, 910), not_taken);
        let taken_again = [&records[..], &[record(920, TAKEN, None)]].concat();
        assert_eq!(progress(&taken_again, 930), CanaryProgress::Unknown, "only its return ends the outage");
        assert_eq!(progress(&taken_again, 1220), CanaryProgress::Lost { sent_at: at(920) });
    }

    #[test]
    fn what_was_sent_before_this_run_and_did_not_come_back_says_nothing() {
        let records = [record(-1000, TAKEN, Some(-990)), record(-400, TAKEN, None)];
        let status = CanaryStatus::of(&records, CanaryLimits::USUAL, at(0), at(10));
        assert_eq!(status.progress, CanaryProgress::Unknown);
        assert_eq!(status.last.map(|last| last.returned_at), Some(at(-990)), "but what is known is shown");
    }
}
