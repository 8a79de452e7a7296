//! What PagerDuty's Events APIs have in common: what each of them does, and the JSON of an event.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use super::description::Description;
use super::event::{Detail, Details, Event, HAPPENED_AT};
use super::keys::ServiceKey;
use super::outcome::{EventsApiResponse, Outcome};

/// One of PagerDuty's Events APIs. A new one gets its own file, and is added to
/// [`ApiVersion`](super::ApiVersion) and [`events_api`](fn@super::events_api).
pub trait EventsApi: Sync {
    /// The path that events are posted to, under the root of PagerDuty's address.
    fn path(&self) -> &'static str;

    /// The field that holds the integration key.
    fn key_member(&self) -> &'static str;

    /// The JSON to send for the event, within PagerDuty's limits.
    fn render(&self, event: &Event) -> Rendered;

    /// What a response means for the event; the APIs answer alike. `now` is the time of the response, and `key` is masked
    /// in the outcome's texts.
    fn classify(&self, response: &EventsApiResponse<'_>, key: &ServiceKey, now: DateTime<Utc>) -> Outcome {
        Outcome::of_response(response, key, now)
    }
}

/// The largest event that is sent, in bytes of JSON. PagerDuty documents "512 KB" for both of its APIs; this is safe
/// whether a KB has 1000 bytes or 1024.
pub const MAX_BYTES: usize = 512_000;

/// The longest address that is sent, in bytes. PagerDuty documents no limit; browsers and proxies accept this much.
pub const MAX_ADDRESS: usize = 2_000;

/// The format of times, as in Sentry's plugin.
pub(super) const TIME: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// The most bytes that [`with_counts`] adds.
pub(super) const MAX_COUNTS: usize = LONGEST_COUNTS.len();

/// The longest text that is inserted: the largest count and the latest time that `chrono` has.
const LONGEST_COUNTS: &str = r#","occurrences":4294967295,"first_seen":"+262142-12-31T23:59:60.999999Z""#;

/// How many bytes most events take without the texts of their details.
const ROOM: usize = 1_024;

/// The JSON that is sent for an event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rendered {
    /// The JSON, as it is sent for an event that stands for one alert; at most [`MAX_BYTES`].
    pub bytes: Vec<u8>,
    /// Where in `bytes` [`with_counts`] inserts; `None` unless the event is a trigger.
    pub counts_at: Option<usize>,
    /// What was cut to be within PagerDuty's limits.
    pub cuts: Vec<Cut>,
}

/// Returns the JSON of a trigger that stands for several alerts: `bytes`, the JSON of the newest alert, with the details
/// `occurrences` and `first_seen` inserted at [`counts_at`](Rendered::counts_at).
///
/// Nothing is parsed, and the result is never longer than [`MAX_BYTES`], because rendering leaves room for it. If the
/// position is outside `bytes`, nothing is inserted.
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

/// Writes the JSON object of an event, field by field, to know where the counts are inserted.
#[derive(Debug)]
pub(super) struct EventWriter(Rendered);

impl EventWriter {
    pub(super) fn new() -> Self {
        let mut bytes = Vec::with_capacity(ROOM);
        bytes.push(b'{');
        Self(Rendered { bytes, ..Rendered::default() })
    }

    pub(super) fn member(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.name(name);
        self.value(value);
    }

    /// Writes a field whose value is an object; `write` adds the fields of that object.
    pub(super) fn object(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.name(name);
        self.0.bytes.push(b'{');
        write(self);
        self.0.bytes.push(b'}');
    }

    /// Writes a field whose value is a list of objects; `write` adds the fields of one of them.
    pub(super) fn list<T>(&mut self, name: &str, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.name(name);
        self.0.bytes.push(b'[');
        for (index, item) in items.iter().enumerate() {
            self.0.bytes.extend_from_slice(if index == 0 { b"{" } else { b",{" });
            write(self, item);
            self.0.bytes.push(b'}');
        }
        self.0.bytes.push(b']');
    }

    pub(super) fn details(&mut self, name: &str, details: &Details) {
        // Otherwise the bytes of large details would be copied each time the buffer doubles.
        self.0.bytes.reserve(details.values().map(size).sum::<usize>() + ROOM);
        self.name(name);
        self.0.bytes.push(b'{');
        let mut counts_at = None;
        for (name, detail) in details {
            self.member(name, detail);
            if *name == HAPPENED_AT {
                counts_at = Some(self.0.bytes.len());
            }
        }
        self.0.counts_at = counts_at.or(Some(self.0.bytes.len()));
        self.0.bytes.push(b'}');
    }

    pub(super) fn finish(mut self) -> Rendered {
        self.0.bytes.push(b'}');
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.bytes.last() != Some(&b'{') {
            self.0.bytes.push(b',');
        }
        self.value(name);
        self.0.bytes.push(b':');
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) {
        // Writing to memory cannot fail, and neither can serialising: every name in an event is a text.
        let _ = serde_json::to_writer(&mut self.0.bytes, value);
    }
}

/// About how many bytes the JSON of a detail takes, without its name.
fn size(detail: &Detail) -> usize {
    match detail {
        Detail::Unknown | Detail::Number(_) | Detail::Time(_) => 0,
        Detail::Text(text) | Detail::Url(text) => text.len(),
        Detail::List(texts) | Detail::Frames(texts) => texts.iter().map(|text| text.len() + 3).sum(),
        Detail::Fields(fields) => fields.iter().map(|(name, text)| name.len() + text.len() + 6).sum(),
    }
}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown => serializer.serialize_none(),
            Self::Text(text) | Self::Url(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Time(time) => serializer.collect_str(&time.format(TIME)),
            Self::List(texts) | Self::Frames(texts) => serializer.collect_seq(texts),
            Self::Fields(fields) => serializer.collect_map(fields),
        }
    }
}

/// Something that is not sent because PagerDuty would not accept it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cut {
    /// A line was too long.
    Line {
        /// The field of the event, such as the description.
        member: &'static str,
        /// How long it was, in characters (code points).
        length: usize,
        /// How long it is now, in characters, with the ellipsis at its end.
        kept: usize,
        /// The same in UTF-16 units. Where there are more of them than characters, it was cut by UTF-16 units.
        kept_utf16: usize,
    },
    /// An address was left out, because half an address leads nowhere.
    Address {
        /// The field of the event.
        member: String,
        /// How long it was, in bytes.
        length: usize,
    },
    /// The outermost calls of the stack were left out.
    Frames {
        /// The field that holds the details.
        details: &'static str,
        /// How many are left.
        kept: usize,
        /// How many there were.
        of: usize,
    },
    /// Long texts in a detail were shortened.
    Texts {
        /// The field that holds the details.
        details: &'static str,
        /// The detail.
        member: &'static str,
        /// How many of its texts were shortened.
        count: usize,
        /// The length to which they were shortened, in characters.
        limit: usize,
    },
    /// The later entries of a detail were left out.
    Entries {
        /// The field that holds the details.
        details: &'static str,
        /// The detail.
        member: &'static str,
        /// How many are left.
        kept: usize,
        /// How many there were.
        of: usize,
    },
}

impl Cut {
    /// How the line in the field `member` was cut; `None` when it was not.
    pub(super) fn line(member: &'static str, line: &Description) -> Option<Self> {
        let length = line.whole_length()?;
        let kept = line.as_str().chars().count();
        Some(Self::Line { member, length, kept, kept_utf16: line.as_str().encode_utf16().count() })
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { member, length, kept, kept_utf16 } => {
                let limit = Description::MAX_LENGTH;
                write!(f, "{member}: cut from {length} to {kept} characters, ")?;
                if kept_utf16 == kept {
                    f.write_str("which is all PagerDuty takes")
                } else {
                    write!(
                        f,
                        "which are {kept_utf16} in UTF-16: PagerDuty takes {limit} and does not say how it counts them"
                    )
                }
            }
            Self::Address { member, length } => {
                write!(f, "{member}: left out, because it has {length} bytes and an address may have {MAX_ADDRESS}")
            }
            Self::Frames { details, kept: 0, of } => {
                write!(f, "{details}.frames: all {of} left out, for a body of at most {MAX_BYTES} bytes")
            }
            Self::Frames { details, kept, of } => write!(
                f,
                "{details}.frames: only the innermost {kept} of {of} kept, for a body of at most {MAX_BYTES} bytes"
            ),
            Self::Texts { details, member, count, limit } => {
                let texts = if *count == 1 { "1 text" } else { &format!("{count} texts") };
                write!(
                    f,
                    "{details}.{member}: {texts} cut to {limit} characters, for a body of at most {MAX_BYTES} bytes"
                )
            }
            Self::Entries { details, member, kept, of } => {
                write!(
                    f,
                    "{details}.{member}: only the first {kept} of {of} kept, for a body of at most {MAX_BYTES} bytes"
                )
            }
        }
    }
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
