//! Values of any shape where one shape is hoped for.
//!
//! Sentry's bodies changed over ten years, and relays, proxies and tests write their own. So nothing here fails: a
//! value of a shape that cannot be used is skipped, and whoever asked for it gets `None`. Only text that is no JSON at
//! all ends the reading.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How a type is made of each kind of JSON value; whatever it leaves out makes `None`.
pub trait Shape: Sized {
    /// Of a string.
    #[must_use]
    fn of_text(_: &str) -> Option<Self> {
        None
    }

    /// Of `true` or `false`.
    #[must_use]
    fn of_bool(_: bool) -> Option<Self> {
        None
    }

    /// Of a number without fraction.
    #[must_use]
    fn of_integer(_: i128) -> Option<Self> {
        None
    }

    /// Of any other number, which is finite.
    #[must_use]
    fn of_float(_: f64) -> Option<Self> {
        None
    }

    /// Of an array.
    ///
    /// # Errors
    ///
    /// Only those of `list`.
    fn of_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// Of an object.
    ///
    /// # Errors
    ///
    /// Only those of `object`.
    fn of_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// A `T`, if the value was one.
#[derive(Clone, Debug, PartialEq)]
pub struct Lenient<T>(pub Option<T>);

impl<'de, T: Shape> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyShape(PhantomData)).map(Self)
    }
}

struct AnyShape<T>(PhantomData<T>);

impl<'de, T: Shape> Visitor<'de> for AnyShape<T> {
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

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(T::of_text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::of_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        T::of_object(object)
    }
}

/// The name of a member; borrowed from the body unless it holds escapes.
pub struct Name<'de>(pub Cow<'de, str>);

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

/// Makes a struct of `Option` fields the [`Shape`] of an object: `members!(Note { "text" | "body" => text })`.
///
/// Members may be missing, come twice or have another shape: the last usable one counts, so that `null` under a newer
/// name does not undo what stands under an older one.
macro_rules! members {
    ($object:ty { $($name:literal $(| $other:literal)* => $field:ident),+ $(,)? }) => {
        impl $crate::sentry::lenient::Shape for $object {
            fn of_object<'de, A: serde::de::MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
                use $crate::sentry::lenient::{Lenient, Name};

                let mut read = Self::default();
                while let Some(Name(name)) = object.next_key()? {
                    match name.as_ref() {
                        $($name $(| $other)* => {
                            let Lenient(value) = object.next_value()?;
                            read.$field = value.or(read.$field);
                        })+
                        _ => {
                            object.next_value::<serde::de::IgnoredAny>()?;
                        }
                    }
                }
                Ok(Some(read))
            }
        }
    };
}
pub(super) use members;

/// Text, or a number or a truth value written as text.
#[derive(Clone, Debug, PartialEq)]
pub struct Text(pub String);

impl Shape for Text {
    fn of_text(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
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

/// A number without fraction, or text that is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Integer(pub i128);

impl Shape for Integer {
    fn of_text(text: &str) -> Option<Self> {
        text.trim().parse().ok().map(Self)
    }

    fn of_integer(value: i128) -> Option<Self> {
        Some(Self(value))
    }
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flag(pub bool);

impl Shape for Flag {
    fn of_bool(value: bool) -> Option<Self> {
        Some(Self(value))
    }
}

/// Any value but `null`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Present;

impl Shape for Present {
    fn of_text(_: &str) -> Option<Self> {
        Some(Self)
    }

    fn of_bool(_: bool) -> Option<Self> {
        Some(Self)
    }

    fn of_integer(_: i128) -> Option<Self> {
        Some(Self)
    }

    fn of_float(_: f64) -> Option<Self> {
        Some(Self)
    }

    fn of_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(Self))
    }

    fn of_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Some(Self))
    }
}

/// A moment: seconds since 1970 as a number or as text, or an ISO 8601 time, in UTC where it names no zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment(pub DateTime<Utc>);

impl Moment {
    /// Seconds up to the year 10000; what lies beyond is in other units or no time at all.
    const SECONDS: std::ops::Range<f64> = 0.0..253_402_300_800.0;

    fn of_seconds(seconds: f64) -> Option<Self> {
        // Within the range microseconds are below 2^58, and those of this century are exact in an f64.
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        let micros = Self::SECONDS.contains(&seconds).then(|| (seconds * 1e6).round() as i64)?;
        DateTime::from_timestamp_micros(micros).map(Self)
    }
}

impl Shape for Moment {
    fn of_text(text: &str) -> Option<Self> {
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

/// How many entries of an array are read where nothing else is said.
pub const MAX_ENTRIES: usize = 10_000;

/// An array without the elements that are no `T`; also an object that keeps the array in `values`.
///
/// Of more than `MOST` elements the last `MOST` are kept: a body of 16 MiB can hold a million elements of 13 bytes, each of
/// which takes hundreds as a `T`. Sentry sends far fewer, and what it lists last (the innermost call, the exception raised
/// last) says most.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T, const MOST: usize = MAX_ENTRIES>(pub Vec<T>);

impl<T: Shape, const MOST: usize> Shape for List<T, MOST> {
    fn of_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        last_elements(list, MOST).map(|elements| Some(Self(elements)))
    }

    fn of_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut elements = None;
        while let Some(Name(name)) = object.next_key()? {
            if name == "values" {
                let Lenient(values) = object.next_value::<Lenient<Array<T, MOST>>>()?;
                elements = values.map(|Array(values)| values).or(elements);
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(elements.map(Self))
    }
}

/// An array and nothing else, which keeps [`List`] from looking for `values` in `values`.
struct Array<T, const MOST: usize>(Vec<T>);

impl<T: Shape, const MOST: usize> Shape for Array<T, MOST> {
    fn of_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        last_elements(list, MOST).map(|elements| Some(Self(elements)))
    }
}

/// The last `most` elements that are a `T`, with at most twice as many held meanwhile.
fn last_elements<'de, T: Shape, A: SeqAccess<'de>>(mut list: A, most: usize) -> Result<Vec<T>, A::Error> {
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
