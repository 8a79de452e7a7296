//! Makes JSON of what is JSON but for the escapes, bytes and numbers that a strict reader refuses.

use std::iter::Peekable;
use std::str::CharIndices;

/// The escape that stands for what cannot be text: U+FFFD.
const REPLACEMENT: &str = "\\ufffd";

/// The body with everything replaced that can be; `None` when there is nothing to replace.
///
/// Line ends stay where they are, so that a line number told of the repaired body is right for the body as well.
pub(super) fn repaired(body: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(body);
    let mut repaired = String::with_capacity(text.len());
    let mut copied = 0;
    let mut rest = text.char_indices().peekable();
    while let Some((start, character)) = rest.next() {
        let found = match character {
            '"' => {
                copied = through_string(&text, &mut rest, &mut repaired, copied);
                None
            }
            '-' | '0'..='9' | 'A'..='Z' | 'a'..='z' => token(&text, start, &mut rest),
            _ => None,
        };
        if let Some((end, replacement)) = found {
            repaired.push_str(&text[copied..start]);
            repaired.push_str(replacement);
            copied = end;
        }
    }
    repaired.push_str(&text[copied..]);
    (repaired.as_bytes() != body).then(|| repaired.into_bytes())
}

/// Walks to the end of a string and replaces the escapes in it that stand for half a UTF-16 pair. Returns up to where
/// `text` has been copied.
fn through_string(text: &str, rest: &mut Peekable<CharIndices<'_>>, repaired: &mut String, mut copied: usize) -> usize {
    while let Some((start, character)) = rest.next() {
        match character {
            '"' => break,
            '\\' => {
                let Some(unit) = unit_at(text, start) else {
                    // Whatever was escaped, a quotation mark or a backslash above all, belongs to the escape.
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

/// Walks over a number or a literal; tells where it ends when it has to become `null`.
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
