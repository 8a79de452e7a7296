//! A test page: a real incident that is resolved at once, to see whether PagerDuty accepts events and whom it notifies.

use chrono::{DateTime, Utc};

use super::description::Description;
use super::destination::Destination;
use super::event::{AlertSource, Detail, Details, Event, EventAction, HAPPENED_AT, Trigger};
use super::keys::IncidentKey;
use super::severity::Severity;
use crate::alert::IssueId;

/// The client that the events name.
const CLIENT: &str = "sentry-pagerduty-bridge";

/// The trigger and the resolve of a test incident. Its key consists of `prefix`, `name` and `at`, so that every test page has
/// an incident of its own; `sender` is shown in its details. `None` is not possible, because no part of them is ever blank.
#[must_use]
pub fn events(
    destination: &Destination,
    prefix: &str,
    name: &str,
    at: DateTime<Utc>,
    sender: &str,
) -> Option<[Event; 2]> {
    let issue = IssueId::new(&format!("{name}-{}", at.format("%Y%m%dT%H%M%S%.3fZ")))?;
    let incident_key = IncidentKey::of_issue(prefix, &issue);
    let trigger = Trigger {
        description: Description::new("Test page of sentry-pagerduty-bridge: it resolves itself")?,
        client: CLIENT,
        client_url: None,
        details: Details::from_iter([("sent by", Detail::Text(sender.to_owned())), (HAPPENED_AT, Detail::Time(at))]),
        links: Vec::new(),
        severity: Severity::Critical,
        origin: Box::new(AlertSource::of_source(Description::new(CLIENT)?)),
    };
    let actions = [EventAction::Trigger(trigger), EventAction::Resolve(None)];
    Some(actions.map(|action| Event { destination: destination.clone(), incident_key: incident_key.clone(), action }))
}
