//! How many alerts a trigger stands for, inserted into the bytes to send.
//!
//! Until the first attempt begins, the counts are columns beside the body, so that folding parses no JSON.

use chrono::{DateTime, Utc};

use crate::pagerduty::fold::folded;
use crate::pagerduty::with_counts;

/// The bytes to send of a trigger that stands for `count` alerts, the first of which came at `first_seen`.
///
/// Without `counts_at` the body is parsed, as are those of earlier versions, which may have older counts in them.
pub(super) fn inserted(body: Vec<u8>, counts_at: Option<usize>, count: u32, first_seen: DateTime<Utc>) -> Vec<u8> {
    match counts_at {
        _ if count < 2 => body,
        Some(offset) => with_counts(body, offset, count, first_seen),
        None => folded(body, count, first_seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"details":{"datetime":"d","url":null}}"#;

    fn sent(counts_at: Option<usize>, count: u32) -> String {
        let first_seen = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        String::from_utf8(inserted(BODY.to_vec(), counts_at, count, first_seen)).unwrap()
    }

    #[test]
    fn a_trigger_of_one_alert_is_sent_as_it_came() {
        assert_eq!(sent(None, 1).as_bytes(), BODY);
        assert_eq!(sent(Some(26), 1).as_bytes(), BODY);
    }

    #[test]
    fn the_counts_are_the_same_with_and_without_a_known_place() {
        let expected =
            r#"{"details":{"datetime":"d","occurrences":17,"first_seen":"2027-01-15T08:00:00.123000Z","url":null}}"#;
        assert_eq!(sent(Some(26), 17), expected);
        assert_eq!(sent(None, 17), expected);
    }
}
