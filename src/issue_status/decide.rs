//! What to do about an incident, given what Sentry says about its issue, and when Sentry is asked again. Pure.

use std::time::Duration;

use chrono::TimeDelta;

use crate::sentry_api::types::SentryIssue;

/// What Sentry says about an issue.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It shows this issue. If it has another id, the issue that was asked for was merged into this one.
    Shown(Box<SentryIssue>),
    /// It has no such issue, although it answers other requests.
    Missing,
}

/// What is known of the incident.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Context {
    /// Whether Sentry has shown the issue before. An issue that it never showed may belong to another Sentry.
    pub was_seen: bool,
    /// Whether the issue into which it was merged has an open incident of its own.
    pub parent_is_open: bool,
}

/// What to do about an incident.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resolution {
    /// Nothing: it stays open.
    Open,
    /// Resolve it: the issue, or the one into which it was merged, is resolved.
    Resolved,
    /// Resolve it: the issue was merged into one with an open incident of its own.
    Merged,
    /// Resolve it: the issue was deleted.
    Deleted,
}

/// Decides what to do about the incident of the issue `asked`.
#[must_use]
pub fn resolution(asked: &str, answer: &Answer, context: Context) -> Resolution {
    match answer {
        Answer::Missing if context.was_seen => Resolution::Deleted,
        Answer::Shown(issue) if issue.is_resolved() => Resolution::Resolved,
        Answer::Shown(issue) if issue.id != asked && context.parent_is_open => Resolution::Merged,
        // A merged issue follows the one into which it was merged. An archived issue does not count as resolved.
        Answer::Missing | Answer::Shown(_) => Resolution::Open,
    }
}

/// How long to wait before Sentry is asked again about an incident that has been open for `open_for`.
#[must_use]
pub fn pause(open_for: TimeDelta) -> Duration {
    match open_for {
        open if open < TimeDelta::hours(1) => Duration::from_mins(2),
        open if open < TimeDelta::days(1) => Duration::from_mins(10),
        open if open < TimeDelta::days(7) => Duration::from_hours(1),
        _ => Duration::from_hours(6),
    }
}

/// What an incident is about, derived from its key without the prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum About<'k> {
    /// The issue with this number.
    Issue(&'k str),
    /// The firing of a metric alert with this identifier.
    Metric(&'k str),
    /// The open period of a metric issue with this number. The key has the number of its firing, which is 10^10 higher.
    Period(u64),
}

/// The first number of the firings of monitors that were made after metric alerts became monitors. Source:
/// `incidents/endpoints/serializers/utils.py` in Sentry.
const FIRST_PERIOD: u64 = 10_000_000_000;

/// What the incident `key` is about; `None` for the bridge's own alarms and for incidents that do not belong to this Sentry.
#[must_use]
pub fn about<'k>(key: &'k str, prefix: &str) -> Option<About<'k>> {
    let name = key.strip_prefix(prefix)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(name) {
        return Some(About::Issue(name));
    }
    let identifier = name.strip_prefix("incident_")?.rsplit('_').next().filter(|text| is_number(text))?;
    match identifier.parse::<u64>().ok()?.checked_sub(FIRST_PERIOD) {
        Some(period) => Some(About::Period(period)),
        None => Some(About::Metric(identifier)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(id: &str, status: &str) -> Answer {
        Answer::Shown(serde_json::from_value(json!({"id": id, "status": status})).unwrap())
    }

    #[test]
    fn an_incident_is_resolved_when_its_issue_is() {
        let (seen, stranger) = (Context { was_seen: true, ..Context::default() }, Context::default());
        let rival = Context { parent_is_open: true, ..seen };
        for (answer, context, expected) in [
            (shown("7", "resolved"), stranger, Resolution::Resolved),
            (shown("7", "unresolved"), rival, Resolution::Open),
            (shown("7", "ignored"), seen, Resolution::Open),
            (shown("8", "unresolved"), seen, Resolution::Open),
            (shown("8", "unresolved"), rival, Resolution::Merged),
            (shown("8", "resolved"), seen, Resolution::Resolved),
            (Answer::Missing, seen, Resolution::Deleted),
            (Answer::Missing, stranger, Resolution::Open),
        ] {
            assert_eq!(resolution("7", &answer, context), expected, "{answer:?} {context:?}");
        }
    }

    #[test]
    fn an_older_incident_is_asked_for_less_often() {
        let pauses = [TimeDelta::zero(), TimeDelta::hours(2), TimeDelta::days(2), TimeDelta::days(30)].map(pause);
        assert_eq!(pauses.map(|pause| pause.as_secs()), [120, 600, 3600, 21_600]);
        assert_eq!(pause(TimeDelta::minutes(-5)), Duration::from_mins(2), "the clock was set back");
    }

    #[test]
    fn an_incident_key_tells_what_it_is_about() {
        assert_eq!(about("eu-7", "eu-"), Some(About::Issue("7")));
        assert_eq!(about("incident_1_42", ""), Some(About::Metric("42")));
        assert_eq!(about("incident_42", ""), Some(About::Metric("42")));
        assert_eq!(about("incident_1_10000000003", ""), Some(About::Period(3)));
        for other in ["sentry-pagerduty-bridge/silence", "us-7", "incident_1_x", "", "incident_1_99999999999999999999"]
        {
            assert_eq!(about(other, ""), None, "{other}");
        }
        assert_eq!(about("7", "eu-"), None);
    }
}
