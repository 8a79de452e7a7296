//! What makes an issue that is no error: a cron or uptime monitor, a slow query, a metric, a user's feedback, a report
//! of a browser.
//!
//! Source: Sentry's documentation of issue alerts (sentry-docs#18382), where the members of [`Occurrence`] are written
//! in camel case. Sentry 23 sends no occurrence: there [`Contexts`] tell of a cron monitor.

use super::event::{said, titled};
use super::lenient::{List, Text, members};

/// An occurrence as far as people want to read it.
#[derive(Debug, Default)]
pub struct Occurrence {
    issue_title: Option<Text>,
    subtitle: Option<Text>,
    level: Option<Text>,
    evidence: Option<List<Evidence>>,
}

members!(Occurrence {
    "issueTitle" => issue_title,
    "subtitle" => subtitle,
    "level" => level,
    "evidenceDisplay" => evidence,
});

/// One thing that Sentry measured.
#[derive(Debug, Default)]
struct Evidence {
    name: Option<Text>,
    value: Option<Text>,
}

members!(Evidence { "name" => name, "value" => value });

impl Occurrence {
    /// What the issue is called, else what it says under its title.
    #[must_use]
    pub fn title(&self) -> Option<String> {
        titled(self.issue_title.clone()).or_else(|| said(self.subtitle.clone()))
    }

    /// Its level.
    #[must_use]
    pub fn level(&self) -> Option<String> {
        said(self.level.clone())
    }

    /// What it says under its title.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        said(self.subtitle.clone()).map(|subtitle| ("subtitle", subtitle)).into_iter().collect()
    }

    /// What was measured, without what has no name or no value.
    #[must_use]
    pub fn into_evidence(self) -> Vec<(String, String)> {
        let List(evidence) = self.evidence.unwrap_or(List(Vec::new()));
        evidence.into_iter().filter_map(|piece| Some((said(piece.name)?, said(piece.value)?))).collect()
    }
}

/// The contexts of an event as far as they can stand in for a title.
#[derive(Debug, Default)]
pub struct Contexts {
    monitor: Option<Monitor>,
}

members!(Contexts { "monitor" => monitor });

/// The cron monitor that an event belongs to.
#[derive(Debug, Default)]
struct Monitor {
    name: Option<Text>,
    slug: Option<Text>,
    status: Option<Text>,
}

members!(Monitor { "name" => name, "slug" => slug, "status" => status });

impl Contexts {
    /// The line for the issue of a cron monitor that Sentry gave no title; `None` when no monitor is named.
    #[must_use]
    pub fn into_title(self) -> Option<String> {
        let monitor = self.monitor?;
        let name = said(monitor.name).or_else(|| said(monitor.slug))?;
        let status = said(monitor.status).map_or_else(String::new, |status| format!(" ({status})"));
        Some(format!("Monitor failure: {name}{status}"))
    }
}

/// A report of a browser that a Content Security Policy kept it from loading something.
#[derive(Debug, Default)]
pub struct PolicyReport {
    effective_directive: Option<Text>,
    violated_directive: Option<Text>,
    blocked_uri: Option<Text>,
}

members!(PolicyReport {
    "effective_directive" => effective_directive,
    "violated_directive" => violated_directive,
    "blocked_uri" => blocked_uri,
});

impl PolicyReport {
    /// The line for the report.
    #[must_use]
    pub fn into_title(self) -> Option<String> {
        let directive = said(self.effective_directive).or_else(|| said(self.violated_directive));
        blocked(directive.as_deref(), said(self.blocked_uri).as_deref())
    }
}

/// What was blocked in words like Sentry's: the directive by its name, without its list of sources, and what it kept
/// away, if that is told.
pub(super) fn blocked(directive: Option<&str>, uri: Option<&str>) -> Option<String> {
    let directive = directive?.split_whitespace().next()?;
    Some(match uri {
        Some(uri) => format!("Blocked '{directive}' from '{uri}'"),
        None => format!("Blocked '{directive}'"),
    })
}
