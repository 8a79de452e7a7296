//! What makes an object an event: PagerDuty's rules, each with the words of its answer.
//!
//! Captured or documented are the words about `service_key`'s length, `event_type` and `description`; the others are
//! made in their image, so assert no more than the status for those.

use serde_json::{Map, Value};
use url::Url;

use crate::contexts;
use crate::options::Counting;
use crate::state::{Event, EventType};

/// Members that only a trigger uses.
const FOR_TRIGGERS: [&str; 3] = ["client", "client_url", "contexts"];

/// All members that PagerDuty's pages name.
const KNOWN: [&str; 8] =
    ["service_key", "event_type", "incident_key", "description", "details", "client", "client_url", "contexts"];

/// What came of looking at an object.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// PagerDuty's complaints; none: the event is valid.
    pub(crate) errors: Vec<String>,
    /// What PagerDuty takes although it has no use for it.
    pub(crate) warnings: Vec<String>,
}

impl Findings {
    pub(crate) fn error(&mut self, text: &str) {
        self.errors.push(text.to_owned());
    }
}

/// The event, when [`Findings::errors`] stays empty.
pub(crate) fn validate(members: &Map<String, Value>, count: Counting, strict: bool) -> (Option<Event>, Findings) {
    let mut findings = Findings::default();
    let event_type = members.get("event_type").and_then(Value::as_str).and_then(EventType::parse);

    let service_key = service_key(members, count, &mut findings);
    if event_type.is_none() {
        findings.error("event_type is invalid (must be one of: trigger acknowledge resolve)");
    }
    let incident_key = incident_key(members, event_type, count, &mut findings);
    let description = description(members, event_type, count, &mut findings);
    if members.get("details").is_some_and(|details| !details.is_object()) {
        findings.error("Details must be an object");
    }
    client(members, &mut findings);
    if let Some(contexts) = members.get("contexts") {
        contexts::validate(contexts, strict, &mut findings);
    }
    warn(members, event_type, &mut findings);

    let event = match (event_type, service_key) {
        (Some(kind), Some(service_key)) if findings.errors.is_empty() => {
            Some(Event { kind, service_key, incident_key, description })
        }
        _ => None,
    };
    (event, findings)
}

fn service_key(members: &Map<String, Value>, count: Counting, findings: &mut Findings) -> Option<String> {
    let key = members.get("service_key").and_then(Value::as_str).unwrap_or_default();
    let error = if key.is_empty() {
        "Service key is missing or blank"
    } else if count.length(key) != 32 {
        "Service key is the wrong length (should be 32 characters)"
    } else if !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        "Service key cannot contain non-alphanumeric characters"
    } else {
        return Some(key.to_owned());
    };
    findings.error(error);
    None
}

fn incident_key(
    members: &Map<String, Value>,
    event_type: Option<EventType>,
    count: Counting,
    findings: &mut Findings,
) -> Option<String> {
    match members.get("incident_key") {
        Some(Value::String(key)) if key.trim().is_empty() => findings.error("Incident key is missing or blank"),
        Some(Value::String(key)) if count.length(key) > 255 => {
            findings.error("Incident key is too long (maximum is 255 characters)");
        }
        Some(Value::String(key)) => return Some(key.clone()),
        Some(_) => findings.error("Incident key must be a string"),
        None if matches!(event_type, Some(EventType::Acknowledge | EventType::Resolve)) => {
            findings.error("Incident key is missing or blank");
        }
        None => {}
    }
    None
}

fn description(
    members: &Map<String, Value>,
    event_type: Option<EventType>,
    count: Counting,
    findings: &mut Findings,
) -> Option<String> {
    let needed = event_type == Some(EventType::Trigger);
    match members.get("description") {
        None | Some(Value::Null) if needed => findings.error("Description is missing or blank"),
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if needed && text.trim().is_empty() => {
            findings.error("Description is missing or blank");
        }
        Some(Value::String(text)) if count.length(text) > 1024 => {
            findings.error("Description is too long (maximum is 1024 characters)");
        }
        Some(Value::String(text)) => return Some(text.clone()),
        Some(_) => findings.error("Description must be a string"),
    }
    None
}

fn client(members: &Map<String, Value>, findings: &mut Findings) {
    if members.get("client").is_some_and(|client| !client.is_string()) {
        findings.error("Client must be a string");
    }
    if members
        .get("client_url")
        .is_some_and(|url| !url.as_str().is_some_and(|url| is_absolute(url, &["http", "https"])))
    {
        findings.error("Client url is invalid");
    }
}

fn warn(members: &Map<String, Value>, event_type: Option<EventType>, findings: &mut Findings) {
    for name in members.keys().map(String::as_str) {
        if !KNOWN.contains(&name) {
            findings.warnings.push(format!("{name} is no member of the Events API v1"));
        } else if FOR_TRIGGERS.contains(&name) && event_type.is_some_and(|kind| kind != EventType::Trigger) {
            findings.warnings.push(format!("{name} is only used for trigger"));
        }
    }
}

/// Whether `text` is a whole address of one of `schemes`, with a host. (`Url` alone would also read `http:host`.)
pub(crate) fn is_absolute(text: &str, schemes: &[&str]) -> bool {
    let Some((scheme, _)) = text.split_once("://") else { return false };
    schemes.iter().any(|allowed| scheme.eq_ignore_ascii_case(allowed))
        && Url::parse(text).is_ok_and(|url| url.has_host())
}
