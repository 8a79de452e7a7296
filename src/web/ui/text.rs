//! Numbers and times as text, and external texts made harmless. Pure.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

pub(super) use crate::monitor::headline::rough;
use crate::pagerduty::ServiceKey;
use crate::printable::is_unsafe;

/// What replaces a character that is not shown.
const REPLACEMENT: char = '\u{fffd}';

/// Replaces characters that could change how the rest of the page is read: control characters, and those that change the
/// direction of writing. Line ends and tabs stay.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_harmful) {
        Cow::Owned(text.chars().map(|character| if is_harmful(character) { REPLACEMENT } else { character }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// A text of an event, harmless and with the event's service key masked.
pub(super) fn shown<'a>(text: &'a str, key: &ServiceKey) -> Cow<'a, str> {
    if text.contains(key.expose()) {
        Cow::Owned(harmless(&key.mask(text.to_owned())).into_owned())
    } else {
        harmless(text)
    }
}

fn is_harmful(character: char) -> bool {
    !matches!(character, '\n' | '\t') && is_unsafe(character)
}

/// A number with commas between its thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and its noun.
pub(super) fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { more })
}

/// A duration in its two largest units; a negative one counts as zero.
pub(super) fn span(length: TimeDelta) -> String {
    let milliseconds = length.num_milliseconds().max(0);
    let (seconds, minutes, hours, days) =
        (milliseconds / 1000, milliseconds / 60_000, milliseconds / 3_600_000, milliseconds / 86_400_000);
    let two = |large: i64, unit: &str, small: i64, part: &str| {
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {part}") }
    };
    match milliseconds {
        ..1_000 => format!("{milliseconds} ms"),
        1_000..10_000 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        10_000..60_000 => format!("{seconds} s"),
        60_000..3_600_000 => two(minutes, "min", seconds % 60, "s"),
        3_600_000..86_400_000 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// A date and time in UTC, as logs show it.
pub(super) fn absolute(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The time of day, with the date if it is not today: in UTC, or with JavaScript in the reader's local time. The title
/// shows it in UTC.
pub(super) fn clock(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    let is_today = at.date_naive() == now.date_naive();
    let words = at.format(if is_today { "%H:%M:%S UTC" } else { "%-d %b %H:%M UTC" }).to_string();
    local(at, "seconds", &words)
}

/// The same as [`clock`], without seconds.
pub(super) fn minute(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    let is_today = at.date_naive() == now.date_naive();
    let words = at.format(if is_today { "%H:%M UTC" } else { "%-d %b %H:%M UTC" }).to_string();
    local(at, "minutes", &words)
}

/// The time of day alone, where the date is known.
pub(super) fn time_of_day(at: DateTime<Utc>) -> Markup {
    local(at, "day", &at.format("%H:%M").to_string())
}

fn local(at: DateTime<Utc>, to: &str, words: &str) -> Markup {
    html! {
        time data-local=(to) datetime=(at.format("%Y-%m-%dT%H:%M:%SZ")) title=(absolute(at)) { (words) }
    }
}

/// The service key that events go to, with its name if it has one.
pub(super) fn service(key: &ServiceKey, name: Option<&str>) -> Markup {
    html! {
        @if let Some(name) = name { span dir="auto" { (harmless(name)) } " " }
        code { (key) }
    }
}

/// How long before `now` a time was; the time itself is in the title.
pub(super) fn ago(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    let words = match (now - at).num_seconds() {
        ..2 => "just now".to_owned(),
        _ => format!("{} ago", rough(now - at)),
    };
    time(at, &words)
}

/// The duration since a time, as in "oldest 3 min".
pub(super) fn age(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    time(at, &rough(now - at))
}

/// How long it is until a time in the future.
pub(super) fn until(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    if at <= now { time(at, "now") } else { time(at, &format!("in {}", span(whole_seconds(at - now)))) }
}

/// Rounds up to whole seconds, so that a time in the future is never "in 0 s".
fn whole_seconds(length: TimeDelta) -> TimeDelta {
    TimeDelta::seconds(length.num_seconds() + i64::from(length.subsec_nanos() > 0))
}

/// A time, shown as these words.
pub(super) fn time(at: DateTime<Utc>, words: &str) -> Markup {
    html! {
        time datetime=(at.format("%Y-%m-%dT%H:%M:%SZ")) title=(absolute(at)) { (words) }
    }
}

/// Adds a capital letter and a full stop, which texts for logs do not have.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_or_hides_text_is_replaced_and_the_rest_stays() {
        assert_eq!(
            harmless("a\u{202e}b\u{2066}c\u{7}d\u{200f}e\u{85}"),
            "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}"
        );
        // Scripts need joiners, and emoji are made with them.
        for text in ["שלום", "مرحبا", "क्‍ष", "👩‍🚒", "two\n\tlines"] {
            assert!(matches!(harmless(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn numbers_are_written_for_people() {
        let written: Vec<_> = [0, 999, 1_000, 12_345, 1_234_567].into_iter().map(count).collect();
        assert_eq!(written, ["0", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(
            (counted(1, "event", "events"), counted(0, "event", "events")),
            ("1 event".into(), "0 events".into())
        );
    }

    #[test]
    fn lengths_of_time_are_written_in_their_largest_units() {
        let lengths = [-5, 0, 84, 1_234, 12_345, 61_000, 120_000, 3_720_000, 90_000_000, 864_000_000];
        let written = lengths.map(|milliseconds| span(TimeDelta::milliseconds(milliseconds)));
        assert_eq!(
            written,
            ["0 ms", "0 ms", "84 ms", "1.2 s", "12 s", "1 min 1 s", "2 min", "1 h 2 min", "1 d 1 h", "10 d"]
        );
    }

    #[test]
    fn a_moment_is_told_from_now_and_named_in_full() {
        let now = DateTime::from_timestamp(1_795_353_671, 0).unwrap();
        assert_eq!(
            ago(now, now - TimeDelta::minutes(3)).into_string(),
            "<time datetime=\"2026-11-22T13:18:11Z\" title=\"2026-11-22 13:18:11 UTC\">3 min ago</time>"
        );
        let words = |markup: Markup| markup.into_string().split(['<', '>']).nth(2).unwrap_or_default().to_owned();
        assert_eq!(words(ago(now, now + TimeDelta::hours(1))), "just now");
        assert_eq!(words(until(now, now + TimeDelta::milliseconds(23_100))), "in 24 s");
        assert_eq!(words(until(now, now)), "now");
    }
}
