//! One trigger that stands for several alerts of its incident.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::WireEvent;
use super::api::{Rendered, TIME};
use super::fit::shrink;

/// The detail behind which the two new ones stand, so that all times are found together.
const BEFORE: &str = "datetime";

/// The body of a trigger that stands for `count` alerts, the first of which came at `first_seen`: `body`, which is that
/// of the newest one, with the details `occurrences` and `first_seen`.
///
/// It is at most [`WireEvent::MAX_BYTES`] long if `body` is: where there is no room for the two, the others are cut as
/// in [`WireEvent::fit`]. A body that is no JSON object with `details` is returned as it is.
#[must_use]
pub fn folded(body: Vec<u8>, count: u32, first_seen: DateTime<Utc>) -> Vec<u8> {
    let Ok(mut event) = serde_json::from_slice::<Map<String, Value>>(&body) else { return body };
    let Some(details) = event.get_mut("details").and_then(Value::as_object_mut) else { return body };
    let place = details.keys().position(|name| name == BEFORE).map_or(details.len(), |place| place + 1);
    details.shift_insert(place, "occurrences".to_owned(), count.into());
    details.shift_insert(place + 1, "first_seen".to_owned(), first_seen.format(TIME).to_string().into());

    let folded = json(&event);
    if folded.len() <= WireEvent::MAX_BYTES {
        return folded;
    }
    let details = event.get_mut("details").and_then(Value::as_object_mut).map(std::mem::take).unwrap_or_default();
    let (folded, _) = shrink(details, folded.len(), |details| {
        event.insert("details".to_owned(), Value::Object(details));
        Rendered { bytes: json(&event), counts_at: None }
    });
    folded.bytes
}

fn json(event: &Map<String, Value>) -> Vec<u8> {
    // It fails only for maps whose keys are no text, which JSON does not have.
    serde_json::to_vec(event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::api::with_counts;
    use super::super::event::{Context, Event, EventAction, Trigger};
    use super::super::{Description, IncidentKey, ServiceKey};
    use super::*;
    use crate::alert::IssueId;

    fn first_seen() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 123_000_000).unwrap()
    }

    #[test]
    fn the_newest_alert_tells_how_many_came_and_since_when() {
        let body = br#"{"service_key":"k","event_type":"trigger","details":{"datetime":"d","url":null},"contexts":[]}"#;
        let folded = folded(body.to_vec(), 17, first_seen());
        assert_eq!(
            String::from_utf8(folded).unwrap(),
            r#"{"service_key":"k","event_type":"trigger","details":{"datetime":"d","occurrences":17,"first_seen":"2027-01-15T08:00:00.123000Z","url":null},"contexts":[]}"#
        );
    }

    #[test]
    fn what_has_no_details_stays_as_it_is() {
        for body in ["no JSON", "[1]", r#"{"event_type":"resolve"}"#, r#"{"details":"text"}"#] {
            assert_eq!(folded(body.as_bytes().to_vec(), 2, first_seen()), body.as_bytes(), "{body}");
        }
    }

    #[test]
    fn a_body_at_the_limit_loses_the_end_of_a_text_and_none_of_the_counts() {
        let culprit = "x".repeat(WireEvent::MAX_BYTES - 60);
        let body = serde_json::to_vec(&json!({"details": {"datetime": "d", "culprit": culprit}})).unwrap();
        assert!((WireEvent::MAX_BYTES - 60..=WireEvent::MAX_BYTES).contains(&body.len()));
        let folded = folded(body, 2, first_seen());
        assert!(folded.len() <= WireEvent::MAX_BYTES, "{} bytes", folded.len());
        let event: Value = serde_json::from_slice(&folded).unwrap();
        assert_eq!(event["details"]["occurrences"], 2);
        assert_eq!(event["details"]["first_seen"], "2027-01-15T08:00:00.123000Z");
        assert!(event["details"]["culprit"].as_str().unwrap().ends_with('…'));
    }

    /// A trigger with these tags and this member in front of or behind them.
    fn trigger(tags: &[String], has_time: bool, links: usize) -> Event {
        let mut details = Map::new();
        if has_time {
            details.insert("datetime".to_owned(), "2027-01-15T08:00:00.000000Z".into());
        }
        details.insert("tags".to_owned(), tags.into());
        Event {
            service_key: ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap(),
            incident_key: IncidentKey::of_issue("", &IssueId::new("42").unwrap()),
            action: EventAction::Trigger(Trigger {
                description: Description::new("line").unwrap(),
                client: "sentry",
                client_url: None,
                details,
                contexts: vec![Context::Link { href: "https://a.test".to_owned(), text: "Issue Details" }; links],
            }),
        }
    }

    proptest! {
        #[test]
        fn counts_are_inserted_where_they_would_be_by_way_of_json(
            tags in prop::collection::vec(("[\\x00a\"\\\\{}é🔥]{0,6}", prop_oneof![4 => Just(1_usize), 1 => 1_usize..60_000]), 0..6),
            has_time in any::<bool>(),
            links in 0_usize..2,
            count in 2_u32..,
        ) {
            let tags: Vec<_> = tags.into_iter().map(|(text, times)| text.repeat(times)).collect();
            let rendered = WireEvent::fit(trigger(&tags, has_time, links)).0.into_rendered();
            let inserted = with_counts(rendered.bytes.clone(), rendered.counts_at.unwrap(), count, first_seen());
            prop_assert!(inserted.len() <= WireEvent::MAX_BYTES);
            prop_assert_eq!(inserted, folded(rendered.bytes, count, first_seen()));
        }

        #[test]
        fn folding_adds_two_details_and_touches_nothing_else(count in 2_u32.., texts in prop::collection::vec(any::<String>(), 0..8)) {
            let body = serde_json::to_vec(&json!({"description": "d", "details": {"tags": texts}})).unwrap();
            let once: Value = serde_json::from_slice(&folded(body.clone(), count, first_seen())).unwrap();
            let mut expected: Value = serde_json::from_slice(&body).unwrap();
            expected["details"]["occurrences"] = count.into();
            expected["details"]["first_seen"] = "2027-01-15T08:00:00.123000Z".into();
            prop_assert_eq!(once, expected);
        }
    }
}
