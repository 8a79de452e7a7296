//! Encodes and decodes texts for PostgreSQL, which stores every character except NUL; Sentry may well send one.
//!
//! A NUL becomes SUBSTITUTE (U+001A) and `0`, a SUBSTITUTE itself becomes two of them. So every text is read as it was
//! written, and nearly every text is stored unchanged.

use std::borrow::Cow;

const SUBSTITUTE: char = '\u{1a}';

/// Encodes a text as it is stored.
pub(super) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', SUBSTITUTE]) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => stored.extend([SUBSTITUTE, '0']),
            SUBSTITUTE => stored.extend([SUBSTITUTE, SUBSTITUTE]),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

/// Decodes a stored text.
pub(super) fn restored(stored: &str) -> Cow<'_, str> {
    if !stored.contains(SUBSTITUTE) {
        return Cow::Borrowed(stored);
    }
    let mut text = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        match (character, character == SUBSTITUTE) {
            (other, false) => text.push(other),
            // Any other sequence was not written by the bridge.
            (_, true) => match characters.next() {
                Some('0') => text.push('\0'),
                other => text.push(other.unwrap_or(SUBSTITUTE)),
            },
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_was_written_and_never_stored_with_a_nul() {
        for text in ["", "42", "a\0b", "\0", "\u{1a}", "\u{1a}0", "\0\u{1a}0\0", "ä\u{1a}\u{1a}0"] {
            let stored = stored(text).into_owned();
            assert!(!stored.contains('\0'), "{stored:?}");
            assert_eq!(restored(&stored), text);
        }
        assert_eq!(stored("a\0b"), "a\u{1a}0b");
        assert!(matches!(stored("as it is"), Cow::Borrowed(_)));
    }
}
