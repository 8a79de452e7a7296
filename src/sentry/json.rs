//! Parses JSON, and repairs what is almost JSON.
//!
//! Sentry forwards what its clients sent, so a body can hold lone surrogates, and a proxy or a relay can add bytes that
//! are not UTF-8 or numbers that only Python writes. Losing a page over that would be wrong: such a body is repaired and
//! parsed again. Well-formed bodies, which are nearly all, cost nothing extra.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::CharIndices;

use serde::de::Deserialize;
use thiserror::Error;

use super::lenient::{FromJson, Lenient};

/// A body that is not JSON, even after repair.
///
/// It gives the position and never quotes the body, because bodies contain personal data and errors are logged.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "the body is not JSON: it {what} at line {line}, column {column}",
    what = if *.ends_early { "ends too early" } else { "cannot be read" }
)]
pub struct NotJson {
    /// Whether the body ends inside a value, or is empty. Otherwise there is something that JSON does not allow.
    pub ends_early: bool,
    /// The line, from 1.
    pub line: usize,
    /// The byte in that line, from 1; 0 when the body ends before its first byte.
    pub column: usize,
}

/// Parses the body's single value as `T`; `None` when it is JSON of another type.
///
/// Members that `T` does not have are skipped without building their values, however deeply they nest. Fails when the body
/// is not JSON even after lone surrogates, broken UTF-8, `NaN`, `Infinity` and numbers beyond an `f64` were replaced.
pub(super) fn read<T: for<'de> FromJson<'de>>(body: &[u8]) -> Result<Option<T>, NotJson> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
    let error = match parse::<Lenient<T>>(&text) {
        Ok(value) => return Ok(value.0),
        Err(error) => error,
    };
    match repaired(&text) {
        Some(repaired) => parse::<Lenient<T>>(&repaired).map(|value| value.0),
        None => Err(error),
    }
}

fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, NotJson> {
    serde_json::from_str(text).map_err(|error| NotJson {
        ends_early: error.is_eof(),
        line: error.line(),
        column: error.column(),
    })
}

/// The escape of U+FFFD, which replaces what cannot be text.
const REPLACEMENT: &str = "\\ufffd";

/// Replaces everything that keeps the body from being JSON; `None` when there is nothing to replace.
///
/// Line ends stay where they are, so that a line number in the repaired body is right for the body as well.
fn repaired(text: &str) -> Option<String> {
    let mut repaired = String::with_capacity(text.len());
    let mut copied = 0;
    let mut rest = text.char_indices().peekable();
    while let Some((start, character)) = rest.next() {
        let found = match character {
            '"' => {
                copied = through_string(text, &mut rest, &mut repaired, copied);
                None
            }
            '-' | '0'..='9' | 'A'..='Z' | 'a'..='z' => token(text, start, &mut rest),
            _ => None,
        };
        if let Some((end, replacement)) = found {
            repaired.push_str(&text[copied..start]);
            repaired.push_str(replacement);
            copied = end;
        }
    }
    repaired.push_str(&text[copied..]);
    (repaired != text).then_some(repaired)
}

/// Consumes a string and replaces the lone surrogates in it. Returns the position up to which `text` has been copied.
fn through_string(text: &str, rest: &mut Peekable<CharIndices<'_>>, repaired: &mut String, mut copied: usize) -> usize {
    while let Some((start, character)) = rest.next() {
        match character {
            '"' => break,
            '\\' => {
                let Some(unit) = unit_at(text, start) else {
                    // The escaped character, such as a quotation mark or a backslash, belongs to the escape.
                    rest.next();
                    continue;
                };
                let is_pair = is_high(unit) && unit_at(text, start + ESCAPE).is_some_and(is_low);
                let end = start + if is_pair { 2 * ESCAPE } else { ESCAPE };
                while rest.next_if(|&(at, _)| at < end).is_some() {}
                if !is_pair && (is_high(unit) || is_low(unit)) {
                    repaired.push_str(&text[copied..start]);
                    repaired.push_str(REPLACEMENT);
                    copied = end;
                }
            }
            _ => {}
        }
    }
    copied
}

/// The bytes of `\uXXXX`.
const ESCAPE: usize = 6;

/// The UTF-16 unit that is written as `\uXXXX` at this place.
fn unit_at(text: &str, start: usize) -> Option<u16> {
    let digits = text.get(start..start + ESCAPE)?.strip_prefix("\\u")?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

fn is_high(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

fn is_low(unit: u16) -> bool {
    (0xdc00..0xe000).contains(&unit)
}

/// Consumes a number or a literal; returns where it ends and its replacement if it has to become `null`.
fn token(text: &str, start: usize, rest: &mut Peekable<CharIndices<'_>>) -> Option<(usize, &'static str)> {
    let mut end = start + 1;
    while let Some((at, character)) = rest.next_if(|&(_, c)| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-'))
    {
        end = at + character.len_utf8();
    }
    let token = &text[start..end];
    let is_python = matches!(token, "NaN" | "Infinity" | "-Infinity");
    // `inf` and `infinity` are numbers to Rust; they begin with a letter, JSON's numbers do not.
    let is_number = token.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit());
    let is_beyond = is_number && token.parse::<f64>().is_ok_and(f64::is_infinite);
    (is_python || is_beyond).then_some((end, "null"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sentry::lenient::members;

    #[derive(Debug, Default, PartialEq)]
    struct Note {
        text: Option<String>,
        other: Option<String>,
    }

    members!(Note { "text" => text, "other" => other });

    fn text_of(body: &[u8]) -> String {
        read::<Note>(body).unwrap().unwrap().text.unwrap()
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
        assert_eq!(read::<Note>(br#"{"text": NaN, "other": "b"}"#).unwrap().unwrap().other, Some("b".to_owned()));
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
        assert_eq!(read::<Note>(deep.as_bytes()).unwrap().unwrap().other, Some("b".to_owned()));
    }

    #[test]
    fn of_members_that_come_twice_the_last_usable_one_counts() {
        assert_eq!(text_of(br#"{"text": "a", "text": "b", "text": null, "text": []}"#), "b");
    }

    #[test]
    fn what_is_not_json_is_described_by_its_place_alone() {
        let error = read::<Note>(b"{\n  \"text\": \"hunter2\",\n  oops\n}").unwrap_err();
        assert_eq!(error.to_string(), "the body is not JSON: it cannot be read at line 3, column 3");
        assert!(read::<Note>(b"").unwrap_err().ends_early);
        assert!(read::<Note>(br#"{"text": "a"#).unwrap_err().ends_early);
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
