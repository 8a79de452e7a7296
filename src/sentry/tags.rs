//! Tags as Sentry, relays and tests write them, and the settings of an alert, which are written in the same way.

use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::lenient::{FromJson, Lenient, MAX_ENTRIES, Name, ReadMembers, members, read_members};

/// Names and values in the body's order. Sentry sends pairs; `{"key": …, "value": …}` objects and one object of names
/// and values are read as well. Tags without a name or without a value that is text are left out, and so are all after the
/// first 10,000, which is more than an event can have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tags(pub(super) Vec<(String, String)>);

impl Tags {
    /// The value of the last tag of this name that is not blank.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(tag, value)| tag == name && !value.trim().is_empty())
            .map(|(_, value)| value.as_str())
    }
}

impl<'de> FromJson<'de> for Tags {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut tags = Vec::new();
        while let Some(Lenient(tag)) = list.next_element::<Lenient<Tag>>()? {
            if tags.len() < MAX_ENTRIES {
                tags.extend(tag.and_then(Tag::complete));
            }
        }
        Ok(Some(Self(tags)))
    }

    fn from_object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut tags = Vec::new();
        while let Some((Name(name), Lenient(value))) = object.next_entry()? {
            if tags.len() < MAX_ENTRIES {
                tags.extend(Tag { key: Some(name.into_owned()), value }.complete());
            }
        }
        Ok(Some(Self(tags)))
    }
}

/// One tag, a pair or an object.
#[derive(Default)]
struct Tag {
    key: Option<String>,
    value: Option<String>,
}

impl Tag {
    fn complete(self) -> Option<(String, String)> {
        let (name, value) = (self.key?, self.value?);
        (!name.trim().is_empty()).then_some((name, value))
    }
}

read_members!(Tag { "key" | "name" => key, "value" => value });

impl<'de> FromJson<'de> for Tag {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let key = list.next_element::<Lenient<String>>()?.and_then(|key| key.0);
        let value = list.next_element::<Lenient<String>>()?.and_then(|value| value.0);
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(Self { key, value }))
    }

    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        Self::read(object).map(Some)
    }
}

/// An alert, or one of its actions, with the settings that a user entered in the form of the integration's action. They are
/// written as tags are.
#[derive(Debug, Default)]
pub(super) struct ActionSettings {
    pub(super) title: Option<String>,
    pub(super) settings: Option<Tags>,
}

members!(ActionSettings { "title" => title, "settings" => settings });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentry::json;

    fn tags(body: &str) -> Vec<(String, String)> {
        json::read::<Tags>(body.as_bytes()).unwrap().unwrap().0
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn tags_are_read_in_each_of_their_three_forms() {
        let expected = [pair("environment", "production"), pair("n", "1")];
        assert_eq!(tags(r#"[["environment", "production"], ["n", 1]]"#), expected);
        assert_eq!(tags(r#"[{"key": "environment", "value": "production"}, {"value": 1, "key": "n"}]"#), expected);
        assert_eq!(tags(r#"{"environment": "production", "n": 1}"#), expected);
    }

    #[test]
    fn entries_that_are_no_tags_are_left_out() {
        let odd = r#"[null, [], [[]], ["short"], ["null", null], [null, "x"], ["list", []], ["object", {}], "text", 3,
            true, {}, {"key": "k"}, {"value": "v"}, {"metadata": [{}]}, ["", "nameless"], ["long", "a", "b", {}],
            [7, true], ["float", 1.5]]"#;
        assert_eq!(tags(odd), [pair("long", "a"), pair("7", "true"), pair("float", "1.5")]);
        assert_eq!(tags(r#"{"a": null, "b": [], "c": "d"}"#), [pair("c", "d")]);
    }

    #[test]
    fn the_last_of_tags_with_one_name_counts() {
        let tags = json::read::<Tags>(br#"[["a", "1"], ["a", "2"], ["a", " "]]"#).unwrap().unwrap();
        assert_eq!(tags.get("a"), Some("2"));
        assert_eq!(tags.get("b"), None);
    }
}
