//! One trigger that stands for several alerts of its incident.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::api::TIME;
use super::event::HAPPENED_AT;

/// The same as [`with_counts`](super::with_counts), by way of JSON, for a queue that does not keep the place.
#[must_use]
pub fn folded(body: Vec<u8>, count: u32, first_seen: DateTime<Utc>) -> Vec<u8> {
    let Ok(mut event) = serde_json::from_slice::<Map<String, Value>>(&body) else { return body };
    let Some(details) = event.get_mut("details").and_then(Value::as_object_mut) else { return body };
    let place = details.keys().position(|name| name == HAPPENED_AT).map_or(details.len(), |place| place + 1);
    details.shift_insert(place, "occurrences".to_owned(), count.into());
    details.shift_insert(place + 1, "first_seen".to_owned(), first_seen.format(TIME).to_string().into());
    serde_json::to_vec(&event).unwrap_or(body)
}
