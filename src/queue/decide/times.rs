//! The order of triggers and resolves, by the times that Sentry gives.
//!
//! Sentry does not deliver webhooks in order, so a trigger may arrive after a resolve that it belongs before, and vice
//! versa. Only times of Sentry's own clock are compared: the clock of a client that sent an event, and the clock of
//! this machine, may be wrong. Where Sentry gives no time, the order of arrival counts.

use chrono::{DateTime, TimeDelta, Utc};

/// How long after its resolve a delayed alert may still arrive.
const OVERTAKING: TimeDelta = TimeDelta::minutes(1);

/// The resolves that may have overtaken a webhook, by the times at which they were received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::queue) struct OvertakingWindow {
    pub(in crate::queue) now: DateTime<Utc>,
    pub(in crate::queue) since: DateTime<Utc>,
    /// A resolve with a later time was received before the clock was set back. One minute is allowed for small
    /// corrections of the clock.
    pub(in crate::queue) until: DateTime<Utc>,
}

impl OvertakingWindow {
    pub(super) fn around(now: DateTime<Utc>) -> Self {
        Self { now, since: now - OVERTAKING, until: now + OVERTAKING }
    }

    pub(super) fn contains(&self, at: DateTime<Utc>) -> bool {
        (self.since..=self.until).contains(&at)
    }

    /// The resolves that may have overtaken a webhook that was received at `then` and is retried: also all that were
    /// received since.
    pub(super) fn since(then: DateTime<Utc>) -> Self {
        Self { until: DateTime::<Utc>::MAX_UTC, ..Self::around(then) }
    }
}

/// Whether a trigger belongs before a resolve that arrived earlier, by when Sentry received the trigger and sent the
/// resolve.
///
/// The times of resolves are whole seconds, rounded down. So a trigger that Sentry received after a resolve is never
/// taken to be before it.
pub(super) fn is_overtaken(trigger: Option<DateTime<Utc>>, resolve: DateTime<Utc>) -> bool {
    trigger.is_some_and(|received_at| received_at < resolve)
}

/// Whether a resolve that arrives at `now` belongs before a trigger that arrived earlier, by when Sentry sent the
/// resolve and received the trigger. Within one second the order is unknown, and the one that arrived later counts.
pub(super) fn is_outdated(resolve: Option<DateTime<Utc>>, trigger: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    let (Some(sent_at), Some(received_at)) = (resolve, trigger) else { return false };
    // A time in the future was written while a clock was ahead, and would keep the incident open until then.
    received_at <= now && sent_at.timestamp() < received_at.timestamp()
}

/// Whether a resolve that Sentry sent at `resolve` resolves a trigger that Sentry received at `trigger`: it does,
/// unless the trigger was received in a later second. A trigger time later than `now` comes from a clock that was
/// ahead, and does not prevent it.
pub(in crate::queue) fn is_resolved(
    trigger: Option<DateTime<Utc>>,
    resolve: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> bool {
    let (Some(received_at), Some(sent_at)) = (trigger, resolve) else { return true };
    received_at.timestamp() <= sent_at.timestamp() || received_at > now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn a_trigger_belongs_before_a_resolve_only_where_sentry_received_it_earlier() {
        let table = [(Some(-1), true), (Some(-60_000), true), (Some(0), false), (Some(1), false), (None, false)];
        for (received_at, expected) in table {
            assert_eq!(is_overtaken(received_at.map(at), at(0)), expected, "{received_at:?}");
        }
    }

    #[test]
    fn a_resolve_belongs_before_a_trigger_only_where_sentry_received_that_in_a_later_second() {
        let table = [
            (Some(0), Some(-1), false),
            (Some(0), Some(0), false),
            (Some(0), Some(999), false),
            (Some(0), Some(1_000), true),
            (Some(0), Some(5_000), true),
            // A trigger time in the future does not count.
            (Some(0), Some(5_001), false),
            (None, Some(5_000), false),
            (Some(0), None, false),
            (None, None, false),
        ];
        for (sent_at, received_at, expected) in table {
            let outdated = is_outdated(sent_at.map(at), received_at.map(at), at(5_000));
            assert_eq!(outdated, expected, "{sent_at:?} {received_at:?}");
        }
    }

    #[test]
    fn no_trigger_and_resolve_belong_before_each_other() {
        for (sent_at, received_at) in [(0, -1), (0, 0), (0, 1), (0, 999), (0, 1_000), (0, 90_000)] {
            let (sent_at, received_at) = (at(sent_at), Some(at(received_at)));
            assert!(!(is_overtaken(received_at, sent_at) && is_outdated(Some(sent_at), received_at, at(100_000))));
        }
    }
}
