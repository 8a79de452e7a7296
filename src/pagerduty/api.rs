//! An event as the bytes that PagerDuty is sent, and the two details that are added when it stands for several alerts.

use chrono::{DateTime, Utc};

/// How times are written, after Sentry's plugin.
pub(super) const TIME: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// How many bytes [`with_counts`] adds at most.
pub(super) const MAX_COUNTS: usize = LONGEST_COUNTS.len();

/// The longest text that is inserted: the largest count and the latest time that `chrono` has.
const LONGEST_COUNTS: &str = r#","occurrences":4294967295,"first_seen":"+262142-12-31T23:59:60.999999Z""#;

/// The JSON that is sent for an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rendered {
    /// The JSON, as it is sent for an event that stands for one alert.
    pub bytes: Vec<u8>,
    /// Where in `bytes` [`with_counts`] inserts; `None` for an event that is no trigger.
    pub counts_at: Option<usize>,
}

/// The JSON of a trigger that stands for several alerts: `bytes`, those of its newest alert, with the details
/// `occurrences` and `first_seen` inserted at `counts_at` (see [`Rendered::counts_at`]).
///
/// Nothing is parsed, and rendering has kept room: the result is never over PagerDuty's size limit. A place that is not
/// within `bytes` inserts nothing.
#[must_use]
pub fn with_counts(mut bytes: Vec<u8>, counts_at: usize, occurrences: u32, first_seen: DateTime<Utc>) -> Vec<u8> {
    let counts = format!(r#","occurrences":{occurrences},"first_seen":"{}""#, first_seen.format(TIME));
    let is_first = counts_at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'{');
    let counts = if is_first { &counts[1..] } else { &counts };
    if counts_at <= bytes.len() {
        bytes.splice(counts_at..counts_at, counts.bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn time() -> impl Strategy<Value = DateTime<Utc>> {
        let limits = DateTime::<Utc>::MIN_UTC.timestamp()..=DateTime::<Utc>::MAX_UTC.timestamp();
        let seconds = prop_oneof![limits, 1_500_000_000_i64..2_500_000_000];
        (seconds, 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).unwrap())
    }

    #[test]
    fn the_newest_alert_tells_how_many_came_and_since_when() {
        let bytes =
            br#"{"service_key":"k","event_type":"trigger","details":{"datetime":"d","url":null},"contexts":[]}"#;
        let first_seen = DateTime::from_timestamp(1_800_000_000, 123_000_000).unwrap();
        assert_eq!(
            String::from_utf8(with_counts(bytes.to_vec(), 67, 17, first_seen)).unwrap(),
            r#"{"service_key":"k","event_type":"trigger","details":{"datetime":"d","occurrences":17,"first_seen":"2027-01-15T08:00:00.123000Z","url":null},"contexts":[]}"#
        );
    }

    #[test]
    fn details_that_were_empty_hold_the_counts_alone() {
        let bytes = with_counts(br#"{"details":{}}"#.to_vec(), 12, 2, DateTime::UNIX_EPOCH);
        let expected = json!({"details": {"occurrences": 2, "first_seen": "1970-01-01T00:00:00.000000Z"}});
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    }

    #[test]
    fn a_place_outside_the_bytes_inserts_nothing() {
        assert_eq!(with_counts(b"{}".to_vec(), 3, 2, DateTime::UNIX_EPOCH), b"{}");
    }

    proptest! {
        #[test]
        fn no_count_and_no_time_is_longer_than_the_room_that_is_kept(occurrences in any::<u32>(), first_seen in time()) {
            let bytes = br#"{"a":1}"#;
            let longer = with_counts(bytes.to_vec(), 6, occurrences, first_seen);
            prop_assert!(longer.len() <= bytes.len() + MAX_COUNTS);
            prop_assert!(serde_json::from_slice::<Map<String, Value>>(&longer).is_ok());
        }
    }
}
