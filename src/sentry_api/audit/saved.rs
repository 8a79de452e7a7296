//! An audit saved as a file, for comparison with a later one: what paged before an upgrade of Sentry and does not after it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Audit, Finding, Kind};

/// The version of the file format.
const VERSION: u32 = 1;

/// The part of an audit that is compared: projects and alerts by name, because an upgrade changes their numbers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Saved {
    version: u32,
    /// The organization's slug.
    pub organization: String,
    /// When it was saved, RFC 3339.
    pub saved_at: String,
    /// For each project its alerts that name the bridge, and whether they page.
    projects: BTreeMap<String, BTreeMap<String, bool>>,
}

/// Why a file cannot be used as a saved audit.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SavedError {
    /// It is not a saved audit.
    #[error("it is not a file that `audit --save` wrote")]
    Shape,
    /// It is the saved audit of another version of the bridge.
    #[error("it was written by another version of the bridge (format {0}; this one reads format {VERSION})")]
    Version(u32),
}

impl Saved {
    /// Extracts the part of an audit that is saved.
    #[must_use]
    pub fn of(audit: &Audit, organization: &str, saved_at: String) -> Self {
        let alerts = |project: &super::ProjectAudit| {
            let mut alerts = BTreeMap::new();
            for alert in &project.alerts {
                // Two alerts with the same name count as paging if one of them pages.
                *alerts.entry(alert.name.clone()).or_insert(false) |= alert.pages;
            }
            alerts
        };
        let projects = audit.projects.iter().map(|project| (project.project.clone(), alerts(project))).collect();
        Self { version: VERSION, organization: organization.to_owned(), saved_at, projects }
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    ///
    /// When it is not a saved audit, or has another version of the format.
    pub fn parse(text: &str) -> Result<Self, SavedError> {
        let saved: Self = serde_json::from_str(text).map_err(|_| SavedError::Shape)?;
        if saved.version == VERSION { Ok(saved) } else { Err(SavedError::Version(saved.version)) }
    }

    /// Adds findings to `audit`: projects that are gone since this was saved, and alerts that paged then but not now.
    pub fn compare(&self, audit: &mut Audit) {
        let saved_at = &self.saved_at;
        for (slug, alerts) in &self.projects {
            let Some(now) = audit.projects.iter().find(|project| project.project == *slug) else {
                let problem = format!("the project was there on {saved_at} and is not seen now");
                audit.findings.push(Finding::new(Kind::ProjectGone, Some(slug), None, problem));
                continue;
            };
            for name in alerts.iter().filter(|(_, pages)| **pages).map(|(name, _)| name) {
                let pages = now.alerts.iter().any(|alert| alert.name == *name && alert.pages);
                if !pages {
                    let is_there = now.alerts.iter().any(|alert| alert.name == *name);
                    let what = if is_there { "does not reach the bridge now" } else { "is not there now" };
                    let problem = format!("the alert paged on {saved_at} and {what}");
                    audit.findings.push(Finding::new(Kind::LostSinceSaved, Some(slug), Some(name), problem));
                }
            }
        }
        audit.findings.sort_by_key(|finding| finding.kind);
    }
}
