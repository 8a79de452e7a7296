//! What is changed in the JSON of a stored event, and what is read from it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::event::HAPPENED_AT;
use super::events_api::TIME;

/// Does the same as [`with_counts`](super::with_counts) by parsing the JSON, for bodies in which the position of the
/// counts is not known. Existing counts are replaced. A body that is not an object with details is returned unchanged.
#[must_use]
pub fn with_counts_by_parsing(body: Vec<u8>, count: u32, first_seen: DateTime<Utc>) -> Vec<u8> {
    let Ok(mut event) = serde_json::from_slice::<Map<String, Value>>(&body) else { return body };
    let Some(details) = details(&mut event) else { return body };
    let place = details.keys().position(|name| name == HAPPENED_AT).map_or(details.len(), |place| place + 1);
    details.shift_insert(place, "occurrences".to_owned(), count.into());
    details.shift_insert(place + 1, "first_seen".to_owned(), first_seen.format(TIME).to_string().into());
    serde_json::to_vec(&event).unwrap_or(body)
}

/// The details of an event of either API.
fn details(event: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    if event.contains_key("payload") {
        return event.get_mut("payload")?.as_object_mut()?.get_mut("custom_details")?.as_object_mut();
    }
    event.get_mut("details")?.as_object_mut()
}

/// Where in Sentry an event came from. A field is `None` if the event does not say it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct SentryOrigin {
    /// The project.
    #[serde(deserialize_with = "text")]
    pub project: Option<String>,
    /// The environment, such as `production`.
    #[serde(deserialize_with = "text")]
    pub environment: Option<String>,
    /// Sentry's level.
    #[serde(deserialize_with = "text")]
    pub level: Option<String>,
    /// The page; an address that begins with `https://` or `http://`.
    #[serde(rename = "url", deserialize_with = "web_address")]
    pub link: Option<String>,
    /// The event's id.
    #[serde(deserialize_with = "text")]
    pub event_id: Option<String>,
}

/// The body of an event of either API: v1 has the details at the top level, v2 under another name in its payload. Bodies
/// that the bridge did not make may have them at either place.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EventBody {
    #[serde(alias = "custom_details")]
    details: Option<SentryOrigin>,
    payload: Option<Box<EventBody>>,
}

impl SentryOrigin {
    /// Parses the origin from the body of an event. Anything that is not such a body gives an empty origin.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Self {
        let EventBody { details, payload } = serde_json::from_slice(body).unwrap_or_default();
        details.or_else(|| payload?.details).unwrap_or_default()
    }
}

/// A text that is not blank; `None` for anything else.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) if !text.trim().is_empty() => Some(text),
        _ => None,
    })
}

fn web_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(text(deserializer)?.filter(|url| url.starts_with("https://") || url.starts_with("http://")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn first_seen() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 123_000_000).unwrap()
    }

    #[test]
    fn a_body_that_holds_the_counts_already_holds_the_new_ones_in_their_place() {
        let body = br#"{"details":{"datetime":"d","url":null}}"#;
        let once = with_counts_by_parsing(body.to_vec(), 2, first_seen());
        assert_eq!(with_counts_by_parsing(once.clone(), 2, first_seen()), once);
        assert_eq!(
            with_counts_by_parsing(once, 17, first_seen()),
            with_counts_by_parsing(body.to_vec(), 17, first_seen())
        );
    }

    #[test]
    fn the_details_of_the_events_api_v2_hold_the_counts_too() {
        let body = br#"{"payload":{"custom_details":{"datetime":"d","url":null}},"links":[]}"#;
        let expected = r#"{"payload":{"custom_details":{"datetime":"d","occurrences":2,"first_seen":"2027-01-15T08:00:00.123000Z","url":null}},"links":[]}"#;
        assert_eq!(String::from_utf8(with_counts_by_parsing(body.to_vec(), 2, first_seen())).unwrap(), expected);
    }

    #[test]
    fn what_has_no_details_stays_as_it_is() {
        for body in ["no JSON", "[1]", r#"{"event_type":"resolve"}"#, r#"{"details":"text"}"#, r#"{"payload":{}}"#] {
            assert_eq!(with_counts_by_parsing(body.as_bytes().to_vec(), 2, first_seen()), body.as_bytes(), "{body}");
        }
    }

    fn plain_details() -> Value {
        json!({
            "project": "Shop", "environment": "production", "level": "error", "url": "https://sentry.test/7/",
            "event_id": "0a1b",
        })
    }

    #[test]
    fn the_origin_is_read_from_events_of_both_apis() {
        let expected = SentryOrigin {
            project: Some("Shop".to_owned()),
            environment: Some("production".to_owned()),
            level: Some("error".to_owned()),
            link: Some("https://sentry.test/7/".to_owned()),
            event_id: Some("0a1b".to_owned()),
        };
        let v1 = json!({"service_key": "k", "details": plain_details()});
        let v2 = json!({"routing_key": "k", "payload": {"summary": "s", "custom_details": plain_details()}});
        for body in [v1, v2] {
            assert_eq!(SentryOrigin::of_body(body.to_string().as_bytes()), expected);
        }
    }

    #[test]
    fn what_is_missing_or_of_no_use_is_left_out() {
        let body = json!({"details": {"project": null, "environment": " ", "level": 7, "url": "javascript:alert(1)"}});
        for body in [body.to_string(), json!({"details": "text"}).to_string(), "{}".to_owned(), "no JSON".to_owned()] {
            assert_eq!(SentryOrigin::of_body(body.as_bytes()), SentryOrigin::default(), "{body}");
        }
    }
}
