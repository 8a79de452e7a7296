//! What an audit found, with remedies; and an audit saved as a file, for comparison with a later one: what paged before an
//! upgrade of Sentry and does not after it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};
use thiserror::Error;

/// The version of the format of a saved audit.
const VERSION: u32 = 1;

/// The result of an audit.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SentryAudit {
    /// Every project that was audited.
    pub projects: Vec<ProjectAudit>,
    /// What is wrong, the worst kinds first.
    pub findings: Vec<AuditFinding>,
    /// What is worth knowing but cannot be remedied.
    pub notes: Vec<String>,
}

/// One project.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ProjectAudit {
    /// Its slug.
    pub project: String,
    /// Whether at least one of its alerts reaches the bridge.
    pub pages: bool,
    /// Every alert that names the bridge.
    pub alerts: Vec<AlertAudit>,
}

/// One alert of a project that names the bridge.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AlertAudit {
    /// Its name.
    pub name: String,
    /// Whether it reaches the bridge.
    pub pages: bool,
}

/// A reason why alerts would page nobody, or page less than expected.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum FindingKind {
    /// A project with no alert that reaches the bridge.
    ProjectWithoutPage,
    /// A workflow that is connected to no detector.
    FiresForNothing,
    /// An alert, its action or its detectors are switched off.
    Disabled,
    /// An action of a kind that Sentry does not run any more.
    DeadAction,
    /// An alert that calls legacy webhooks, none of which is the bridge's.
    NothingBehindWebhook,
    /// The bridge's address with a token that the bridge would refuse.
    WrongToken,
    /// An integration that Sentry has disabled, or that is not installed, is not an alert action, or posts elsewhere.
    AppTrouble,
    /// An alert that is limited to an environment that no route names.
    OneEnvironment,
    /// Alerts open incidents, and nothing tells the bridge to resolve them.
    NeverResolves,
    /// An alert that is quiet about an issue for more than an hour after it fired for it.
    Quiet,
    /// A workflow that never fired although its project has new issues.
    NeverFired,
    /// A rule that was never migrated to a workflow.
    UnmigratedRule,
    /// An alert that paged when the audit was saved, but does not page now.
    LostSinceSaved,
    /// A project that was there when the audit was saved, but is not seen now.
    ProjectGone,
    /// Something the token may not see.
    NotSeen,
}

impl FindingKind {
    /// Its name, such as `project-without-page`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The remedy, in one or two sentences.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ProjectWithoutPage => {
                "run `connect --project` with its slug, or give one of its alerts the bridge as an action"
            }
            Self::FiresForNothing => "connect it to monitors of the projects that are to page, or run `connect`",
            Self::Disabled => "switch it on again in Sentry",
            Self::DeadAction => {
                "replace the action by the bridge's integration; Sentry does not run plugins' actions for new alerts"
            }
            Self::NothingBehindWebhook => {
                "enable the project's WebHooks with the bridge's address, or run `connect --project`"
            }
            Self::WrongToken => "put a token of BRIDGE_WEBHOOK_TOKEN into the address",
            Self::AppTrouble => {
                "in Settings > Developer Settings enable the integration's Alert Rule Action, set its Webhook URL to the \
                 bridge's, and install it"
            }
            Self::OneEnvironment => "let it cover all environments, or add a route `environment,NAME,KEY`",
            Self::NeverResolves => {
                "subscribe the integration to `issue`, or add the trigger \"issue is resolved\" to the alert"
            }
            Self::Quiet => "set the interval of the alert to an hour or less",
            Self::NeverFired => {
                "check whether its triggers and filters can ever match; `connect` makes an alert whose can"
            }
            Self::UnmigratedRule => "open the rule in Sentry and save it, which migrates it, or run `connect`",
            Self::LostSinceSaved => {
                "switch it on, or create it again; after an upgrade to 26.7 or later open it in Sentry and save it"
            }
            Self::ProjectGone => {
                "look whether it was deleted or renamed, or whether the token's owner lost access to it"
            }
            Self::NotSeen => "give the token the scope, or its owner the access, and audit again",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AuditFinding {
    /// Its kind.
    pub kind: FindingKind,
    /// The project it is about, by slug.
    pub project: Option<String>,
    /// The alert or integration it is about, by name.
    pub alert: Option<String>,
    /// What is wrong, in one sentence.
    pub problem: String,
    /// The remedy.
    pub remedy: &'static str,
}

impl AuditFinding {
    pub(super) fn new(
        kind: FindingKind,
        project: Option<&str>,
        alert: Option<&str>,
        problem: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            project: project.map(str::to_owned),
            alert: alert.map(str::to_owned),
            problem: problem.into(),
            remedy: kind.remedy(),
        }
    }
}

/// The part of an audit that is compared: projects and alerts by name, because an upgrade changes their numbers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SavedAudit {
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
pub enum SavedAuditError {
    /// It is not a saved audit.
    #[error("it is not a file that `audit --save` wrote")]
    Shape,
    /// It is the saved audit of another version of the bridge.
    #[error("it was written by another version of the bridge (format {0}; this one reads format {VERSION})")]
    Version(u32),
}

impl SavedAudit {
    /// Extracts the part of an audit that is saved.
    #[must_use]
    pub fn of(audit: &SentryAudit, organization: &str, saved_at: String) -> Self {
        let alerts = |project: &ProjectAudit| {
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
    pub fn parse(text: &str) -> Result<Self, SavedAuditError> {
        let saved: Self = serde_json::from_str(text).map_err(|_| SavedAuditError::Shape)?;
        if saved.version == VERSION { Ok(saved) } else { Err(SavedAuditError::Version(saved.version)) }
    }

    /// Adds findings to `audit`: projects that are gone since this was saved, and alerts that paged then but not now.
    pub fn compare(&self, audit: &mut SentryAudit) {
        let saved_at = &self.saved_at;
        for (slug, alerts) in &self.projects {
            let Some(now) = audit.projects.iter().find(|project| project.project == *slug) else {
                let problem = format!("the project was there on {saved_at} and is not seen now");
                audit.findings.push(AuditFinding::new(FindingKind::ProjectGone, Some(slug), None, problem));
                continue;
            };
            for name in alerts.iter().filter(|(_, pages)| **pages).map(|(name, _)| name) {
                let pages = now.alerts.iter().any(|alert| alert.name == *name && alert.pages);
                if !pages {
                    let is_there = now.alerts.iter().any(|alert| alert.name == *name);
                    let what = if is_there { "does not reach the bridge now" } else { "is not there now" };
                    let problem = format!("the alert paged on {saved_at} and {what}");
                    audit.findings.push(AuditFinding::new(
                        FindingKind::LostSinceSaved,
                        Some(slug),
                        Some(name),
                        problem,
                    ));
                }
            }
        }
        audit.findings.sort_by_key(|finding| finding.kind);
    }
}
