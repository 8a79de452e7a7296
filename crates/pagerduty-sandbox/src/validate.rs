//! From the bytes of a body to an event: JSON, then the rules of the Events API v1, each with the text of its error. Those of
//! v2 are in `v2`.
//!
//! The texts about the length of `service_key`, `event_type` and `description` were captured or are documented. The
//! others are modelled on those: for them, test only the status.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use url::Url;

use crate::incidents::{Event, EventType};
use crate::options::{Counting, Options};

/// Members that only a trigger uses.
const FOR_TRIGGERS: [&str; 3] = ["client", "client_url", "contexts"];

/// All members that PagerDuty documents.
const KNOWN: [&str; 8] =
    ["service_key", "event_type", "incident_key", "description", "details", "client", "client_url", "contexts"];

const INVALID_CONTEXTS: &str = "Contexts is invalid";

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

/// Checks an event and adds the problems to `findings`. Returns `None` if there are errors.
pub(crate) fn validate(members: &Map<String, Value>, options: &Options, findings: &mut Findings) -> Option<Event> {
    let count = options.count;
    let event_type = members.get("event_type").and_then(Value::as_str).and_then(EventType::parse);

    let service_key = service_key(members, count, findings);
    if event_type.is_none() {
        findings.error("event_type is invalid (must be one of: trigger acknowledge resolve)");
    }
    let incident_key = incident_key(members, event_type, count, findings);
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
            Some(Event { event_type, service_key, incident_key, description })
        }
        _ => None,
    }
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
pub(crate) fn nonblank<'a>(context: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
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
        if !KNOWN.contains(&name) {
            findings.warnings.push(format!("{name} is not a field of the Events API v1"));
        } else if FOR_TRIGGERS.contains(&name) && event_type.is_some_and(|kind| kind != EventType::Trigger) {
            findings.warnings.push(format!("{name} is only used for trigger"));
        }
    }
}

/// Whether `text` is an absolute URL with one of `schemes` and a host. (`Url` alone would also accept `http:host`.)
pub(crate) fn is_absolute(text: &str, schemes: &[&str]) -> bool {
    let Some((scheme, _)) = text.split_once("://") else { return false };
    schemes.iter().any(|allowed| scheme.eq_ignore_ascii_case(allowed))
        && Url::parse(text).is_ok_and(|url| url.has_host())
}

/// A JSON object.
#[derive(Debug, PartialEq)]
pub(crate) struct Object {
    pub(crate) members: Map<String, Value>,
    /// Names that are repeated within one object, at any depth. The last value counts.
    pub(crate) duplicates: Vec<String>,
}

/// Reads `body` as a JSON object. The error is a sentence.
pub(crate) fn parse(body: &[u8]) -> Result<Object, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("The body is not UTF-8: {error}"))?;
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = ValueSeed(&mut duplicates)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| format!("The body is not JSON: {error}"))?;
    match value {
        Value::Object(members) => Ok(Object { members, duplicates }),
        _ => Err("The body is JSON, but not an object".to_owned()),
    }
}

/// Deserializes any JSON value and collects the names that are repeated within an object.
struct ValueSeed<'a>(&'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element_seed(ValueSeed(self.0))? {
            elements.push(element);
        }
        Ok(elements.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(ValueSeed(self.0))?;
            if members.insert(name.clone(), value).is_some() {
                self.0.push(name);
            }
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_value_is_kept() {
        let body = r#"{"a":null,"b":[true,-1,18446744073709551615,1.5,"\u00e9\n"],"c":{"d":{}}}"#;
        let parsed = parse(body.as_bytes()).unwrap();
        let expected = json!({"a": null, "b": [true, -1, u64::MAX, 1.5, "é\n"], "c": {"d": {}}});
        assert_eq!((Value::Object(parsed.members), parsed.duplicates), (expected, vec![]));
    }

    #[test]
    fn members_written_twice_are_named_at_any_depth() {
        let parsed = parse(br#"{"a":1,"a":2,"b":[{"c":1,"c":2}]}"#).unwrap();
        assert_eq!(parsed.duplicates, ["a", "c"]);
        assert_eq!(parsed.members["a"], 2);
    }

    #[test]
    fn what_is_no_object_of_json_is_refused() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(200), "1}".repeat(200));
        for body in
            [&b""[..], b"{", b"{} x", b"[]", b"1", b"\xff", b"\xef\xbb\xbf{}", br#"{"a":"\ud800"}"#, deep.as_bytes()]
        {
            assert!(parse(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}
