//! Whether a line matches an alert, and why.

use std::fmt;

use super::parse::{Condition, Route};
use crate::alert::Alert;
use crate::printable::line;

/// Whether the alert has the line's value under the line's name.
pub(super) fn matches(condition: &Condition, alert: &Alert) -> bool {
    values(alert, condition.name()).any(|value| value == condition.value())
}

/// The values that `name` has in an alert: the field first, then tags.
fn values<'a>(alert: &'a Alert, name: &'a str) -> impl Iterator<Item = &'a str> {
    let (first, second, more) = match name {
        "project" => (&alert.project.slug, &alert.project.name, alert.project.others.as_slice()),
        "level" => (&alert.level, &None, [].as_slice()),
        "environment" => (&alert.environment, &None, [].as_slice()),
        "rule" => (&None, &None, alert.rules.as_slice()),
        _ => (&None, &None, [].as_slice()),
    };
    let tags = alert.tags.iter().filter(move |(tag, _)| tag == name).map(|(_, value)| value);
    first.iter().chain(second).chain(more).chain(tags).map(String::as_str)
}

/// Whether one line matched an alert. `Display` is a sentence such as ``line 2: level is `error`, not `fatal` ``.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step<'a> {
    /// The line that was tried.
    pub route: &'a Route,
    /// Whether it matched.
    pub matched: bool,
    /// The values that the alert has under the line's name, each once.
    pub found: Vec<&'a str>,
}

impl<'a> Step<'a> {
    pub(super) fn new(route: &'a Route, alert: &'a Alert) -> Self {
        let mut found = Vec::new();
        for value in values(alert, route.condition().name()) {
            // A field and the tag of the same name usually have the same value.
            if !found.contains(&value) {
                found.push(value);
            }
        }
        Self { route, matched: matches(route.condition(), alert), found }
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, matched, found } = self;
        let route = route.condition();
        write!(f, "line {}: ", route.number())?;
        if *matched {
            return write!(f, "{} is {}", line(route.name()), quoted(route.value()));
        }
        if found.is_empty() {
            return write!(f, "there is no {}", line(route.name()));
        }
        let found = found.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(" and ");
        write!(f, "{} is {found}, not {}", line(route.name()), quoted(route.value()))
    }
}

fn quoted(text: &str) -> String {
    format!("`{}`", line(text))
}
