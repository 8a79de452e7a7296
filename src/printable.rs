//! Makes untrusted text safe for terminals and for logs. Pure.
//!
//! Control characters (C0, DEL and C1) can control a terminal, those of Unicode's bidirectional algorithm make text look
//! different from what it is, and a line end can forge a line of a log or of a table. None of them is printed: each is
//! shown as an escape. Everything that is written to standard output, standard error or the log goes through this module.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Whether a character is never printed as it is. That holds for the characters of [`char::is_control`] (including line
/// ends and tabs), Unicode's `Bidi_Control`, its separators of lines and paragraphs, and invisible characters that no
/// script needs.
#[must_use]
pub fn is_unsafe(character: char) -> bool {
    matches!(
        character,
        '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    ) || character.is_control()
}

/// Escapes a text that becomes part of one line: line ends and tabs are escaped as well, as `\n`, other unsafe characters
/// as `\u{1b}`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe, |character, out| out.extend(character.escape_default()))
}

/// Escapes a text of several lines: line ends and tabs stay, everything else is escaped as in a [`line()`].
#[must_use]
pub fn block(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe_in_block, |character, out| out.extend(character.escape_default()))
}

/// Escapes a JSON text, which stays JSON with the same meaning: unsafe characters are escaped as `\u001b`. Line ends and
/// tabs stay, because in JSON they occur only between values.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe_in_block, |character, out| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

fn is_unsafe_in_block(character: char) -> bool {
    !matches!(character, '\n' | '\t') && is_unsafe(character)
}

fn escaped(text: &str, is_unsafe: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    // Nearly all texts are fine, and are not copied.
    let Some(first) = text.find(&is_unsafe) else { return Cow::Borrowed(text) };
    let (before, rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(before);
    for character in rest.chars() {
        if is_unsafe(character) {
            escape(character, &mut out);
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Writes to a terminal, or to what may be one, and escapes everything unsafe, even if the caller forgot to.
///
/// Each text has to be written whole, as `write!` does; bytes that are not UTF-8 are replaced.
#[derive(Debug)]
pub struct Printer<W>(pub W);

impl<W: Write> Write for Printer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(block(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_command_a_terminal_is_shown_as_an_escape() {
        let text = "a\u{1b}[2J\0\u{9b}\u{7f}\r\n\tb\u{202e}c\u{2066}d\u{200f}e\u{61c}\u{2028}f";
        let shown = "a\\u{1b}[2J\\u{0}\\u{9b}\\u{7f}\\r\\n\\tb\\u{202e}c\\u{2066}d\\u{200f}e\\u{61c}\\u{2028}f";
        assert_eq!(line(text), shown);
        assert_eq!(block(text), shown.replace("\\n\\t", "\n\t"));
    }

    #[test]
    fn what_people_write_stays() {
        for text in ["", "Disk full", "naïve – 文字 \"x\" 'y' \\n", "עברית العربية", "👩\u{200d}👩\u{200d}👧 🇩🇪"]
        {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        assert_eq!(block("a\n\tb\n"), "a\n\tb\n");
    }

    #[test]
    fn a_printer_lets_nothing_through() {
        let mut printer = Printer(Vec::new());
        let (escape, turn) = ('\u{1b}', '\u{202e}');
        write!(printer, "a{escape}|ü{turn}\n7").unwrap();
        printer.write_all(b"\xff").unwrap();
        assert_eq!(String::from_utf8(printer.0).unwrap(), "a\\u{1b}|ü\\u{202e}\n7\u{fffd}");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left_in_any_text(text: String) {
            prop_assert!(!line(&text).chars().any(is_unsafe));
            prop_assert!(!block(&text).chars().any(is_unsafe_in_block));
        }

        #[test]
        fn json_says_the_same_and_holds_nothing_unsafe(texts: Vec<String>) {
            for written in [serde_json::to_string(&texts).unwrap(), serde_json::to_string_pretty(&texts).unwrap()] {
                let safe = json(&written);
                prop_assert!(!safe.chars().any(is_unsafe_in_block));
                prop_assert_eq!(&serde_json::from_str::<Vec<String>>(&safe).unwrap(), &texts);
            }
        }
    }
}
