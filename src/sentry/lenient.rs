//! Values that may have another type than expected.
//!
//! Sentry's bodies changed over ten years, and relays, proxies and tests write their own. So nothing here fails: a value
//! of a type that cannot be used is skipped and read as `None`. Only text that is not JSON ends the parsing.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::alert::SentryId;

/// How a type is made from each type of JSON value; value types that an implementation leaves out make `None`.
pub(super) trait FromJson<'de>: Sized {
    /// How many of them are kept of an array.
    const MOST_IN_LIST: usize = MAX_ENTRIES;

    /// From a string; borrowed from the body unless it holds escapes.
    #[must_use]
    fn from_text(_: Cow<'de, str>) -> Option<Self> {
        None
    }

    /// From `true` or `false`.
    #[must_use]
    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    /// From a number without a fraction.
    #[must_use]
    fn from_integer(_: i128) -> Option<Self> {
        None
    }

    /// From any other number, which is finite.
    #[must_use]
    fn from_float(_: f64) -> Option<Self> {
        None
    }

    /// From an array. Fails only when `list` does.
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// From an object. Fails only when `object` does.
    fn from_object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// A `T`, if the value was one. It is its own visitor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<'de, T: FromJson<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self(None))
    }
}

impl<'de, T: FromJson<'de>> Visitor<'de> for Lenient<T> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Self(T::from_bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Self(T::from_integer(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Self(T::from_integer(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Self(T::from_float(value)))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Self(T::from_text(Cow::Borrowed(value))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Self(T::from_text(Cow::Owned(value.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::from_list(list).map(Self)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        T::from_object(object).map(Self)
    }
}

/// The name of a member; borrowed from the body unless it holds escapes.
#[derive(Deserialize)]
pub(super) struct Name<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// An object whose members are read one at a time, so that several types can share one object.
pub(super) trait ReadMembers<'de>: Default {
    /// Reads the value of the member `name` and returns `true`, or returns `false` when it is not a member of the type.
    fn read_member<A: MapAccess<'de>>(&mut self, name: &str, object: &mut A) -> Result<bool, A::Error>;

    /// Reads a whole object. Members that the type does not have are skipped.
    fn read<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut read = Self::default();
        while let Some(Name(name)) = object.next_key()? {
            if !read.read_member(&name, &mut object)? {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(read)
    }
}

impl<'de, T: ReadMembers<'de>> FromJson<'de> for Box<T> {
    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        Ok(Some(Box::new(T::read(object)?)))
    }
}

/// Implements [`ReadMembers`] for a struct of `Option` fields: `read_members!(Note { "text" | "body" => text, ..more })`, where
/// `more` is a field that has further members of the same object.
///
/// Members may be missing, come twice or have another type: the last usable one counts, so that `null` under a newer name
/// does not replace the value under an older one.
macro_rules! read_members {
    ($object:ty { $($name:literal $(| $other:literal)* => $field:ident),+ $(, ..$part:ident)* $(,)? }) => {
        impl<'de> $crate::sentry::lenient::ReadMembers<'de> for $object {
            #[inline]
            fn read_member<A: serde::de::MapAccess<'de>>(
                &mut self,
                name: &str,
                object: &mut A,
            ) -> Result<bool, A::Error> {
                use $crate::sentry::lenient::Lenient;

                match name {
                    $($name $(| $other)* => {
                        if let Lenient(Some(value)) = object.next_value()? {
                            self.$field = Some(value);
                        }
                    })+
                    _ => return Ok(false $(|| self.$part.read_member(name, object)?)*),
                }
                Ok(true)
            }
        }
    };
}
pub(super) use read_members;

/// Implements [`ReadMembers`], as [`read_members`] does, and [`FromJson`]. After the members may follow how many of them are
/// kept of an array: `members!(Note { "text" => text }, at most 7)`.
macro_rules! members {
    ($object:ty { $($members:tt)+ } $(, at most $most:expr)?) => {
        $crate::sentry::lenient::read_members!($object { $($members)+ });

        impl<'de> $crate::sentry::lenient::FromJson<'de> for $object {
            $(const MOST_IN_LIST: usize = $most;)?

            fn from_object<A: serde::de::MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
                <Self as $crate::sentry::lenient::ReadMembers<'de>>::read(object).map(Some)
            }
        }
    };
}
pub(super) use members;

/// Text, or a number or a truth value as text.
impl<'de> FromJson<'de> for String {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(text.into_owned())
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value.to_string())
    }

    fn from_integer(value: i128) -> Option<Self> {
        Some(value.to_string())
    }

    fn from_float(value: f64) -> Option<Self> {
        Some(value.to_string())
    }
}

/// The text, unless it is blank.
pub(super) fn non_blank(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// The same, but only text that is not blank; borrowed from the body where it can be.
impl<'de> FromJson<'de> for Cow<'de, str> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(text).filter(|text| !text.trim().is_empty())
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value.to_string().into())
    }

    fn from_integer(value: i128) -> Option<Self> {
        Some(value.to_string().into())
    }

    fn from_float(value: f64) -> Option<Self> {
        Some(value.to_string().into())
    }
}

/// An id that can name an incident: text in most bodies, a whole number in some.
impl<'de> FromJson<'de> for SentryId {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        // Without a letter or digit it would be a blank incident key.
        Self::new(&text).filter(|id| id.as_str().contains(char::is_alphanumeric))
    }

    fn from_integer(value: i128) -> Option<Self> {
        Self::from_text(value.to_string().into())
    }

    fn from_float(value: f64) -> Option<Self> {
        if value.fract() == 0.0 { Self::from_text(value.to_string().into()) } else { None }
    }
}

/// A number without a fraction, or text that is one.
impl<'de> FromJson<'de> for i128 {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn from_integer(value: i128) -> Option<Self> {
        Some(value)
    }
}

/// `true` or `false`.
impl FromJson<'_> for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

/// Any value but `null`, parsed as a `T` if it is one. `Any<()>` only records that there is a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Any<T>(pub(super) Option<T>);

impl<'de, T: FromJson<'de>> FromJson<'de> for Any<T> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(T::from_text(text)))
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(Self(T::from_bool(value)))
    }

    fn from_integer(value: i128) -> Option<Self> {
        Some(Self(T::from_integer(value)))
    }

    fn from_float(value: f64) -> Option<Self> {
        Some(Self(T::from_float(value)))
    }

    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        T::from_list(list).map(|value| Some(Self(value)))
    }

    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        T::from_object(object).map(|value| Some(Self(value)))
    }
}

impl FromJson<'_> for () {}

/// The seconds from 1970 to the year 10000; a larger number is in another unit, or not a time.
const SECONDS: Range<i64> = 0..253_402_300_800;

/// A time: seconds since 1970 as a number or as text, or ISO 8601, in UTC where it has no offset.
impl<'de> FromJson<'de> for DateTime<Utc> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        let text = text.trim();
        if let Ok(seconds) = text.parse() {
            return Self::from_float(seconds);
        }
        let utc = DateTime::parse_from_rfc3339(text)
            .map(|time| time.to_utc())
            .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc()));
        utc.ok().filter(|time| SECONDS.contains(&time.timestamp()))
    }

    #[expect(clippy::cast_precision_loss, reason = "what an f64 does not hold exactly is out of range")]
    fn from_integer(value: i128) -> Option<Self> {
        Self::from_float(value as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "an f64 holds both ends of the range exactly")]
    fn from_float(seconds: f64) -> Option<Self> {
        // Within the range microseconds are below 2^58, and those of this century are exact in an f64.
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        let micros =
            (SECONDS.start as f64..SECONDS.end as f64).contains(&seconds).then(|| (seconds * 1e6).round() as i64)?;
        DateTime::from_timestamp_micros(micros)
    }
}

/// How many elements of an array are kept unless a type says otherwise.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// An array without the elements that are not a `T`; also an object that has the array in `values`.
///
/// If there are more than [`MOST_IN_LIST`](FromJson::MOST_IN_LIST) elements, the last of them are kept: a body of 16 MiB can
/// contain a million elements of 13 bytes, each of which takes hundreds of bytes as a `T`. Sentry sends far fewer, and the
/// last elements (the innermost call, the exception raised last) are the most informative.
impl<'de, T: FromJson<'de>> FromJson<'de> for Vec<T> {
    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        last_elements(list, T::MOST_IN_LIST).map(Some)
    }

    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        values_of(object)
    }
}

/// Returns the array that an object has in its member `values`.
pub(super) fn values_of<'de, T: FromJson<'de>, A: MapAccess<'de>>(mut object: A) -> Result<Option<T>, A::Error> {
    let mut found = None;
    while let Some(Name(name)) = object.next_key()? {
        if name == "values" {
            let Lenient(values) = object.next_value::<Lenient<Array<T>>>()?;
            found = values.map(|Array(values)| values).or(found);
        } else {
            object.next_value::<IgnoredAny>()?;
        }
    }
    Ok(found)
}

/// Accepts only an array, so that `values` is not searched for another `values`.
struct Array<T>(T);

impl<'de, T: FromJson<'de>> FromJson<'de> for Array<T> {
    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        T::from_list(list).map(|values| values.map(Self))
    }
}

/// Returns the last `most` elements that are a `T`, holding at most twice as many at a time.
fn last_elements<'de, T: FromJson<'de>, A: SeqAccess<'de>>(mut list: A, most: usize) -> Result<Vec<T>, A::Error> {
    let mut elements = Vec::new();
    while let Some(Lenient(element)) = list.next_element()? {
        elements.extend(element);
        if elements.len() >= 2 * most {
            elements.drain(..elements.len() - most);
        }
    }
    elements.drain(..elements.len().saturating_sub(most));
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_without_end_the_last_entries_are_kept() {
        #[derive(Debug, PartialEq)]
        struct OneOfThree(i128);

        impl FromJson<'_> for OneOfThree {
            const MOST_IN_LIST: usize = 3;

            fn from_integer(value: i128) -> Option<Self> {
                Some(Self(value))
            }
        }

        for length in [0_u64, 2, 3, 4, 5, 6, 7, 100] {
            let numbers: Vec<u64> = (0..length).collect();
            let last: Vec<_> = (length.saturating_sub(3)..length).map(|number| OneOfThree(number.into())).collect();
            for text in [format!("{numbers:?}"), format!("{{\"values\": {numbers:?}}}")] {
                let Lenient(read) = serde_json::from_str::<Lenient<Vec<OneOfThree>>>(&text).unwrap();
                assert_eq!(read.as_ref(), Some(&last), "{text}");
            }
        }
    }
}
