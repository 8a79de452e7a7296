//! Values that may have another type than expected.
//!
//! Sentry's bodies changed over ten years, and relays, proxies and tests write their own. So nothing here fails: a value
//! of a type that cannot be used is skipped and read as `None`. Only text that is not JSON ends the parsing.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::alert::IssueId;

/// How a type is made from each type of JSON value; value types that an implementation leaves out make `None`.
pub(super) trait Shape<'de>: Sized {
    /// From a string; borrowed from the body unless it holds escapes.
    #[must_use]
    fn of_text(_: Cow<'de, str>) -> Option<Self> {
        None
    }

    /// From `true` or `false`.
    #[must_use]
    fn of_bool(_: bool) -> Option<Self> {
        None
    }

    /// From a number without a fraction.
    #[must_use]
    fn of_integer(_: i128) -> Option<Self> {
        None
    }

    /// From any other number, which is finite.
    #[must_use]
    fn of_float(_: f64) -> Option<Self> {
        None
    }

    /// From an array. Fails only when `list` does.
    fn of_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// From an object. Fails only when `object` does.
    fn of_object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// A `T`, if the value was one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<'de, T: Shape<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyShape(PhantomData)).map(Self)
    }
}

struct AnyShape<T>(PhantomData<T>);

impl<'de, T: Shape<'de>> Visitor<'de> for AnyShape<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(T::of_bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(T::of_integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(T::of_integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(T::of_float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(T::of_text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(T::of_text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::of_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        T::of_object(object)
    }
}

/// The name of a member; borrowed from the body unless it holds escapes.
pub(super) struct Name<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AnyName).map(Self)
    }
}

struct AnyName;

impl<'de> Visitor<'de> for AnyName {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// An object whose members are read one at a time, so that several types can share one object.
pub(super) trait Members<'de>: Default {
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

impl<'de, T: Members<'de>> Shape<'de> for Box<T> {
    fn of_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        Ok(Some(Box::new(T::read(object)?)))
    }
}

/// Implements [`Members`] and [`Shape`] for a struct of `Option` fields: `members!(Note { "text" | "body" => text })`.
///
/// Members may be missing, come twice or have another type: the last usable one counts, so that `null` under a newer name
/// does not replace the value under an older one.
macro_rules! members {
    ($object:ty { $($name:literal $(| $other:literal)* => $field:ident),+ $(,)? }) => {
        impl<'de> $crate::sentry::lenient::Members<'de> for $object {
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
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }

        impl<'de> $crate::sentry::lenient::Shape<'de> for $object {
            fn of_object<A: serde::de::MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
                <Self as $crate::sentry::lenient::Members<'de>>::read(object).map(Some)
            }
        }
    };
}
pub(super) use members;

/// Text, or a number or a truth value as text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Text(pub(super) String);

impl<'de> Shape<'de> for Text {
    fn of_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(text.into_owned()))
    }

    fn of_bool(value: bool) -> Option<Self> {
        Some(Self(value.to_string()))
    }

    fn of_integer(value: i128) -> Option<Self> {
        Some(Self(value.to_string()))
    }

    fn of_float(value: f64) -> Option<Self> {
        Some(Self(value.to_string()))
    }
}

/// The text, unless it is blank.
pub(super) fn non_blank(text: Option<Text>) -> Option<String> {
    text.map(|Text(text)| text).filter(|text| !text.trim().is_empty())
}

/// An id that can name an incident: text in most bodies, a whole number in some.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Id(pub(super) IssueId);

impl<'de> Shape<'de> for Id {
    fn of_text(text: Cow<'de, str>) -> Option<Self> {
        // Without a letter or digit it would be a blank incident key.
        IssueId::new(&text).filter(|id| id.as_str().contains(char::is_alphanumeric)).map(Self)
    }

    fn of_integer(value: i128) -> Option<Self> {
        Self::of_text(value.to_string().into())
    }

    fn of_float(value: f64) -> Option<Self> {
        if value.fract() == 0.0 { Self::of_text(value.to_string().into()) } else { None }
    }
}

/// A number without a fraction, or text that is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Integer(pub(super) i128);

impl<'de> Shape<'de> for Integer {
    fn of_text(text: Cow<'de, str>) -> Option<Self> {
        text.trim().parse().ok().map(Self)
    }

    fn of_integer(value: i128) -> Option<Self> {
        Some(Self(value))
    }
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flag(pub(super) bool);

impl Shape<'_> for Flag {
    fn of_bool(value: bool) -> Option<Self> {
        Some(Self(value))
    }
}

/// Any value but `null`, parsed as a `T` if it is one. `Any<()>` only records that there is a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Any<T>(pub(super) Option<T>);

impl<'de, T: Shape<'de>> Shape<'de> for Any<T> {
    fn of_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(T::of_text(text)))
    }

    fn of_bool(value: bool) -> Option<Self> {
        Some(Self(T::of_bool(value)))
    }

    fn of_integer(value: i128) -> Option<Self> {
        Some(Self(T::of_integer(value)))
    }

    fn of_float(value: f64) -> Option<Self> {
        Some(Self(T::of_float(value)))
    }

    fn of_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        T::of_list(list).map(|value| Some(Self(value)))
    }

    fn of_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        T::of_object(object).map(|value| Some(Self(value)))
    }
}

impl Shape<'_> for () {}

/// A time: seconds since 1970 as a number or as text, or ISO 8601, in UTC where it has no offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment(pub(super) DateTime<Utc>);

impl Moment {
    /// Seconds up to the year 10000; a larger number is in another unit, or not a time.
    const SECONDS: std::ops::Range<f64> = 0.0..253_402_300_800.0;

    fn of_seconds(seconds: f64) -> Option<Self> {
        // Within the range microseconds are below 2^58, and those of this century are exact in an f64.
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        let micros = Self::SECONDS.contains(&seconds).then(|| (seconds * 1e6).round() as i64)?;
        DateTime::from_timestamp_micros(micros).map(Self)
    }
}

impl<'de> Shape<'de> for Moment {
    fn of_text(text: Cow<'de, str>) -> Option<Self> {
        let text = text.trim();
        if let Ok(seconds) = text.parse() {
            return Self::of_seconds(seconds);
        }
        let utc = DateTime::parse_from_rfc3339(text)
            .map(|moment| moment.to_utc())
            .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|moment| moment.and_utc()));
        utc.ok().filter(|moment| (0..253_402_300_800).contains(&moment.timestamp())).map(Self)
    }

    #[expect(clippy::cast_precision_loss, reason = "what an f64 does not hold exactly is out of range")]
    fn of_integer(value: i128) -> Option<Self> {
        Self::of_seconds(value as f64)
    }

    fn of_float(value: f64) -> Option<Self> {
        Self::of_seconds(value)
    }
}

/// How many elements of an array are kept unless a type says otherwise.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// An array without the elements that are not a `T`; also an object that has the array in `values`.
///
/// If there are more than `MOST` elements, the last `MOST` are kept: a body of 16 MiB can contain a million elements of
/// 13 bytes, each of which takes hundreds of bytes as a `T`. Sentry sends far fewer, and the last elements (the innermost
/// call, the exception raised last) are the most informative.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List<T, const MOST: usize = MAX_ENTRIES>(pub(super) Vec<T>);

impl<'de, T: Shape<'de>, const MOST: usize> Shape<'de> for List<T, MOST> {
    fn of_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        last_elements(list, MOST).map(|elements| Some(Self(elements)))
    }

    fn of_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        values_of(object)
    }
}

/// Returns the array that an object has in its member `values`.
pub(super) fn values_of<'de, T: Shape<'de>, A: MapAccess<'de>>(mut object: A) -> Result<Option<T>, A::Error> {
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

impl<'de, T: Shape<'de>> Shape<'de> for Array<T> {
    fn of_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        T::of_list(list).map(|values| values.map(Self))
    }
}

/// Returns the last `most` elements that are a `T`, holding at most twice as many at a time.
fn last_elements<'de, T: Shape<'de>, A: SeqAccess<'de>>(mut list: A, most: usize) -> Result<Vec<T>, A::Error> {
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
        for length in [0_u64, 2, 3, 4, 5, 6, 7, 100] {
            let numbers: Vec<u64> = (0..length).collect();
            let last: Vec<_> = (length.saturating_sub(3)..length).map(|number| Integer(number.into())).collect();
            for text in [format!("{numbers:?}"), format!("{{\"values\": {numbers:?}}}")] {
                let Lenient(read) = serde_json::from_str::<Lenient<List<Integer, 3>>>(&text).unwrap();
                assert_eq!(read, Some(List(last.clone())), "{text}");
            }
        }
    }
}
