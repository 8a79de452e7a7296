//! What to do about an incident, given what Sentry says about its issue, and when Sentry is asked again. Pure.

use std::time::Duration;

use chrono::TimeDelta;

use crate::metrics::IssueCheck;
use crate::sentry_api::types::SentryIssue;

/// What is known of the incident.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct IncidentContext {
    /// Whether Sentry has shown the issue before. An issue that it never showed may belong to another Sentry.
    pub was_seen: bool,
    /// Whether the issue into which it was merged has an open incident of its own.
    pub parent_is_open: bool,
}

/// Decides what to do about the incident of the issue `asked`, given the issue that Sentry shows for it: leave it open, or
/// resolve it for one of the other reasons. `shown` is `None` if Sentry has no such issue, although it answers other
/// requests. If it has another id, the issue that was asked for was merged into it.
#[must_use]
pub fn decide(asked: &str, shown: Option<&SentryIssue>, context: IncidentContext) -> IssueCheck {
    match shown {
        None if context.was_seen => IssueCheck::Deleted,
        Some(issue) if issue.is_resolved() => IssueCheck::Resolved,
        Some(issue) if issue.id != asked && context.parent_is_open => IssueCheck::Merged,
        // A merged issue follows the one into which it was merged. An archived issue does not count as resolved.
        None | Some(_) => IssueCheck::Open,
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
pub enum IncidentSubject<'k> {
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
pub fn subject<'k>(key: &'k str, prefix: &str) -> Option<IncidentSubject<'k>> {
    let name = key.strip_prefix(prefix)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(name) {
        return Some(IncidentSubject::Issue(name));
    }
    let identifier = name.strip_prefix("incident_")?.rsplit('_').next().filter(|text| is_number(text))?;
    match identifier.parse::<u64>().ok()?.checked_sub(FIRST_PERIOD) {
        Some(period) => Some(IncidentSubject::Period(period)),
        None => Some(IncidentSubject::Metric(identifier)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(id: &str, status: &str) -> SentryIssue {
        serde_json::from_value(json!({"id": id, "status": status})).unwrap()
    }

    #[test]
    fn an_incident_is_resolved_when_its_issue_is() {
        let (seen, stranger) =
            (IncidentContext { was_seen: true, ..IncidentContext::default() }, IncidentContext::default());
        let rival = IncidentContext { parent_is_open: true, ..seen };
        for (issue, context, expected) in [
            (Some(shown("7", "resolved")), stranger, IssueCheck::Resolved),
            (Some(shown("7", "unresolved")), rival, IssueCheck::Open),
            (Some(shown("7", "ignored")), seen, IssueCheck::Open),
            (Some(shown("8", "unresolved")), seen, IssueCheck::Open),
            (Some(shown("8", "unresolved")), rival, IssueCheck::Merged),
            (Some(shown("8", "resolved")), seen, IssueCheck::Resolved),
            (None, seen, IssueCheck::Deleted),
            (None, stranger, IssueCheck::Open),
        ] {
            assert_eq!(decide("7", issue.as_ref(), context), expected, "{issue:?} {context:?}");
        }
    }

    #[test]
    fn an_older_incident_is_asked_for_less_often() {
        let pauses = [TimeDelta::zero(), TimeDelta::hours(2), TimeDelta::days(2), TimeDelta::days(30)].map(pause);
        assert_eq!(pauses.map(|pause| pause.as_secs()), [120, 600, 3600, 21_600]);
        assert_eq!(pause(TimeDelta::minutes(-5)), Duration::from_mins(2), "the clock was set back");
    }

    #[test]
    fn an_incident_key_tells_its_subject() {
        assert_eq!(subject("eu-7", "eu-"), Some(IncidentSubject::Issue("7")));
        assert_eq!(subject("incident_1_42", ""), Some(IncidentSubject::Metric("42")));
        assert_eq!(subject("incident_42", ""), Some(IncidentSubject::Metric("42")));
        assert_eq!(subject("incident_1_10000000003", ""), Some(IncidentSubject::Period(3)));
        for other in ["sentry-pagerduty-bridge/silence", "us-7", "incident_1_x", "", "incident_1_99999999999999999999"]
        {
            assert_eq!(subject(other, ""), None, "{other}");
        }
        assert_eq!(subject("7", "eu-"), None);
    }
}
