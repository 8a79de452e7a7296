//! JSON that is almost JSON.
//!
//! Sentry forwards what its clients sent, so a body can hold halves of UTF-16 pairs, and what stands between Sentry
//! and the bridge can add bytes that are no UTF-8 or numbers that only Python writes. None of that is worth a lost
//! page: such a body is repaired and read again. Bodies that are well-formed, which is nearly all, pay nothing for it.

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::lenient::{Lenient, Shape};
use super::repair::repaired;

/// A body that is no JSON, even after repair.
///
/// It tells the place and never what stands there, because bodies hold people's data and errors are logged.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the body is not JSON: {what} at line {line}, column {column}")]
pub struct NotJson {
    /// What is wrong there.
    pub what: Defect,
    /// The line, from 1.
    pub line: usize,
    /// The byte in that line, from 1; 0 when the body ends before its first byte.
    pub column: usize,
}

/// The ways in which a body fails to be JSON.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Defect {
    /// The body ends inside a value, or is empty.
    #[error("it ends too early")]
    TooShort,
    /// Something stands where it may not.
    #[error("it cannot be read")]
    Malformed,
}

/// Reads the body's one value as `T`; `None` when it is JSON of a shape that `T` knows nothing of.
///
/// Members that `T` does not ask for are skipped without being built and however deep they go.
///
/// # Errors
///
/// When the body is no JSON, even after lone surrogates, broken UTF-8, `NaN`, `Infinity` and numbers that no `f64`
/// holds have been replaced.
pub fn read<T: Shape>(body: &[u8]) -> Result<Option<T>, NotJson> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let error = match parse::<Lenient<T>>(body) {
        Ok(value) => return Ok(value.0),
        Err(error) => error,
    };
    match repaired(body) {
        Some(repaired) => parse::<Lenient<T>>(&repaired).map(|value| value.0),
        None => Err(error),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, NotJson> {
    serde_json::from_slice(body).map_err(|error| NotJson {
        what: if error.is_eof() { Defect::TooShort } else { Defect::Malformed },
        line: error.line(),
        column: error.column(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sentry::lenient::{Text, members};

    #[derive(Debug, Default, PartialEq)]
    struct Note {
        text: Option<Text>,
        other: Option<Text>,
    }

    members!(Note { "text" => text, "other" => other });

    fn text_of(body: &[u8]) -> String {
        read::<Note>(body).unwrap().unwrap().text.unwrap().0
    }

    #[test]
    fn lone_surrogates_become_the_replacement_character() {
        assert_eq!(text_of(br#"{"text": "a \ud83d b \udc00 c"}"#), "a \u{fffd} b \u{fffd} c");
        assert_eq!(text_of(br#"{"text": "\ud83d\ud83d\udea8"}"#), "\u{fffd}\u{1f6a8}", "a whole pair stays");
        assert_eq!(text_of(br#"{"text": "\\ud83d \ud800"}"#), "\\ud83d \u{fffd}", "an escaped backslash is no escape");
        assert_eq!(text_of(br#"{"text": "\uD83D\u0041"}"#), "\u{fffd}A");
        assert_eq!(text_of(br#"{"\ud800": 1, "text": "name too"}"#), "name too");
    }

    #[test]
    fn broken_utf_8_becomes_the_replacement_character() {
        assert_eq!(text_of(b"{\"text\": \"caf\xe9!\"}"), "caf\u{fffd}!");
    }

    #[test]
    fn numbers_that_only_python_writes_are_no_obstacle() {
        assert_eq!(text_of(br#"{"x": NaN, "y": [Infinity, -Infinity], "text": "NaN -Infinity"}"#), "NaN -Infinity");
        assert_eq!(read::<Note>(br#"{"text": 1e999, "other": "b"}"#).unwrap().unwrap().text, None);
        assert_eq!(read::<Note>(br#"{"text": NaN, "other": "b"}"#).unwrap().unwrap().other, Some(Text("b".into())));
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(text_of(b"\xef\xbb\xbf{\"text\": \"a\"}"), "a");
    }

    #[test]
    fn nul_stays_what_it_is() {
        assert_eq!(text_of(br#"{"text": "a\u0000b"}"#), "a\0b");
    }

    #[test]
    fn members_that_nobody_asks_for_may_be_as_deep_as_they_like() {
        let deep = format!(r#"{{"x": {}{}, "text": "a"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(text_of(deep.as_bytes()), "a");
        let deep = format!(r#"{{"text": {}{}, "other": "b"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read::<Note>(deep.as_bytes()).unwrap().unwrap().other, Some(Text("b".into())));
    }

    #[test]
    fn of_members_that_come_twice_the_last_usable_one_counts() {
        assert_eq!(text_of(br#"{"text": "a", "text": "b", "text": null, "text": []}"#), "b");
    }

    #[test]
    fn what_is_not_json_is_told_by_its_place_alone() {
        let error = read::<Note>(b"{\n  \"text\": \"hunter2\",\n  oops\n}").unwrap_err();
        assert_eq!(error.to_string(), "the body is not JSON: it cannot be read at line 3, column 3");
        assert_eq!(read::<Note>(b"").unwrap_err().what, Defect::TooShort);
        assert_eq!(read::<Note>(br#"{"text": "a"#).unwrap_err().what, Defect::TooShort);
        assert!(read::<Note>(br#"{"text": "a"} {}"#).is_err(), "one value and no more");
        assert!(read::<Note>(br#"{"text": NaNa}"#).is_err());
    }

    #[test]
    fn other_json_is_no_note() {
        for body in ["[]", "[1]", "null", "3", "true", "\"text\"", "{}"] {
            let note = read::<Note>(body.as_bytes()).unwrap();
            assert_eq!(note, (body == "{}").then(Note::default), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<Note>(&body);
        }

        #[test]
        fn every_text_that_is_json_is_read_as_it_is(text in any::<String>()) {
            let body = serde_json::to_vec(&serde_json::json!({ "text": text })).unwrap();
            prop_assert_eq!(text_of(&body), text);
        }

        #[test]
        fn no_mixture_of_escapes_is_refused(
            escapes in prop::collection::vec(
                prop_oneof![Just("\\ud83d"), Just("\\udea8"), Just("\\\\"), Just("\\n"), Just("\\\""), Just("u"), Just("d800")],
                0..12,
            )
        ) {
            let body = format!(r#"{{"text": "{}"}}"#, escapes.concat());
            prop_assert!(read::<Note>(body.as_bytes()).is_ok(), "{}", body);
        }
    }
}
