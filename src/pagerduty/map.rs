//! [`Alert`] → [`Event`], agreeing with what Sentry's own plugin for the Events API v1 sent.

use serde_json::{Map, Value};

use super::api::TIME;
use super::event::{Context, EventAction, Note, Trigger};
use super::{Description, Event, IncidentKey, ServiceKey};
use crate::alert::{Action, Alert, Exception, Frame, Project, Subject, User};

/// How many calls of the stack `details.frames` holds.
pub const MAX_FRAMES: usize = 10;

/// The event that tells PagerDuty of the alert.
///
/// `incident_key`, `description`, `client`, `client_url`, `contexts` and the first eight details are those of the plugin
/// in Sentry 9.1; the other details are the bridge's own.
#[must_use]
pub fn event_of(alert: &Alert, service_key: ServiceKey, incident_key_prefix: &str) -> Event {
    Event { service_key, incident_key: IncidentKey::of(incident_key_prefix, &alert.subject), action: action_of(alert) }
}

/// What the alert asks of its incident, wherever that is.
#[must_use]
pub fn action_of(alert: &Alert) -> EventAction {
    let note = || Note { description: Some(Description::of_note(alert)) };
    match alert.action {
        Action::Trigger(_) => EventAction::Trigger(Trigger {
            description: Description::of(alert),
            client: "sentry",
            client_url: alert.link.as_ref().map(|link| link.root.clone()),
            details: details(alert),
            contexts: alert
                .link
                .iter()
                .map(|link| Context::Link { href: link.href.clone(), text: link_text(&alert.subject) })
                .collect(),
        }),
        Action::Acknowledge => EventAction::Acknowledge(note()),
        Action::Resolve => EventAction::Resolve(note()),
    }
}

fn link_text(subject: &Subject) -> &'static str {
    match subject {
        Subject::Issue(_) => "Issue Details",
        Subject::Metric(_) => "Metric Alert Details",
    }
}

/// The plugin's eight details, `null` where Sentry told nothing, then whatever else there is to say.
///
/// A metric alert, of which the plugin never heard, has only what there is to say.
fn details(alert: &Alert) -> Map<String, Value> {
    let happened_at = alert.happened_at.format(TIME).to_string();
    let plugins = [
        ("event_id", text_or_null(alert.event_id.as_ref())),
        ("project", project(&alert.project)),
        ("release", text_or_null(alert.release.as_ref())),
        ("platform", text_or_null(alert.platform.as_ref())),
        ("culprit", text_or_null(alert.culprit.as_ref())),
        ("datetime", Value::from(happened_at)),
        ("url", text_or_null(alert.link.as_ref().map(|link| &link.href))),
        ("tags", object(&alert.tags)),
    ];
    let says = |value: &Value| !value.is_null() && value.as_object().is_none_or(|members| !members.is_empty());
    let plugins = plugins.into_iter().filter(|(_, value)| matches!(alert.subject, Subject::Issue(_)) || says(value));
    let if_told = [
        ("level", text(alert.level.as_ref())),
        ("environment", text(alert.environment.as_ref())),
        ("logger", text(alert.logger.as_ref())),
        ("server_name", text(alert.server_name.as_ref())),
        ("transaction", text(alert.transaction.as_ref())),
        ("rules", list(alert.rules.clone())),
        ("user", alert.user.as_ref().and_then(user)),
        ("exception", exception(alert)),
        ("evidence", Some(object(&alert.evidence)).filter(says)),
        ("frames", list(frames(&alert.frames))),
    ];
    let if_told = if_told.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let facts = alert.facts.iter().map(|(name, value)| (*name, Value::from(value.as_str())));
    plugins.chain(if_told).chain(facts).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn project(project: &Project) -> Value {
    match project.name.as_ref().or(project.slug.as_ref()) {
        Some(name) if !project.others.is_empty() => Value::from(format!("{name}, {}", project.others.join(", "))),
        name => text_or_null(name),
    }
}

fn object(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect())
}

fn text_or_null(text: Option<&String>) -> Value {
    text.map_or(Value::Null, |text| Value::from(text.as_str()))
}

fn text(text: Option<&String>) -> Option<Value> {
    text.filter(|text| !text.trim().is_empty()).map(|text| Value::from(text.as_str()))
}

fn list(texts: Vec<String>) -> Option<Value> {
    (!texts.is_empty()).then(|| Value::from(texts))
}

fn user(user: &User) -> Option<Value> {
    let members =
        [("id", &user.id), ("username", &user.username), ("email", &user.email), ("ip_address", &user.ip_address)];
    let told = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value.as_ref())?)));
    let told: Map<_, _> = told.collect();
    (!told.is_empty()).then_some(Value::Object(told))
}

/// The exception that was raised last, `type: value`, and under it a line `caused by type: value` for each that led to
/// it, nearest first.
fn exception(alert: &Alert) -> Option<Value> {
    let chain: Vec<_> = alert.exceptions.iter().rev().filter_map(Exception::summary).collect();
    (!chain.is_empty()).then(|| Value::from(chain.join("\ncaused by ")))
}

/// The application's own calls, or all calls where none is its own; innermost first, at most [`MAX_FRAMES`].
fn frames(frames: &[Frame]) -> Vec<String> {
    let has_own = frames.iter().any(|frame| frame.in_app);
    frames.iter().filter(|frame| frame.in_app || !has_own).filter_map(frame).take(MAX_FRAMES).collect()
}

/// `send.py:39 in charge`, as far as it is told; the module stands in for a missing file.
fn frame(frame: &Frame) -> Option<String> {
    let place = frame.filename.as_ref().or(frame.module.as_ref());
    let place = place.map(|place| match frame.line {
        Some(line) => format!("{place}:{line}"),
        None => place.clone(),
    });
    match (place, &frame.function) {
        (Some(place), Some(function)) => Some(format!("{place} in {function}")),
        (place, function) => place.or_else(|| function.clone()),
    }
}
