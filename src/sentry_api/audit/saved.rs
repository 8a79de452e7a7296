//! An audit as a file, to compare another one with: what paged before an upgrade of Sentry and does not after it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Audit, Finding, Kind};

/// The form of the file.
const VERSION: u32 = 1;

/// What an audit is compared by: projects and alerts by name, since an upgrade changes their numbers.
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

/// Why a file is no saved audit.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SavedError {
    /// Something else.
    #[error("it is no audit that `audit --save` wrote")]
    Shape,
    /// That of another version of the bridge.
    #[error("it was written by another version of the bridge (form {0}, this one reads form {VERSION})")]
    Version(u32),
}

impl Saved {
    /// What is to be saved of an audit.
    #[must_use]
    pub fn of(audit: &Audit, organization: &str, saved_at: String) -> Self {
        let alerts = |project: &super::ProjectAudit| {
            let mut alerts = BTreeMap::new();
            for alert in &project.alerts {
                // Two alerts of one name: it pages when one of them does.
                *alerts.entry(alert.name.clone()).or_insert(false) |= alert.pages;
            }
            alerts
        };
        let projects = audit.projects.iter().map(|project| (project.project.clone(), alerts(project))).collect();
        Self { version: VERSION, organization: organization.to_owned(), saved_at, projects }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it is no saved audit, or one of another form.
    pub fn parse(text: &str) -> Result<Self, SavedError> {
        let saved: Self = serde_json::from_str(text).map_err(|_| SavedError::Shape)?;
        if saved.version == VERSION { Ok(saved) } else { Err(SavedError::Version(saved.version)) }
    }

    /// Adds to `audit` what paged when this was saved and does not now.
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
