//! From bytes to the members of one JSON object, noticing members that are written twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A body that is one JSON object.
#[derive(Debug, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) members: Map<String, Value>,
    /// Names that stand twice in one object, at any depth; the last value won.
    pub(crate) duplicates: Vec<String>,
}

/// Reads `body`, or says in one sentence why that cannot be done.
pub(crate) fn parse(body: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("The body is not UTF-8: {error}"))?;
    let mut duplicates = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Seed(&mut duplicates)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| format!("The body is not JSON: {error}"))?;
    match value {
        Value::Object(members) => Ok(Parsed { members, duplicates }),
        _ => Err("The body is JSON, but not an object".to_owned()),
    }
}

struct Seed<'a>(&'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
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
        while let Some(element) = access.next_element_seed(Seed(self.0))? {
            elements.push(element);
        }
        Ok(elements.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(Seed(self.0))?;
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
        let parsed = parse(body.as_bytes()).unwrap();
        let expected = json!({"a": null, "b": [true, -1, u64::MAX, 1.5, "é\n"], "c": {"d": {}}});
        assert_eq!((Value::Object(parsed.members), parsed.duplicates), (expected, vec![]));
    }

    #[test]
    fn members_written_twice_are_named_at_any_depth() {
        let parsed = parse(br#"{"a":1,"a":2,"b":[{"c":1,"c":2}]}"#).unwrap();
        assert_eq!(parsed.duplicates, ["a", "c"]);
        assert_eq!(parsed.members["a"], 2);
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
