//! What makes an issue that is no error: a cron or uptime monitor, a slow query, a metric, a user's feedback.
//!
//! Source: Sentry's documentation of issue alerts (sentry-docs#18382); its members are written in camel case.

use super::event::said;
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
    /// What the issue is called.
    #[must_use]
    pub fn title(&self) -> Option<String> {
        said(self.issue_title.clone())
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
