//! [`Alert`] → [`EventAction`]. For the Events API v1 it agrees with what Sentry's own plugin sent, for the Events API v2
//! with Sentry's integration. Also the two events of a test page.

use chrono::{DateTime, Datelike, Utc};

use super::description::Description;
use super::destination::Destination;
use super::event::{Detail, Details, Event, EventAction, HAPPENED_AT, Link, Severity, Trigger, V2Fields};
use super::keys::IncidentKey;
use super::template::Template;
use crate::alert::{Alert, Exception, IncidentAction, Project, StackFrame, Subject, User};

/// What the alert does to its incident, independent of the destination.
///
/// Description, client, links and the first eight details are those of the plugin in Sentry 9.1; the other details are the
/// bridge's own. Source and component are those of the integration. A template replaces the description of a trigger.
#[must_use]
pub fn action_of(alert: Alert, severity: Severity, template: Option<&Template>) -> EventAction {
    let note = || Some(Description::of_note(&alert));
    match alert.action {
        IncidentAction::Trigger(_) | IncidentAction::Reopen(_) => EventAction::Trigger(Trigger {
            description: Description::of(&alert, template),
            client: "sentry",
            client_url: alert.link.as_ref().map(|link| link.root.clone()),
            links: alert
                .link
                .iter()
                .map(|link| Link { href: link.href.clone(), text: link_text(&alert.subject) })
                .collect(),
            severity,
            v2_fields: Box::new(v2_fields(&alert)),
            details: details(alert),
        }),
        IncidentAction::Acknowledge => EventAction::Acknowledge(note()),
        IncidentAction::Resolve => EventAction::Resolve(note()),
    }
}

fn link_text(subject: &Subject) -> &'static str {
    match subject {
        Subject::Issue(_) => "Issue Details",
        Subject::Metric(_) => "Metric Alert Details",
    }
}

/// Where the alert comes from. Source and component are those of Sentry's integration; where that sends `<unknown>`, the
/// source is the host or the project.
fn v2_fields(alert: &Alert) -> V2Fields {
    let first = |texts: &[Option<&String>]| texts.iter().copied().find_map(|text| Description::new(text?));
    let project = [alert.project.slug.as_ref(), alert.project.name.as_ref()];
    let source = match &alert.subject {
        Subject::Issue(_) => first(&[alert.transaction.as_ref(), alert.culprit.as_ref(), alert.server_name.as_ref()]),
        Subject::Metric(name) => first(&[Some(name)]),
    };
    let class = match &alert.subject {
        Subject::Issue(_) => first(&[alert.exceptions.last().and_then(|exception| exception.kind.as_ref())]),
        Subject::Metric(_) => Description::new("metric alert"),
    };
    V2Fields {
        source: source.or_else(|| first(&project)).unwrap_or_else(Description::of_unknown_source),
        component: first(&project),
        group: first(&[alert.environment.as_ref()]),
        class,
        // A year before 1970, or one that ISO 8601 does not write in four digits, comes from a wrong clock.
        occurred_at: Some(alert.occurred_at).filter(|at| (1970..=9999).contains(&at.year())),
    }
}

/// The capacity for details: more than nearly any alert has.
const MOST_DETAILS: usize = 24;

/// The plugin's eight details, unknown ones included, then whatever else is known.
///
/// A metric alert, which the plugin never sent, has only the details that are known.
fn details(alert: Alert) -> Details {
    let is_issue = matches!(alert.subject, Subject::Issue(_));
    let exception = exception(&alert);
    let plugins = [
        ("event_id", text_or_unknown(alert.event_id)),
        ("project", project(alert.project)),
        ("release", text_or_unknown(alert.release)),
        ("platform", text_or_unknown(alert.platform)),
        ("culprit", text_or_unknown(alert.culprit)),
        (HAPPENED_AT, Detail::Time(alert.occurred_at)),
        ("url", alert.link.map_or(Detail::Unknown, |link| Detail::Url(link.href))),
        ("tags", Detail::Fields(alert.tags.into_iter().collect())),
    ];
    let plugins = plugins.into_iter().filter(|(_, detail)| is_issue || says_something(detail));
    let frames: Vec<_> = alert.frames.into_iter().filter_map(frame).collect();
    let if_known = [
        ("level", text(alert.level)),
        ("environment", text(alert.environment)),
        ("logger", text(alert.logger)),
        ("server_name", text(alert.server_name)),
        ("transaction", text(alert.transaction)),
        ("rules", Some(alert.rules).filter(|rules| !rules.is_empty()).map(Detail::List)),
        ("user", alert.user.map(user)),
        ("exception", exception),
        ("evidence", Some(Detail::Fields(alert.evidence.into_iter().collect()))),
        ("settings", Some(Detail::Fields(alert.action_settings.into_iter().collect()))),
        ("frames", Some(frames).filter(|frames| !frames.is_empty()).map(Detail::Frames)),
    ];
    let if_known = if_known.into_iter().filter_map(|(name, detail)| Some((name, detail.filter(says_something)?)));
    let facts = alert.facts.into_iter().map(|(name, value)| (name, Detail::Text(value)));
    let mut details = Details::with_capacity(MOST_DETAILS);
    details.extend(plugins.chain(if_known).chain(facts));
    details
}

fn says_something(detail: &Detail) -> bool {
    !matches!(detail, Detail::Unknown) && !matches!(detail, Detail::Fields(fields) if fields.is_empty())
}

fn project(project: Project) -> Detail {
    match project.name.or(project.slug) {
        Some(name) if !project.others.is_empty() => Detail::Text(format!("{name}, {}", project.others.join(", "))),
        name => text_or_unknown(name),
    }
}

fn text_or_unknown(text: Option<String>) -> Detail {
    text.map_or(Detail::Unknown, Detail::Text)
}

fn text(text: Option<String>) -> Option<Detail> {
    text.filter(|text| !text.trim().is_empty()).map(Detail::Text)
}

fn user(user: User) -> Detail {
    let members =
        [("id", user.id), ("username", user.username), ("email", user.email), ("ip_address", user.ip_address)];
    let known = members.into_iter().filter_map(|(name, value)| {
        let value = value.filter(|value| !value.trim().is_empty())?;
        Some((name.to_owned(), value))
    });
    Detail::Fields(known.collect())
}

/// The exception that was raised last, `type: value`, and under it a line `caused by type: value` for each that led to
/// it, nearest first.
fn exception(alert: &Alert) -> Option<Detail> {
    let chain: Vec<_> = alert.exceptions.iter().rev().filter_map(Exception::summary).collect();
    (!chain.is_empty()).then(|| Detail::Text(chain.join("\ncaused by ")))
}

/// A frame as text, such as `send.py:39 in charge`, as far as it is known. The module replaces a missing file name.
fn frame(frame: StackFrame) -> Option<String> {
    let place = frame.filename.or(frame.module).map(|place| match frame.line {
        Some(line) => format!("{place}:{line}"),
        None => place,
    });
    match (place, frame.function) {
        (Some(place), Some(function)) => Some(format!("{place} in {function}")),
        (place, function) => place.or(function),
    }
}

/// The trigger and the resolve of a test incident, by which an operator sees whether PagerDuty accepts events and whom it
/// notifies. Its key consists of `prefix`, `name` and `at`, so that every test page has an incident of its own; `sender` is
/// shown in its details.
#[must_use]
pub fn test_page(destination: &Destination, prefix: &str, name: &str, at: DateTime<Utc>, sender: &str) -> [Event; 2] {
    let incident_key = IncidentKey::of_test_page(prefix, name, at);
    let description = Description::of_line("Test page of sentry-pagerduty-bridge: it resolves itself".to_owned());
    let details = Details::from_iter([("sent by", Detail::Text(sender.to_owned())), (HAPPENED_AT, Detail::Time(at))]);
    let trigger = Trigger::of_bridge(description, details);
    let actions = [EventAction::Trigger(trigger), EventAction::Resolve(None)];
    actions.map(|action| Event { destination: destination.clone(), incident_key: incident_key.clone(), action })
}
