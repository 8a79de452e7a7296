//! Why a line took an alert or did not, in words.

use std::fmt;

use super::{Route, values};
use crate::alert::Alert;
use crate::printable::line;

/// What one line made of an alert; `Display` says it in a sentence such as ``line 2: level is `error`, not `fatal` ``.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step<'a> {
    /// The line that was tried.
    pub route: &'a Route,
    /// Whether it took the alert.
    pub matched: bool,
    /// What the alert has under the name the line looks at; each value once.
    pub found: Vec<&'a str>,
}

impl<'a> Step<'a> {
    pub(super) fn new(route: &'a Route, alert: &'a Alert) -> Self {
        let mut found = Vec::new();
        for value in values(alert, &route.name) {
            // A field and the tag of its name usually say the same.
            if !found.contains(&value) {
                found.push(value);
            }
        }
        Self { route, matched: route.matches(alert), found }
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, matched, found } = self;
        write!(f, "line {}: ", route.number)?;
        if *matched {
            return write!(f, "{} is {}", line(&route.name), Quoted(&route.value));
        }
        if found.is_empty() {
            return write!(f, "there is no {}", line(&route.name));
        }
        write!(f, "{} is ", line(&route.name))?;
        for (place, value) in found.iter().enumerate() {
            if place > 0 {
                f.write_str(" and ")?;
            }
            write!(f, "{}", Quoted(value))?;
        }
        write!(f, ", not {}", Quoted(&route.value))
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", line(self.0))
    }
}
