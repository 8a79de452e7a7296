//! The one line people read first.

use serde::{Serialize, Serializer};

use crate::alert::{Action, Alert, Exception, Subject};

/// A line of 1 to [`Description::MAX_LENGTH`] characters, never blank and without control characters.
///
/// PagerDuty refuses events without it ("Description is missing or blank", "Description is too long (maximum is 1024
/// characters)").
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    line: String,
    uncut_length: Option<usize>,
}

impl Description {
    /// PagerDuty's limit. It does not say how it counts: UTF-16 units, as here, are never fewer than code points, so
    /// this is within the limit either way.
    pub const MAX_LENGTH: usize = 1024;

    /// The first of message, title, last exception and culprit that is not blank, else the issue's id.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        Self::told(alert).unwrap_or_else(|| {
            Self::cut(one_line(&match &alert.subject {
                Subject::Issue(id) => format!("Sentry issue {}", id.as_str()),
                Subject::Metric(name) => format!("Sentry metric alert {name}"),
            }))
        })
    }

    fn told(alert: &Alert) -> Option<Self> {
        let exception = || alert.exceptions.iter().rev().find_map(Exception::summary);
        [&alert.message, &alert.title]
            .into_iter()
            .find_map(|text| Self::new(text.as_deref()?))
            .or_else(|| Self::new(&exception()?))
            .or_else(|| Self::new(alert.culprit.as_deref()?))
    }

    /// The line of an event that is no trigger: what was done in Sentry, and to what.
    #[must_use]
    pub fn of_note(alert: &Alert) -> Self {
        let line = Self::of(alert).line;
        // Sentry's own line of a metric alert says already that it is resolved.
        Self::cut(match (alert.action, &alert.subject) {
            (Action::Resolve, Subject::Issue(_)) => format!("Resolved in Sentry: {line}"),
            (Action::Acknowledge, _) => match alert.facts.iter().find(|(name, _)| *name == "assignee") {
                Some((_, assignee)) => one_line(&format!("Assigned in Sentry to {assignee}: {line}")),
                None => format!("Assigned in Sentry: {line}"),
            },
            (Action::Resolve, Subject::Metric(_)) | (Action::Trigger(_), _) => line,
        })
    }

    /// Puts the text on one line, trims it and cuts it to the limit; `None` when nothing is to be seen then.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let line = one_line(text);
        let is_blank = line.chars().all(|character| is_blank(character) || draws_nothing(character));
        (!is_blank).then(|| Self::cut(line))
    }

    fn cut(line: String) -> Self {
        let length = line.encode_utf16().count();
        if length <= Self::MAX_LENGTH {
            return Self { line, uncut_length: None };
        }
        let mut units = 0;
        let kept = line.chars().take_while(|character| {
            units += character.len_utf16();
            units < Self::MAX_LENGTH
        });
        Self { line: kept.chain(['…']).collect(), uncut_length: Some(length) }
    }

    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.line
    }

    /// How many UTF-16 units the line had before it was cut; `None` when it is whole.
    #[must_use]
    pub fn uncut_length(&self) -> Option<usize> {
        self.uncut_length
    }
}

impl Serialize for Description {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.line)
    }
}

/// Makes one space of every run of blanks that would not stay on its line, and leaves other runs as they are.
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

/// Characters that are neither blanks nor to be seen: joiners, marks of direction, fillers, variation selectors, tags.
fn draws_nothing(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> String {
        Description::new(text).unwrap().as_str().to_owned()
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
        assert_eq!(Description::new(&whole).unwrap(), Description { line: whole, uncut_length: None });

        let cut = Description::new(&"x".repeat(1025)).unwrap();
        assert_eq!(cut.as_str(), format!("{}…", "x".repeat(1023)));
        assert_eq!(cut.uncut_length(), Some(1025));

        let pairs = Description::new(&"🔥".repeat(513)).unwrap();
        assert_eq!(pairs.as_str(), format!("{}…", "🔥".repeat(511)), "half a pair is not kept");
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
            }
        }
    }
}
