//! The description of an event: the line that people read first.

use serde::{Serialize, Serializer};

use super::template::Template;
use crate::alert::{Alert, Exception, IncidentAction, Subject};

/// A line of 1 to [`Description::MAX_LENGTH`] characters, never blank and without control characters.
///
/// PagerDuty rejects events without one ("Description is missing or blank", "Description is too long (maximum is 1024
/// characters)").
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    line: String,
    /// How long the text was, in characters, if the line is only its beginning.
    whole_length: Option<usize>,
}

impl Description {
    /// PagerDuty's limit, in characters. It does not say whether these are code points or UTF-16 units, so a line is
    /// cut to be within the limit under either way of counting.
    ///
    /// UTF-16 units are never fewer than code points, so theirs is the limit that binds. The two differ for characters
    /// above U+FFFF, such as emoji, which are two units each: 1024 of them become 511 and an ellipsis.
    pub const MAX_LENGTH: usize = 1024;

    /// The line of a trigger: the first of message, title, last exception, culprit, transaction and alert rule that is
    /// not blank, else the issue's id. A template replaces it, unless its result is blank.
    #[must_use]
    pub fn of(alert: &Alert, template: Option<&Template>) -> Self {
        let title = line_of(alert);
        let line = template.and_then(|template| visible_line(&template.line(alert, &title)));
        Self::of_line(line.unwrap_or(title))
    }

    /// The line of an acknowledge or a resolve: what was done in Sentry, and to what.
    #[must_use]
    pub fn of_note(alert: &Alert) -> Self {
        let line = line_of(alert);
        // Sentry's own title of a metric alert already says that it is resolved.
        Self::of_line(match (alert.action, &alert.subject) {
            (IncidentAction::Resolve, Subject::Issue(_)) => format!("Resolved in Sentry: {line}"),
            (IncidentAction::Acknowledge, _) => match alert.facts.iter().find(|(name, _)| *name == "assignee") {
                Some((_, assignee)) => one_line(&format!("Assigned in Sentry to {assignee}: {line}")),
                None => format!("Assigned in Sentry: {line}"),
            },
            (IncidentAction::Resolve, Subject::Metric(_))
            | (IncidentAction::Trigger(_) | IncidentAction::Reopen(_), _) => line,
        })
    }

    /// Puts the text on one line, trims it and cuts it to the limit. `None` when nothing visible is left.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        visible_line(text).map(Self::of_line)
    }

    /// The source of an alert that names none, the same as Sentry's integration sends.
    #[must_use]
    pub(super) fn of_unknown_source() -> Self {
        Self::of_line("<unknown>".to_owned())
    }

    /// Cuts a text that is one visible line to the limit.
    #[must_use]
    pub(super) fn of_line(line: String) -> Self {
        // No text has more units of UTF-16 than bytes of UTF-8, and bytes need not be counted.
        if line.len() <= Self::MAX_LENGTH || line.encode_utf16().count() <= Self::MAX_LENGTH {
            return Self { line, whole_length: None };
        }
        let mut units = 0;
        let kept = line.chars().take_while(|character| {
            units += character.len_utf16();
            units < Self::MAX_LENGTH
        });
        let short: String = kept.chain(['…']).collect();
        Self { line: short, whole_length: Some(line.chars().count()) }
    }

    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.line
    }

    /// How long the text was, in characters (code points); `None` when it was not cut. A line that was cut ends in an
    /// ellipsis.
    #[must_use]
    pub fn whole_length(&self) -> Option<usize> {
        self.whole_length
    }
}

impl Serialize for Description {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.line)
    }
}

/// The line that describes an alert, of any length.
fn line_of(alert: &Alert) -> String {
    let exception = || alert.exceptions.iter().rev().find_map(Exception::summary);
    let line = [&alert.message, &alert.title].into_iter().find_map(|text| visible_line(text.as_deref()?));
    let line = line.or_else(|| visible_line(&exception()?));
    let line = line
        .or_else(|| [&alert.culprit, &alert.transaction].into_iter().find_map(|text| visible_line(text.as_deref()?)));
    line.unwrap_or_else(|| {
        let subject = match &alert.subject {
            Subject::Issue(id) => format!("Sentry issue {}", id.as_str()),
            Subject::Metric(name) => format!("Sentry metric alert {name}"),
        };
        match alert.rules.iter().find_map(|rule| visible_line(rule)) {
            Some(rule) => one_line(&format!("{rule} ({subject})")),
            None => one_line(&subject),
        }
    })
}

/// The text on one line, trimmed; `None` when nothing of it is visible.
fn visible_line(text: &str) -> Option<String> {
    // Nearly every text consists of printable ASCII characters. If it does not begin or end with a space, it needs no
    // change.
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain && !text.starts_with(' ') && !text.ends_with(' ') {
        return (!text.is_empty()).then(|| text.to_owned());
    }
    let line = one_line(text);
    let is_blank = line.chars().all(|character| is_blank(character) || draws_nothing(character));
    (!is_blank).then_some(line)
}

/// Replaces every run of white space that contains a line break or a control character with one space. Other runs are kept.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(8 * Description::MAX_LENGTH));
    let mut rest = text.trim_matches(is_blank);
    while let Some(start) = rest.find(is_blank) {
        let (before, from_run) = rest.split_at(start);
        let (run, after) = from_run.split_at(from_run.find(|character| !is_blank(character)).unwrap_or(from_run.len()));
        line.push_str(before);
        line.push_str(if run.contains(breaks_line) { " " } else { run });
        rest = after;
    }
    line.push_str(rest);
    line
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() || character.is_control()
}

fn breaks_line(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Characters that are neither white space nor visible: joiners, direction marks, fillers, variation selectors, tags.
fn draws_nothing(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::events_api::Cut;
    use super::*;

    fn line(text: &str) -> String {
        Description::new(text).unwrap().as_str().to_owned()
    }

    /// In characters and in UTF-16 units.
    fn lengths(description: &Description) -> (usize, usize) {
        (description.as_str().chars().count(), description.as_str().encode_utf16().count())
    }

    #[test]
    fn a_text_of_many_lines_becomes_one() {
        assert_eq!(line("  a\n\n   b\r\nc\t d \u{2028} e\u{85}f\u{2029}g  \n"), "a b c d e f g");
        assert_eq!(line("\u{1b}[31mred\u{1b}[0m \0 end\u{7f}"), "[31mred [0m end");
    }

    #[test]
    fn blanks_within_a_line_stay() {
        assert_eq!(line("a  b\u{a0}\u{3000}c — d"), "a  b\u{a0}\u{3000}c — d");
    }

    #[test]
    fn what_nobody_can_see_is_blank() {
        for blank in
            ["", " ", "\n\t\0\u{1b}", "\u{2028}\u{a0}\u{3000}", "\u{200b}\u{feff}\u{2060} \u{ad}", "\u{3164}\u{fe0f}"]
        {
            assert_eq!(Description::new(blank), None, "{blank:?}");
        }
        assert_eq!(line("\u{200b}."), "\u{200b}.");
    }

    #[test]
    fn a_long_line_is_cut_on_a_character_and_says_so() {
        let whole = "x".repeat(1024);
        assert_eq!(Description::new(&whole).unwrap(), Description { line: whole, whole_length: None });

        let cut = Description::new(&"x".repeat(1025)).unwrap();
        assert_eq!(cut.as_str(), format!("{}…", "x".repeat(1023)));
        assert_eq!((cut.whole_length(), lengths(&cut)), (Some(1025), (1024, 1024)));

        let pairs = Description::new(&"🔥".repeat(513)).unwrap();
        assert_eq!(pairs.as_str(), format!("{}…", "🔥".repeat(511)), "half a pair is not kept");
        assert_eq!((pairs.whole_length(), lengths(&pairs)), (Some(513), (512, 1023)));
    }

    #[test]
    fn it_is_written_as_a_string() {
        assert_eq!(serde_json::to_string(&Description::new("a \"b\"").unwrap()).unwrap(), r#""a \"b\"""#);
    }

    proptest! {
        #[test]
        fn every_description_is_one_that_pagerduty_takes(text in prop_oneof![any::<String>(), "[a\n\0 🔥\u{200b}]{0,1400}"]) {
            if let Some(description) = Description::new(&text) {
                let line = description.as_str();
                prop_assert!((1..=1024).contains(&line.chars().count()));
                prop_assert!((1..=1024).contains(&line.encode_utf16().count()));
                prop_assert!(!line.chars().any(breaks_line));
                prop_assert!(!line.trim().is_empty());
                prop_assert_eq!(line.trim(), line);
                let whole = one_line(&text);
                match description.whole_length() {
                    None => prop_assert_eq!(line, whole),
                    Some(length) => {
                        let (kept, kept_utf16) = lengths(&description);
                        prop_assert_eq!(length, whole.chars().count());
                        prop_assert_eq!(Cut::line("a", &description), Some(Cut::Line { member: "a", length, kept, kept_utf16 }));
                        // It was too long by one way of counting, and one character more would be too much again.
                        prop_assert!(whole.encode_utf16().count() > 1024);
                        let next = whole.chars().nth(kept - 1).unwrap();
                        prop_assert!(kept_utf16 + next.len_utf16() > 1024);
                    }
                }
            }
        }
    }
}
