//! One trigger that stands for several alerts of its incident.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::api::TIME;
use super::event::HAPPENED_AT;

/// The same as [`with_counts`](super::with_counts) by way of JSON, for bodies whose place for the counts is not known. Counts
/// that are there already are replaced. A body that is not an object with `details` is returned as it is.
#[must_use]
pub fn folded(body: Vec<u8>, count: u32, first_seen: DateTime<Utc>) -> Vec<u8> {
    let Ok(mut event) = serde_json::from_slice::<Map<String, Value>>(&body) else { return body };
    let Some(details) = event.get_mut("details").and_then(Value::as_object_mut) else { return body };
    let place = details.keys().position(|name| name == HAPPENED_AT).map_or(details.len(), |place| place + 1);
    details.shift_insert(place, "occurrences".to_owned(), count.into());
    details.shift_insert(place + 1, "first_seen".to_owned(), first_seen.format(TIME).to_string().into());
    serde_json::to_vec(&event).unwrap_or(body)
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
    fn what_has_no_details_stays_as_it_is() {
        for body in ["no JSON", "[1]", r#"{"event_type":"resolve"}"#, r#"{"details":"text"}"#] {
            assert_eq!(folded(body.as_bytes().to_vec(), 2, first_seen()), body.as_bytes(), "{body}");
        }
    }
}
