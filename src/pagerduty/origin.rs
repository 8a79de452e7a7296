//! What people want to see of an alert besides its description, parsed back from the body of its event.

use serde::Deserialize;
use serde_json::Value;

/// Where an alert came from. A field is `None` if the event does not say it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// The project in Sentry.
    pub project: Option<String>,
    /// The environment, such as `production`.
    pub environment: Option<String>,
    /// Sentry's level.
    pub level: Option<String>,
    /// The page in Sentry; an address that begins with `https://` or `http://`.
    pub link: Option<String>,
    /// The event's id in Sentry.
    pub event_id: Option<String>,
}

/// The body of an event of either API: v1 has the details at the top level, v2 in its payload.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    details: Option<Details>,
    payload: Option<Payload>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    custom_details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    project: Value,
    environment: Value,
    level: Value,
    url: Value,
    event_id: Value,
}

impl Origin {
    /// Parses the origin of the alert from the body of an event. Anything that is not such a body gives an empty origin.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Self {
        let Body { details, payload } = serde_json::from_slice(body).unwrap_or_default();
        let Some(details) = details.or_else(|| payload.and_then(|payload| payload.custom_details)) else {
            return Self::default();
        };
        let text = |value: Value| match value {
            Value::String(text) if !text.trim().is_empty() => Some(text),
            _ => None,
        };
        Self {
            project: text(details.project),
            environment: text(details.environment),
            level: text(details.level),
            link: text(details.url).filter(|url| url.starts_with("https://") || url.starts_with("http://")),
            event_id: text(details.event_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn details() -> Value {
        json!({
            "project": "Shop", "environment": "production", "level": "error", "url": "https://sentry.test/7/",
            "event_id": "0a1b",
        })
    }

    #[test]
    fn the_origin_is_read_from_events_of_both_apis() {
        let expected = Origin {
            project: Some("Shop".to_owned()),
            environment: Some("production".to_owned()),
            level: Some("error".to_owned()),
            link: Some("https://sentry.test/7/".to_owned()),
            event_id: Some("0a1b".to_owned()),
        };
        let v1 = json!({"service_key": "k", "details": details()});
        let v2 = json!({"routing_key": "k", "payload": {"summary": "s", "custom_details": details()}});
        for body in [v1, v2] {
            assert_eq!(Origin::of_body(body.to_string().as_bytes()), expected);
        }
    }

    #[test]
    fn what_is_missing_or_of_no_use_is_left_out() {
        let body = json!({"details": {"project": null, "environment": " ", "level": 7, "url": "javascript:alert(1)"}});
        for body in [body.to_string(), json!({"details": "text"}).to_string(), "{}".to_owned(), "no JSON".to_owned()] {
            assert_eq!(Origin::of_body(body.as_bytes()), Origin::default(), "{body}");
        }
    }
}
