//! What PagerDuty shows about an event: whether it opened or resolved an incident, and why it opened none. Pure.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::pagerduty_rest::types::{
    IncidentAlert, MaintenanceWindow, PagerDutyIncident, PagerDutyService, ServiceStatus,
};

/// How much the two clocks may differ. PagerDuty's times have whole seconds.
const SKEW: TimeDelta = TimeDelta::seconds(10);

/// The incident that a trigger delivered at `at` opened or was added to: the newest that was open at that time or later.
#[must_use]
pub fn opened_by(at: DateTime<Utc>, incidents: &[PagerDutyIncident]) -> Option<&PagerDutyIncident> {
    let was_open = |incident: &&PagerDutyIncident| incident.open_until().is_none_or(|until| until >= at - SKEW);
    incidents.iter().filter(was_open).max_by_key(|incident| incident.created_at)
}

/// The newest incident that a resolve delivered at `at` should have closed and that is still open. An incident that was
/// opened later does not count. Whether this one was triggered again since then is known to the queue.
#[must_use]
pub fn left_open_by(at: DateTime<Utc>, incidents: &[PagerDutyIncident]) -> Option<&PagerDutyIncident> {
    let is_left = |incident: &&PagerDutyIncident| incident.is_open() && incident.created_at <= at + SKEW;
    incidents.iter().filter(is_left).max_by_key(|incident| incident.created_at)
}

/// Whether a rule suppresses all of these alerts.
#[must_use]
pub fn are_suppressed(alerts: &[IncidentAlert]) -> bool {
    !alerts.is_empty() && alerts.iter().all(|alert| alert.suppressed)
}

/// Whether all of these alerts are resolved. Their incident may still be open because of its other alerts.
#[must_use]
pub fn are_resolved(alerts: &[IncidentAlert]) -> bool {
    !alerts.is_empty() && alerts.iter().all(|alert| alert.status == "resolved")
}

/// The likely cause of a trigger without an incident, as the end of a sentence. `known` is the service of its key, if the
/// token shows one, `service` the same as it is now, if it could be read, and `windows` its ongoing maintenance.
#[must_use]
pub fn cause(
    known: Option<&PagerDutyService>,
    service: Option<&PagerDutyService>,
    windows: &[MaintenanceWindow],
) -> String {
    let Some(known) = known else {
        return "no service that the token shows has this integration key, so check on which service it is".to_owned();
    };
    let Some(service) = service else {
        return format!("the service {} could not be read, so look at its page in PagerDuty", known.name);
    };
    let name = &service.name;
    match service.status {
        ServiceStatus::Disabled => format!("the service {name} is disabled, so enable it in PagerDuty"),
        ServiceStatus::Maintenance => windows.iter().max_by_key(|window| window.end_time).map_or_else(
            || format!("the service {name} is in maintenance"),
            |window| {
                let until = window.end_time.to_rfc3339_opts(SecondsFormat::Secs, true);
                let what = window.description.as_deref().filter(|text| !text.is_empty());
                let what = what.map_or_else(String::new, |text| format!(" ({text})"));
                format!("the service {name} is in maintenance until {until}{what}")
            },
        ),
        ServiceStatus::Active => format!(
            "the service {name} is enabled, so a rule may suppress the event, or PagerDuty has lost it: look at the \
             activity of the service and at PagerDuty's status page"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(second)
    }

    fn incident(number: u64, created: i64, resolved: Option<i64>) -> PagerDutyIncident {
        PagerDutyIncident {
            id: format!("Q{number}"),
            number,
            html_url: None,
            status: if resolved.is_some() { "resolved" } else { "triggered" }.to_owned(),
            created_at: at(created),
            resolved_at: resolved.map(at),
            updated_at: None,
            incident_key: Some("42".to_owned()),
        }
    }

    fn number(found: Option<&PagerDutyIncident>) -> Option<u64> {
        found.map(|incident| incident.number)
    }

    #[test]
    fn a_trigger_belongs_to_an_incident_that_was_open_when_it_came_or_later() {
        let before = incident(1, 0, Some(100));
        assert_eq!(number(opened_by(at(1000), std::slice::from_ref(&before))), None, "resolved long before");
        assert_eq!(number(opened_by(at(50), std::slice::from_ref(&before))), Some(1), "resolved since");
        assert_eq!(number(opened_by(at(1000), &[before.clone(), incident(2, 1002, None)])), Some(2));
        assert_eq!(number(opened_by(at(1000), &[incident(3, 900, None), before])), Some(3), "added to its log");
    }

    #[test]
    fn a_resolve_leaves_no_incident_open_that_was_opened_later() {
        assert_eq!(number(left_open_by(at(100), &[incident(1, 0, Some(100))])), None);
        assert_eq!(number(left_open_by(at(100), &[incident(1, 0, None)])), Some(1));
        assert_eq!(number(left_open_by(at(100), &[incident(2, 120, None), incident(1, 0, Some(100))])), None);
    }

    #[test]
    fn alerts_count_only_where_there_are_some() {
        let alert = |status: &str, suppressed| IncidentAlert { status: status.to_owned(), suppressed };
        assert!(!are_suppressed(&[]) && !are_resolved(&[]));
        assert!(are_suppressed(&[alert("triggered", true)]) && are_resolved(&[alert("resolved", false)]));
        let both = [alert("resolved", true), alert("triggered", false)];
        assert!(!are_suppressed(&both) && !are_resolved(&both));
    }
}
