//! The rules of the Events API v2, each with the text of its error.
//!
//! The texts about `routing_key`, `payload.severity`, `payload.source`, links, images and the length of the summary (with
//! PagerDuty's misspelling) were captured or are in PagerDuty's own tests. The others are modelled on those: for them, test
//! only the status.

use chrono::DateTime;
use serde_json::{Map, Value};

use crate::incidents::{Event, EventType};
use crate::options::{Counting, Options};
use crate::validate::{Findings, is_absolute, nonblank};

/// Members that only a trigger uses.
const FOR_TRIGGERS: [&str; 5] = ["payload", "images", "links", "client", "client_url"];

/// All members that PagerDuty documents.
const KNOWN: [&str; 8] =
    ["routing_key", "event_action", "dedup_key", "payload", "images", "links", "client", "client_url"];

/// All members of the payload that PagerDuty documents.
const KNOWN_IN_PAYLOAD: [&str; 8] =
    ["summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"];

/// Checks an event and adds the problems to `findings`. Returns `None` if there are errors.
pub(crate) fn validate(members: &Map<String, Value>, options: &Options, findings: &mut Findings) -> Option<Event> {
    let service_key = routing_key(members, options.count, findings);
    let event_type = event_action(members, findings);
    let incident_key = dedup_key(members, event_type, options.count, findings);
    let mut description = None;
    match (members.get("payload"), event_type) {
        (Some(Value::Object(payload)), _) => {
            description = check_payload(payload, event_type == Some(EventType::Trigger), options, findings);
        }
        (Some(_), _) => findings.error("'payload' is invalid (must be an object)"),
        (None, Some(EventType::Trigger)) => findings.error("'payload' is missing or blank"),
        (None, _) => {}
    }
    check_shown(members, "links", "link", "href", options.strict, findings);
    check_shown(members, "images", "image", "src", options.strict, findings);
    if members.get("client").is_some_and(|client| !client.is_string()) {
        findings.error("'client' is invalid (must be a string)");
    }
    if members.get("client_url").is_some_and(|url| !is_web_address(url)) {
        findings.error("'client_url' is invalid");
    }
    for name in members.keys().map(String::as_str) {
        if !KNOWN.contains(&name) {
            findings.warnings.push(format!("{name} is not a field of the Events API v2"));
        } else if FOR_TRIGGERS.contains(&name) && event_type.is_some_and(|kind| kind != EventType::Trigger) {
            findings.warnings.push(format!("{name} is only used for trigger"));
        }
    }
    match (event_type, service_key) {
        (Some(event_type), Some(service_key)) if findings.errors.is_empty() => {
            Some(Event { event_type, service_key, incident_key, description })
        }
        _ => None,
    }
}

fn routing_key(members: &Map<String, Value>, count: Counting, findings: &mut Findings) -> Option<String> {
    let key = members.get("routing_key").and_then(Value::as_str).unwrap_or_default();
    let error = if key.is_empty() {
        "'routing_key' is missing or blank"
    } else if count.length(key) != 32 {
        "Length of 'routing_key' is incorrect (should be 32 characters)"
    } else if !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        "'routing_key' cannot contain non-alphanumeric characters."
    } else {
        return Some(key.to_owned());
    };
    findings.error(error);
    None
}

fn event_action(members: &Map<String, Value>, findings: &mut Findings) -> Option<EventType> {
    let action = members.get("event_action").and_then(Value::as_str).filter(|action| !action.is_empty());
    let event_type = action.and_then(EventType::parse);
    match (action, event_type) {
        (None, _) => findings.error("'event_action' is missing or blank"),
        (Some(_), None) => findings
            .error("'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')"),
        _ => {}
    }
    event_type
}

fn dedup_key(
    members: &Map<String, Value>,
    event_type: Option<EventType>,
    count: Counting,
    findings: &mut Findings,
) -> Option<String> {
    match members.get("dedup_key") {
        Some(Value::String(key)) if key.trim().is_empty() => findings.error("'dedup_key' is missing or blank"),
        Some(Value::String(key)) if count.length(key) > 255 => {
            findings.error("'dedup_key' is too long (maximum is 255 characters)");
        }
        Some(Value::String(key)) => return Some(key.clone()),
        Some(_) => findings.error("'dedup_key' is invalid (must be a string)"),
        None if matches!(event_type, Some(EventType::Acknowledge | EventType::Resolve)) => {
            findings.error("'dedup_key' is missing or blank");
        }
        None => {}
    }
    None
}

/// Checks a payload and returns its summary. `is_needed`: whether the event is a trigger, which needs a payload.
fn check_payload(
    payload: &Map<String, Value>,
    is_needed: bool,
    options: &Options,
    findings: &mut Findings,
) -> Option<String> {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    for name in ["summary", "source", "severity"] {
        if is_needed && text(name).is_none() {
            findings.error(&format!("'payload.{name}' is missing or blank"));
        }
    }
    let summary = text("summary").map(str::to_owned);
    if summary.as_ref().is_some_and(|summary| options.count.length(summary) > 1024) {
        findings.error("'summary' is too long (maiximum is 1024 characters)");
    }
    if text("severity").is_some_and(|severity| !["critical", "warning", "error", "info"].contains(&severity)) {
        findings.error(
            "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')",
        );
    }
    if payload.get("timestamp").is_some_and(|time| !time.as_str().is_some_and(is_iso_8601)) {
        findings.error("'payload.timestamp' is invalid");
    }
    for name in ["component", "group", "class"] {
        if payload.get(name).is_some_and(|value| !value.is_string()) {
            findings.error(&format!("'payload.{name}' is invalid (must be a string)"));
        }
    }
    if payload.get("custom_details").is_some_and(|details| !details.is_object()) {
        findings.error("'payload.custom_details' is invalid (must be an object)");
    }
    for name in payload.keys().filter(|name| !KNOWN_IN_PAYLOAD.contains(&name.as_str())) {
        findings.warnings.push(format!("payload.{name} is not a field of the Events API v2"));
    }
    summary
}

/// Checks the links or the images of an event.
fn check_shown(
    members: &Map<String, Value>,
    name: &str,
    kind: &str,
    required: &str,
    strict: bool,
    findings: &mut Findings,
) {
    let Some(all) = members.get(name) else { return };
    let Some(all) = all.as_array() else { return findings.error(&format!("'{name}' is invalid (must be an array)")) };
    let optional: &[&str] = if kind == "link" { &["text"] } else { &["href", "alt"] };
    for one in all {
        let Some(one) = one.as_object() else {
            findings.error(&format!("'{kind}' is invalid (must be an object)"));
            continue;
        };
        match nonblank(one, required) {
            None => findings.error(&format!("'{kind} {required}' is missing or blank")),
            Some(source) if kind == "image" && !is_absolute(source, &["https"]) => {
                findings.error("'image src' is invalid (must be HTTPS)");
            }
            Some(_) => {}
        }
        for (member, value) in one.iter().filter(|(member, _)| *member != required) {
            let is_known = optional.contains(&member.as_str());
            if (is_known && !value.is_string()) || (!is_known && strict) {
                findings.error(&format!("'{kind} {member}' is invalid"));
            } else if !is_known {
                findings.warnings.push(format!("{member} is not a field of a {kind}"));
            }
        }
    }
}

fn is_web_address(url: &Value) -> bool {
    url.as_str().is_some_and(|url| is_absolute(url, &["http", "https"]))
}

/// Whether `text` is an ISO 8601 date and time with an offset, which may have a colon or not, as in PagerDuty's samples.
fn is_iso_8601(text: &str) -> bool {
    DateTime::parse_from_rfc3339(text).is_ok() || DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z").is_ok()
}
