//! Finds what in a Sentry would page nobody. Pure: an [`Inventory`] goes in, an [`Audit`] comes out. In a running bridge
//! [`task`] does this once a day.

mod finding;
pub(crate) mod reach;
mod saved;
pub mod task;

use std::collections::BTreeSet;

use serde::Serialize;

pub use finding::{Finding, Kind};
pub use saved::{Saved, SavedError};
pub use task::{AuditHandle, AuditReport, AuditStatus, AuditTask, Schedule};

use super::inventory::{Alerts, Inventory, ProjectInventory};
use super::ours::Bridge;
use super::types::Workflow;
use crate::config::Config;
use reach::{Obstacle, Reach, Target};

/// An alert that is quiet for more minutes than this after it fired is a finding.
const LONG_QUIET: u64 = 60;

/// What an audit expects of a Sentry.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The bridge's own address.
    pub bridge: Bridge,
    /// The environments that routes name.
    pub environments: BTreeSet<String>,
    /// The projects to audit; empty means all.
    pub projects: BTreeSet<String>,
}

impl Expected {
    /// Derives the expectations from the settings: any address with one of their tokens is the bridge's.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let environments = config.pagerduty_routes.iter().filter(|route| route.condition().name() == "environment");
        Self {
            bridge: Bridge { root: None, tokens: config.webhook_token.clone() },
            environments: environments.map(|route| route.condition().value().to_owned()).collect(),
            projects: BTreeSet::new(),
        }
    }
}

/// The result of an audit.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Audit {
    /// Every project that was audited.
    pub projects: Vec<ProjectAudit>,
    /// What is wrong, the worst kinds first.
    pub findings: Vec<Finding>,
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

/// Finds what would page nobody.
#[must_use]
pub fn audit(inventory: &Inventory, expected: &Expected) -> Audit {
    let reach = Reach::new(inventory, &expected.bridge);
    let mut audit = Audit { projects: Vec::new(), findings: Vec::new(), notes: notes(inventory) };
    for app in reach.apps() {
        for (kind, problem) in reach.app_obstacles(app) {
            audit.findings.push(Finding::new(kind, None, Some(&app.name), problem));
        }
    }
    let wanted =
        |entry: &&ProjectInventory| expected.projects.is_empty() || expected.projects.contains(&entry.project.slug);
    for entry in inventory.projects.iter().filter(wanted) {
        let project = match inventory.generation.alerts {
            Alerts::Rules => rules_of(&reach, entry, expected, &mut audit.findings),
            Alerts::Workflows => workflows_of(&reach, inventory, entry, expected, &mut audit.findings),
        };
        audit.projects.push(project);
    }
    if inventory.generation.alerts == Alerts::Workflows {
        let unconnected = |workflow: &&Workflow| workflow.detector_ids.is_empty() && reach.names_bridge(workflow);
        for workflow in inventory.workflows.iter().filter(unconnected) {
            let problem = "the alert is connected to no monitor, so that it never fires";
            audit.findings.push(Finding::new(Kind::FiresForNothing, None, Some(&workflow.name), problem));
        }
    }
    for (project, rule) in &inventory.unmigrated {
        let problem = "the rule was never migrated to an alert of the current kind and no longer fires";
        audit.findings.push(Finding::new(Kind::UnmigratedRule, Some(project), Some(rule), problem));
    }
    for sentence in &inventory.unseen {
        audit.findings.push(Finding::new(Kind::NotSeen, None, None, sentence.clone()));
    }
    dead_actions(inventory, &mut audit.findings);
    audit.findings.sort_by_key(|finding| finding.kind);
    // The same alert may cover many projects.
    audit.findings.dedup();
    audit
}

fn notes(inventory: &Inventory) -> Vec<String> {
    let mut notes = Vec::new();
    if inventory.hides_unmigrated_rules() {
        notes.push(
            "this Sentry makes its list of rules out of workflows: old rules that were never migrated are invisible here, \
             and fire no more. `audit --save` before an upgrade and `audit --against` after it find them"
                .to_owned(),
        );
    }
    let hidden = inventory.projects.iter().filter(|entry| !entry.project.has_access).count();
    if hidden > 0 {
        notes.push(format!("the owner of the token has no access to {hidden} of the listed projects"));
    }
    let by_plugin = inventory.projects.iter().any(|entry| entry.hook.as_ref().is_some_and(|hook| hook.enabled));
    if by_plugin {
        notes.push(
            "legacy webhooks never report that an issue was resolved: a bridge that runs with the token of `audit` asks \
             Sentry instead, some minutes later"
                .to_owned(),
        );
    }
    notes
}

fn rules_of(
    reach: &Reach<'_>,
    entry: &ProjectInventory,
    expected: &Expected,
    findings: &mut Vec<Finding>,
) -> ProjectAudit {
    let (mut alerts, slug) = (Vec::new(), entry.project.slug.as_str());
    for rule in entry.rules.iter().flatten() {
        let Some(obstacles) = reach.of_rule(entry, rule) else { continue };
        let alert = Alert {
            project: slug,
            name: &rule.name,
            environment: rule.environment.as_deref(),
            frequency: rule.frequency,
        };
        let judged = alert.judge(&obstacles, expected, findings);
        let mut apps = rule.actions.iter().filter_map(|action| match reach.of_rule_action(action) {
            Target::App(app) if reach.is_ours(app) => Some(app),
            _ => None,
        });
        if judged.pages
            && let Some(app) = apps.next()
            && !app.hears("issue.resolved")
        {
            find_never_resolves(slug, findings);
        }
        alerts.push(judged);
    }
    conclude(entry, alerts, "rule", findings)
}

fn workflows_of(
    reach: &Reach<'_>,
    inventory: &Inventory,
    entry: &ProjectInventory,
    expected: &Expected,
    findings: &mut Vec<Finding>,
) -> ProjectAudit {
    let mut alerts = Vec::new();
    let mut resolves = reach.apps().any(|app| app.hears("issue.resolved"));
    let (mut by_app, slug) = (false, entry.project.slug.as_str());
    for workflow in &inventory.workflows {
        let Some(obstacles) = reach.of_workflow(entry, workflow) else { continue };
        let alert = Alert {
            project: slug,
            name: &workflow.name,
            environment: workflow.environment.as_deref(),
            frequency: workflow.frequency,
        };
        let judged = alert.judge(&obstacles, expected, findings);
        if judged.pages {
            resolves |= workflow.triggers.iter().any(|trigger| trigger == "issue_resolved_trigger");
            by_app |= workflow.actions.iter().any(|action| action.kind == "sentry_app");
            if workflow.last_triggered.is_none() && entry.has_new_issues == Some(true) {
                let problem = "the alert never fired, although the project has issues of the last two weeks";
                findings.push(Finding::new(Kind::NeverFired, Some(slug), Some(&workflow.name), problem));
            }
        }
        alerts.push(judged);
    }
    if by_app && !resolves {
        find_never_resolves(slug, findings);
    }
    conclude(entry, alerts, "alert", findings)
}

fn find_never_resolves(project: &str, findings: &mut Vec<Finding>) {
    let problem = "alerts open incidents, and nothing tells the bridge that an issue is resolved";
    findings.push(Finding::new(Kind::NeverResolves, Some(project), None, problem));
}

struct Alert<'a> {
    project: &'a str,
    name: &'a str,
    environment: Option<&'a str>,
    frequency: Option<u64>,
}

impl Alert<'_> {
    fn judge(&self, obstacles: &[Obstacle], expected: &Expected, findings: &mut Vec<Finding>) -> AlertAudit {
        let mut find = |kind, problem: String| {
            findings.push(Finding::new(kind, Some(self.project), Some(self.name), problem));
        };
        // What is wrong with an integration is reported once, for the integration.
        for (kind, problem) in obstacles.iter().filter(|(kind, _)| *kind != Kind::AppTrouble) {
            find(*kind, problem.clone());
        }
        if obstacles.is_empty() {
            if let Some(environment) = self.environment
                && !expected.environments.contains(environment)
            {
                find(
                    Kind::OneEnvironment,
                    format!("it fires for the environment `{environment}` alone, which no route names"),
                );
            }
            if let Some(minutes) = self.frequency.filter(|minutes| *minutes > LONG_QUIET) {
                find(Kind::Quiet, format!("after it fired for an issue it is quiet about it for {minutes} minutes"));
            }
        }
        AlertAudit { name: self.name.to_owned(), pages: obstacles.is_empty() }
    }
}

fn conclude(
    entry: &ProjectInventory,
    alerts: Vec<AlertAudit>,
    what: &str,
    findings: &mut Vec<Finding>,
) -> ProjectAudit {
    let pages = alerts.iter().any(|alert| alert.pages);
    if !pages {
        let names: Vec<_> = alerts.iter().map(|alert| format!("\"{}\"", alert.name)).collect();
        let problem = match names.as_slice() {
            [] => format!("no {what} of it calls the bridge"),
            names => format!("these alerts should call the bridge and do not reach it: {}", names.join(", ")),
        };
        let mut finding = Finding::new(Kind::ProjectWithoutPage, Some(&entry.project.slug), None, problem);
        if !names.is_empty() {
            finding.remedy = "fix the findings below about these alerts or their integration";
        }
        findings.push(finding);
    }
    ProjectAudit { project: entry.project.slug.clone(), pages, alerts }
}

/// Adds findings for actions of plugins: Sentry refuses new ones, and most of the old ones do nothing.
fn dead_actions(inventory: &Inventory, findings: &mut Vec<Finding>) {
    for workflow in inventory.workflows.iter().filter(|workflow| workflow.enabled) {
        if workflow.actions.iter().any(|action| action.kind == "plugin") {
            let problem = "one of its actions is that of a legacy plugin, which Sentry mostly does not run any more";
            findings.push(Finding::new(Kind::DeadAction, None, Some(&workflow.name), problem));
        }
    }
}
