//! Which service key an alert goes to.
//!
//! The syntax is that of Sentry's own legacy PagerDuty plugin, so its routes paste in unchanged: lines of
//! `tag,value,KEY`, of which the first that matches wins. On top of it, `;` ends a line too, fields may be quoted as in
//! CSV, and lines that begin with `#` are comments. Unlike the plugin, which passed over a line it could not read,
//! [`Routes::new`] refuses it: an alert that goes to the wrong team is found out too late.
//!
//! - `parse`: from the text to its lines; `error`: what may be wrong with one
//! - `explain`: why a line took an alert or did not

mod error;
mod explain;
mod parse;
#[cfg(test)]
mod tests;

use crate::alert::Alert;
use crate::pagerduty::ServiceKey;

pub use error::{RouteError, RouteFault};
pub use explain::Step;

/// The routes in their order, and the key for whatever none of them takes.
#[derive(Clone, Debug)]
pub struct Routes {
    default: ServiceKey,
    routes: Vec<Route>,
}

/// One line: alerts whose `name` is `value` go to `key`.
///
/// `name` is a tag as Sentry stores it (`sentry:release` in the bodies of the legacy plugin) or one of `project` (slug
/// or name), `level`, `environment` and `rule`. A name may stand for several values, such as those of a field and of a
/// tag called the same; the line matches when any of them is its value, to the letter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    number: usize,
    name: String,
    value: String,
    key: ServiceKey,
}

/// Where an alert goes, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Choice<'a> {
    /// The key it goes to.
    pub key: &'a ServiceKey,
    /// The line that decided it; `None` when it was the default key.
    pub line: Option<&'a Route>,
}

impl Routes {
    /// Reads routes; `lines` may be empty.
    ///
    /// # Errors
    ///
    /// Every line that is no route, with its number and never with its key.
    pub fn new(default: ServiceKey, lines: &str) -> Result<Self, Vec<RouteError>> {
        Ok(Self::from_lines(default, Route::parse_lines(lines)?))
    }

    /// Routes of lines that were read before.
    #[must_use]
    pub fn from_lines(default: ServiceKey, routes: Vec<Route>) -> Self {
        Self { default, routes }
    }

    /// The key of the first line that matches, else the default key.
    #[must_use]
    pub fn choose(&self, alert: &Alert) -> Choice<'_> {
        let line = self.routes.iter().find(|route| route.matches(alert));
        Choice { key: line.map_or(&self.default, Route::key), line }
    }

    /// What each line that [`Routes::choose`] tried made of the alert. The last step is the one that matched, if any did.
    #[must_use]
    pub fn explain<'a>(&'a self, alert: &'a Alert) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        for route in &self.routes {
            let step = Step::new(route, alert);
            let matched = step.matched;
            steps.push(step);
            if matched {
                break;
            }
        }
        steps
    }

    /// The key of whatever no line takes.
    #[must_use]
    pub fn default_key(&self) -> &ServiceKey {
        &self.default
    }

    /// The lines in their order.
    #[must_use]
    pub fn lines(&self) -> &[Route] {
        &self.routes
    }

    /// Every key an alert may go to, each once, the default key first.
    #[must_use]
    pub fn keys(&self) -> Vec<&ServiceKey> {
        let mut keys = vec![&self.default];
        for route in &self.routes {
            if !keys.contains(&&route.key) {
                keys.push(&route.key);
            }
        }
        keys
    }
}

impl Route {
    /// Reads routes; `lines` may be empty.
    ///
    /// # Errors
    ///
    /// As [`Routes::new`].
    pub fn parse_lines(lines: &str) -> Result<Vec<Self>, Vec<RouteError>> {
        parse::routes(lines)
    }

    /// The number of its line, from 1; where all routes stand on one line, its place among what `;` divides.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// The tag or field it looks at.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What that has to be.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Where it sends alerts.
    #[must_use]
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }

    fn matches(&self, alert: &Alert) -> bool {
        values(alert, &self.name).any(|value| value == self.value)
    }
}

/// What `name` stands for in an alert: fields of the bridge first, then tags.
fn values<'a>(alert: &'a Alert, name: &'a str) -> impl Iterator<Item = &'a str> {
    let (one, other, more) = match name {
        "project" => (&alert.project.slug, &alert.project.name, alert.project.others.as_slice()),
        "level" => (&alert.level, &None, [].as_slice()),
        "environment" => (&alert.environment, &None, [].as_slice()),
        "rule" => (&None, &None, alert.rules.as_slice()),
        _ => (&None, &None, [].as_slice()),
    };
    let tags = alert.tags.iter().filter(move |(tag, _)| tag == name).map(|(_, value)| value);
    one.iter().chain(other).chain(more).chain(tags).map(String::as_str)
}
