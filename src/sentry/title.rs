//! The title of an event or an issue.
//!
//! An issue that is not an error (of a cron or uptime monitor, a slow query, a metric, a user's feedback, a browser's
//! report) often has no title of its own. Then one is made from what Sentry sends about it.
//!
//! Source of [`Occurrence`]: Sentry's documentation of issue alerts (sentry-docs#18382), with members in camel case.
//! Sentry 23 sends no occurrence: there [`Contexts`] name the cron monitor.

use super::lenient::{members, non_blank};

/// Sentry's placeholder for the title of an event or issue without one: most of those that are not errors, up to Sentry 23.
const UNTITLED: &str = "<untitled>";

/// The title, unless it is blank or a placeholder.
pub(super) fn titled(title: Option<String>) -> Option<String> {
    non_blank(title).filter(|title| title.trim() != UNTITLED)
}

/// What Sentry makes a title from.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// The title of a message.
    title: Option<String>,
    /// The class of an exception.
    kind: Option<String>,
    /// The text of an exception.
    value: Option<String>,
    /// The title of a browser's report, which can be blank.
    message: Option<String>,
    /// The directive that such a report says was violated.
    directive: Option<String>,
    /// The address that was not loaded.
    uri: Option<String>,
}

members!(Metadata {
    "title" => title,
    "type" => kind,
    "value" => value,
    "message" => message,
    "directive" => directive,
    "uri" => uri,
});

impl Metadata {
    /// The title of a message, else `type: value` of an exception, else a browser's report.
    pub(super) fn into_title(self) -> Option<String> {
        let raised = match (non_blank(self.kind), non_blank(self.value)) {
            (Some(kind), Some(value)) => Some(format!("{kind}: {value}")),
            (kind, value) => kind.or(value),
        };
        let reported = || blocked(non_blank(self.directive).as_deref(), non_blank(self.uri).as_deref());
        titled(self.title).or(raised).or_else(|| non_blank(self.message)).or_else(reported)
    }
}

/// What created an issue that is not an error.
#[derive(Debug, Default)]
pub(super) struct Occurrence {
    issue_title: Option<String>,
    subtitle: Option<String>,
    level: Option<String>,
    evidence: Option<Vec<Evidence>>,
}

members!(Occurrence {
    "issueTitle" => issue_title,
    "subtitle" => subtitle,
    "level" => level,
    "evidenceDisplay" => evidence,
});

/// One measurement by Sentry.
#[derive(Debug, Default)]
struct Evidence {
    name: Option<String>,
    value: Option<String>,
}

members!(Evidence { "name" => name, "value" => value });

impl Occurrence {
    /// The issue's title, else its subtitle.
    pub(super) fn title(&self) -> Option<String> {
        titled(self.issue_title.clone()).or_else(|| non_blank(self.subtitle.clone()))
    }

    /// Its level.
    pub(super) fn level(&self) -> Option<String> {
        non_blank(self.level.clone())
    }

    /// The subtitle.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        non_blank(self.subtitle.clone()).map(|subtitle| ("subtitle", subtitle)).into_iter().collect()
    }

    /// The measurements that have a name and a value.
    pub(super) fn into_evidence(self) -> Vec<(String, String)> {
        let evidence = self.evidence.unwrap_or_default();
        evidence.into_iter().filter_map(|piece| Some((non_blank(piece.name)?, non_blank(piece.value)?))).collect()
    }
}

/// The contexts of an event, as far as a title can be made from them.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    monitor: Option<CronMonitor>,
}

members!(Contexts { "monitor" => monitor });

/// The cron monitor of an event.
#[derive(Debug, Default)]
struct CronMonitor {
    name: Option<String>,
    slug: Option<String>,
    status: Option<String>,
}

members!(CronMonitor { "name" => name, "slug" => slug, "status" => status });

impl Contexts {
    /// Makes a title for the issue of a cron monitor; `None` when there is no monitor with a name.
    pub(super) fn into_title(self) -> Option<String> {
        let monitor = self.monitor?;
        let name = non_blank(monitor.name).or_else(|| non_blank(monitor.slug))?;
        let status = non_blank(monitor.status).map_or_else(String::new, |status| format!(" ({status})"));
        Some(format!("Monitor failure: {name}{status}"))
    }
}

/// A browser's report that a Content Security Policy kept it from loading something.
#[derive(Debug, Default)]
pub(super) struct PolicyReport {
    effective_directive: Option<String>,
    violated_directive: Option<String>,
    blocked_uri: Option<String>,
}

members!(PolicyReport {
    "effective_directive" => effective_directive,
    "violated_directive" => violated_directive,
    "blocked_uri" => blocked_uri,
});

impl PolicyReport {
    /// A title for the report.
    pub(super) fn into_title(self) -> Option<String> {
        let directive = non_blank(self.effective_directive).or_else(|| non_blank(self.violated_directive));
        blocked(directive.as_deref(), non_blank(self.blocked_uri).as_deref())
    }
}

/// A title like Sentry's: the directive by name, without its list of sources, and what it blocked, if known.
fn blocked(directive: Option<&str>, uri: Option<&str>) -> Option<String> {
    let directive = directive?.split_whitespace().next()?;
    Some(match uri {
        Some(uri) => format!("Blocked '{directive}' from '{uri}'"),
        None => format!("Blocked '{directive}'"),
    })
}
