//! The two Events APIs: their paths, the names of their fields and how they answer; and the JSON of an event.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The path of the Events API v1. The date in it is a version and never changes.
pub const PATH: &str = "/generic/2010-04-15/create_event.json";

/// The path of the Events API v2.
pub const PATH_V2: &str = "/v2/enqueue";

/// One of PagerDuty's Events APIs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventsApiVersion {
    /// Events API v1.
    V1,
    /// Events API v2.
    V2,
}

impl EventsApiVersion {
    /// The API with this path, if there is one.
    pub(crate) fn of_target(target: &str) -> Option<Self> {
        let path = target.split('?').next().unwrap_or_default();
        [Self::V1, Self::V2].into_iter().find(|api| api.path() == path)
    }

    /// Its path. The date in that of v1 is a version and never changes.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::V1 => PATH,
            Self::V2 => PATH_V2,
        }
    }

    /// The status of a success.
    pub(crate) fn success_status(self) -> u16 {
        match self {
            Self::V1 => 200,
            Self::V2 => 202,
        }
    }

    fn key_member(self) -> &'static str {
        match self {
            Self::V1 => "service_key",
            Self::V2 => "routing_key",
        }
    }

    pub(crate) fn incident_member(self) -> &'static str {
        match self {
            Self::V1 => "incident_key",
            Self::V2 => "dedup_key",
        }
    }

    fn type_member(self) -> &'static str {
        match self {
            Self::V1 => "event_type",
            Self::V2 => "event_action",
        }
    }

    /// The integration key of an event, if it is a string.
    pub(crate) fn service_key(self, event: &Map<String, Value>) -> Option<&str> {
        event.get(self.key_member())?.as_str()
    }

    /// The incident key of an event, if it is a string.
    pub(crate) fn incident_key(self, event: &Map<String, Value>) -> Option<&str> {
        event.get(self.incident_member())?.as_str()
    }

    /// The type of an event, if it is a string.
    pub(crate) fn event_type(self, event: &Map<String, Value>) -> Option<&str> {
        event.get(self.type_member())?.as_str()
    }

    /// The description (v1) or summary (v2) of an event, if it is a string.
    pub(crate) fn description(self, event: &Map<String, Value>) -> Option<&str> {
        match self {
            Self::V1 => event.get("description")?.as_str(),
            Self::V2 => event.get("payload")?.get("summary")?.as_str(),
        }
    }
}

/// Reads `body` as a JSON object. Returns its members, and the names that are repeated within one object at any depth, of which
/// the last value counts. The error is a sentence.
pub(crate) fn parse(body: &[u8]) -> Result<(Map<String, Value>, Vec<String>), String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("The body is not UTF-8: {error}"))?;
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = ValueSeed(&mut duplicates)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| format!("The body is not JSON: {error}"))?;
    match value {
        Value::Object(members) => Ok((members, duplicates)),
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
        let (members, duplicates) = parse(body.as_bytes()).unwrap();
        let expected = json!({"a": null, "b": [true, -1, u64::MAX, 1.5, "é\n"], "c": {"d": {}}});
        assert_eq!((Value::Object(members), duplicates), (expected, vec![]));
    }

    #[test]
    fn members_written_twice_are_named_at_any_depth() {
        let (members, duplicates) = parse(br#"{"a":1,"a":2,"b":[{"c":1,"c":2}]}"#).unwrap();
        assert_eq!(duplicates, ["a", "c"]);
        assert_eq!(members["a"], 2);
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
