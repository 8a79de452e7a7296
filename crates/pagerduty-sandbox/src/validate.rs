//! The rules of the Events APIs for the members of an event, each with the text of its error.
//!
//! Captured or documented are, of v1, the texts about the length of `service_key`, `event_type` and `description`; of v2, those
//! about `routing_key`, `payload.severity`, `payload.source`, links, images and the length of the summary (with PagerDuty's
//! misspelling), some of them from PagerDuty's own tests. The others are modelled on those: for them, test only the status.

use chrono::DateTime;
use serde_json::{Map, Value};
use url::Url;

use crate::incidents::{EventType, ValidEvent};
use crate::options::{Counting, Options};

/// Members of v1 that only a trigger uses.
const FOR_TRIGGERS_V1: [&str; 3] = ["client", "client_url", "contexts"];

/// All members of v1 that PagerDuty documents.
const KNOWN_V1: [&str; 8] =
    ["service_key", "event_type", "incident_key", "description", "details", "client", "client_url", "contexts"];

const INVALID_CONTEXTS: &str = "Contexts is invalid";

/// Members of v2 that only a trigger uses.
const FOR_TRIGGERS_V2: [&str; 5] = ["payload", "images", "links", "client", "client_url"];

/// All members of v2 that PagerDuty documents.
const KNOWN_V2: [&str; 8] =
    ["routing_key", "event_action", "dedup_key", "payload", "images", "links", "client", "client_url"];

/// All members of the payload that PagerDuty documents.
const KNOWN_IN_PAYLOAD: [&str; 8] =
    ["summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"];

/// What was found wrong with a request.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Problems for which PagerDuty refuses an event.
    pub(crate) errors: Vec<String>,
    /// What PagerDuty accepts and does not use.
    pub(crate) warnings: Vec<String>,
    /// What PagerDuty's documentation forbids and its servers accept.
    pub(crate) violations: Vec<String>,
}

impl Findings {
    pub(crate) fn error(&mut self, text: &str) {
        self.errors.push(text.to_owned());
    }
}

/// An integration key, which has 32 letters and digits. `texts`: that it is missing, has another length, has other characters.
fn integration_key(
    value: Option<&Value>,
    count: Counting,
    texts: [&str; 3],
    findings: &mut Findings,
) -> Option<String> {
    let key = value.and_then(Value::as_str).unwrap_or_default();
    let error = if key.is_empty() {
        texts[0]
    } else if count.length(key) != 32 {
        texts[1]
    } else if !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        texts[2]
    } else {
        return Some(key.to_owned());
    };
    findings.error(error);
    None
}

/// An incident key, which only a trigger may be without. `texts`: that it is missing, is too long, is no string.
fn incident_key(
    value: Option<&Value>,
    event_type: Option<EventType>,
    count: Counting,
    texts: [&str; 3],
    findings: &mut Findings,
) -> Option<String> {
    match value {
        Some(Value::String(key)) if key.trim().is_empty() => findings.error(texts[0]),
        Some(Value::String(key)) if count.length(key) > 255 => findings.error(texts[1]),
        Some(Value::String(key)) => return Some(key.clone()),
        Some(_) => findings.error(texts[2]),
        None if matches!(event_type, Some(EventType::Acknowledge | EventType::Resolve)) => findings.error(texts[0]),
        None => {}
    }
    None
}

/// Checks an event of v1 and adds the problems to `findings`. Returns `None` if there are errors.
pub(crate) fn validate_v1(
    members: &Map<String, Value>,
    options: &Options,
    findings: &mut Findings,
) -> Option<ValidEvent> {
    let count = options.count;
    let event_type = members.get("event_type").and_then(Value::as_str).and_then(EventType::parse);

    let service_key = integration_key(
        members.get("service_key"),
        count,
        [
            "Service key is missing or blank",
            "Service key is the wrong length (should be 32 characters)",
            "Service key cannot contain non-alphanumeric characters",
        ],
        findings,
    );
    if event_type.is_none() {
        findings.error("event_type is invalid (must be one of: trigger acknowledge resolve)");
    }
    let incident_key = incident_key(
        members.get("incident_key"),
        event_type,
        count,
        [
            "Incident key is missing or blank",
            "Incident key is too long (maximum is 255 characters)",
            "Incident key must be a string",
        ],
        findings,
    );
    let description = description(members, event_type, count, findings);
    if members.get("details").is_some_and(|details| !details.is_object()) {
        findings.error("Details must be an object");
    }
    check_client(members, findings);
    if let Some(contexts) = members.get("contexts") {
        check_contexts(contexts, options.strict, findings);
    }
    add_warnings(members, event_type, findings);

    match (event_type, service_key) {
        (Some(event_type), Some(service_key)) if findings.errors.is_empty() => {
            Some(ValidEvent { event_type, service_key, incident_key, description })
        }
        _ => None,
    }
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

fn check_client(members: &Map<String, Value>, findings: &mut Findings) {
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

/// Checks the links and images of an event.
fn check_contexts(contexts: &Value, strict: bool, findings: &mut Findings) {
    let Some(contexts) = contexts.as_array() else { return findings.error(INVALID_CONTEXTS) };
    for context in contexts {
        let Some(context) = context.as_object() else {
            findings.error(INVALID_CONTEXTS);
            continue;
        };
        match context.get("type").and_then(Value::as_str) {
            Some("link") => {
                if nonblank(context, "href").is_none() {
                    findings.error("Context href is missing or blank");
                }
                check_other_members(context, ["type", "href"], &["text"], strict, findings);
            }
            Some("image") => {
                match nonblank(context, "src") {
                    None => findings.error("Context src is missing or blank"),
                    Some(src) if !is_absolute(src, &["https"]) => findings.error("Context src must be HTTPS"),
                    Some(_) => {}
                }
                check_other_members(context, ["type", "src"], &["href", "alt"], strict, findings);
            }
            _ => findings.error(INVALID_CONTEXTS),
        }
    }
}

/// The text of a field, unless it is blank.
fn nonblank<'a>(context: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    context.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

/// Checks the members of a context besides its `required` ones.
fn check_other_members(
    context: &Map<String, Value>,
    required: [&str; 2],
    optional: &[&str],
    strict: bool,
    findings: &mut Findings,
) {
    for (name, value) in context.iter().filter(|(name, _)| !required.contains(&name.as_str())) {
        let known = optional.contains(&name.as_str());
        if (known && !value.is_string()) || (!known && strict) {
            findings.error(INVALID_CONTEXTS);
        } else if !known {
            findings.warnings.push(format!("{name} is not a field of such a context"));
        }
    }
}

fn add_warnings(members: &Map<String, Value>, event_type: Option<EventType>, findings: &mut Findings) {
    for name in members.keys().map(String::as_str) {
        if !KNOWN_V1.contains(&name) {
            findings.warnings.push(format!("{name} is not a field of the Events API v1"));
        } else if FOR_TRIGGERS_V1.contains(&name) && event_type.is_some_and(|kind| kind != EventType::Trigger) {
            findings.warnings.push(format!("{name} is only used for trigger"));
        }
    }
}

/// Whether `text` is an absolute URL with one of `schemes` and a host. (`Url` alone would also accept `http:host`.)
fn is_absolute(text: &str, schemes: &[&str]) -> bool {
    let Some((scheme, _)) = text.split_once("://") else { return false };
    schemes.iter().any(|allowed| scheme.eq_ignore_ascii_case(allowed))
        && Url::parse(text).is_ok_and(|url| url.has_host())
}

/// Checks an event of v2 and adds the problems to `findings`. Returns `None` if there are errors.
pub(crate) fn validate_v2(
    members: &Map<String, Value>,
    options: &Options,
    findings: &mut Findings,
) -> Option<ValidEvent> {
    let service_key = integration_key(
        members.get("routing_key"),
        options.count,
        [
            "'routing_key' is missing or blank",
            "Length of 'routing_key' is incorrect (should be 32 characters)",
            "'routing_key' cannot contain non-alphanumeric characters.",
        ],
        findings,
    );
    let event_type = event_action(members, findings);
    let incident_key = incident_key(
        members.get("dedup_key"),
        event_type,
        options.count,
        [
            "'dedup_key' is missing or blank",
            "'dedup_key' is too long (maximum is 255 characters)",
            "'dedup_key' is invalid (must be a string)",
        ],
        findings,
    );
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
        if !KNOWN_V2.contains(&name) {
            findings.warnings.push(format!("{name} is not a field of the Events API v2"));
        } else if FOR_TRIGGERS_V2.contains(&name) && event_type.is_some_and(|kind| kind != EventType::Trigger) {
            findings.warnings.push(format!("{name} is only used for trigger"));
        }
    }
    match (event_type, service_key) {
        (Some(event_type), Some(service_key)) if findings.errors.is_empty() => {
            Some(ValidEvent { event_type, service_key, incident_key, description })
        }
        _ => None,
    }
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
