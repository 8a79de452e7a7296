//! One trigger that stands for several alerts of its incident.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::api::TIME;
use super::event::HAPPENED_AT;

/// Does the same as [`with_counts`](super::with_counts) by parsing the JSON, for bodies in which the position of the
/// counts is not known. Existing counts are replaced. A body that is not an object with details is returned unchanged.
#[must_use]
pub fn folded(body: Vec<u8>, count: u32, first_seen: DateTime<Utc>) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn first_seen() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 123_000_000).unwrap()
    }

    #[test]
    fn a_body_that_holds_the_counts_already_holds_the_new_ones_in_their_place() {
        let body = br#"{"details":{"datetime":"d","url":null}}"#;
        let once = folded(body.to_vec(), 2, first_seen());
        assert_eq!(folded(once.clone(), 2, first_seen()), once);
        assert_eq!(folded(once, 17, first_seen()), folded(body.to_vec(), 17, first_seen()));
    }

    #[test]
    fn the_details_of_the_events_api_v2_hold_the_counts_too() {
        let body = br#"{"payload":{"custom_details":{"datetime":"d","url":null}},"links":[]}"#;
        let expected = r#"{"payload":{"custom_details":{"datetime":"d","occurrences":2,"first_seen":"2027-01-15T08:00:00.123000Z","url":null}},"links":[]}"#;
        assert_eq!(String::from_utf8(folded(body.to_vec(), 2, first_seen())).unwrap(), expected);
    }

    #[test]
    fn what_has_no_details_stays_as_it_is() {
        for body in ["no JSON", "[1]", r#"{"event_type":"resolve"}"#, r#"{"details":"text"}"#, r#"{"payload":{}}"#] {
            assert_eq!(folded(body.as_bytes().to_vec(), 2, first_seen()), body.as_bytes(), "{body}");
        }
    }
}
