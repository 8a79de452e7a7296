//! Finds what in a Sentry would page nobody. Pure: an [`Inventory`] goes in, a [`SentryAudit`] comes out. In a running bridge
//! [`task`] does this once a day.

pub(crate) mod reach;
mod result;
pub mod task;

use std::collections::BTreeSet;

pub use result::{AlertAudit, AuditFinding, FindingKind, ProjectAudit, SavedAudit, SavedAuditError, SentryAudit};
pub use task::{AuditReport, AuditSchedule, AuditStatus, AuditTask};

use super::address::BridgeAddress;
use super::inventory::Inventory;
use super::types::{AlertSystem, SentryProject, Workflow};
use crate::config::Config;
use reach::{AlertActionTarget, BridgeReach, Obstacle};

/// An alert that is quiet for more minutes than this after it fired is a finding.
const LONG_QUIET: u64 = 60;

/// What an audit expects of a Sentry.
#[derive(Clone, Debug, Default)]
pub struct AuditSettings {
    /// The bridge's own address.
    pub bridge: BridgeAddress,
    /// The environments that routes name.
    pub environments: BTreeSet<String>,
    /// The projects to audit; empty means all.
    pub projects: BTreeSet<String>,
}

impl AuditSettings {
    /// Derives the expectations from the settings: any address with one of their tokens is the bridge's.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let environments = config.pagerduty_routes.iter().filter(|route| route.condition().name() == "environment");
        Self {
            bridge: BridgeAddress { root: None, tokens: config.webhook_token.clone() },
            environments: environments.map(|route| route.condition().value().to_owned()).collect(),
            projects: BTreeSet::new(),
        }
    }
}

/// Finds what would page nobody.
#[must_use]
pub fn audit(inventory: &Inventory, expected: &AuditSettings) -> SentryAudit {
    let reach = BridgeReach::new(inventory, &expected.bridge);
    let mut audit = SentryAudit { projects: Vec::new(), findings: Vec::new(), notes: notes(inventory) };
    for app in reach.apps() {
        for (kind, problem) in reach.app_obstacles(app) {
            audit.findings.push(AuditFinding::new(kind, None, Some(&app.name), problem));
        }
    }
    let wanted = |project: &&SentryProject| expected.projects.is_empty() || expected.projects.contains(&project.slug);
    for project in inventory.projects.iter().filter(wanted) {
        let project = match inventory.alerts {
            AlertSystem::Rules => rules_of(&reach, project, expected, &mut audit.findings),
            AlertSystem::Workflows => workflows_of(&reach, inventory, project, expected, &mut audit.findings),
        };
        audit.projects.push(project);
    }
    if inventory.alerts == AlertSystem::Workflows {
        let unconnected = |workflow: &&Workflow| workflow.detector_ids.is_empty() && reach.names_bridge(workflow);
        for workflow in inventory.workflows.iter().filter(unconnected) {
            let problem = "the alert is connected to no monitor, so that it never fires";
            audit.findings.push(AuditFinding::new(FindingKind::FiresForNothing, None, Some(&workflow.name), problem));
        }
    }
    for (project, rule) in &inventory.unmigrated {
        let problem = "the rule was never migrated to an alert of the current kind and no longer fires";
        audit.findings.push(AuditFinding::new(FindingKind::UnmigratedRule, Some(project), Some(rule), problem));
    }
    for sentence in &inventory.unseen {
        audit.findings.push(AuditFinding::new(FindingKind::NotSeen, None, None, sentence.clone()));
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
    let hidden = inventory.projects.iter().filter(|project| !project.has_access).count();
    if hidden > 0 {
        notes.push(format!("the owner of the token has no access to {hidden} of the listed projects"));
    }
    let by_plugin = inventory.projects.iter().any(|project| project.hook.as_ref().is_some_and(|hook| hook.enabled));
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
    reach: &BridgeReach<'_>,
    project: &SentryProject,
    expected: &AuditSettings,
    findings: &mut Vec<AuditFinding>,
) -> ProjectAudit {
    let (mut alerts, slug) = (Vec::new(), project.slug.as_str());
    for rule in project.rules.iter().flatten() {
        let Some(obstacles) = reach.of_rule(project, rule) else { continue };
        let alert = AuditedAlert {
            project: slug,
            name: &rule.name,
            environment: rule.environment.as_deref(),
            frequency: rule.frequency,
        };
        let judged = alert.judge(&obstacles, expected, findings);
        let mut apps = rule.actions.iter().filter_map(|action| match reach.of_rule_action(action) {
            AlertActionTarget::App(app) if reach.is_bridge_app(app) => Some(app),
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
    conclude(project, alerts, "rule", findings)
}

fn workflows_of(
    reach: &BridgeReach<'_>,
    inventory: &Inventory,
    project: &SentryProject,
    expected: &AuditSettings,
    findings: &mut Vec<AuditFinding>,
) -> ProjectAudit {
    let mut alerts = Vec::new();
    let mut resolves = reach.apps().any(|app| app.hears("issue.resolved"));
    let (mut by_app, slug) = (false, project.slug.as_str());
    for workflow in &inventory.workflows {
        let Some(obstacles) = reach.of_workflow(project, workflow) else { continue };
        let alert = AuditedAlert {
            project: slug,
            name: &workflow.name,
            environment: workflow.environment.as_deref(),
            frequency: workflow.frequency,
        };
        let judged = alert.judge(&obstacles, expected, findings);
        if judged.pages {
            resolves |= workflow.triggers.iter().any(|trigger| trigger == "issue_resolved_trigger");
            by_app |= workflow.actions.iter().any(|action| action.kind == "sentry_app");
            if workflow.last_triggered.is_none() && project.has_new_issues == Some(true) {
                let problem = "the alert never fired, although the project has issues of the last two weeks";
                findings.push(AuditFinding::new(FindingKind::NeverFired, Some(slug), Some(&workflow.name), problem));
            }
        }
        alerts.push(judged);
    }
    if by_app && !resolves {
        find_never_resolves(slug, findings);
    }
    conclude(project, alerts, "alert", findings)
}

fn find_never_resolves(project: &str, findings: &mut Vec<AuditFinding>) {
    let problem = "alerts open incidents, and nothing tells the bridge that an issue is resolved";
    findings.push(AuditFinding::new(FindingKind::NeverResolves, Some(project), None, problem));
}

struct AuditedAlert<'a> {
    project: &'a str,
    name: &'a str,
    environment: Option<&'a str>,
    frequency: Option<u64>,
}

impl AuditedAlert<'_> {
    fn judge(&self, obstacles: &[Obstacle], expected: &AuditSettings, findings: &mut Vec<AuditFinding>) -> AlertAudit {
        let mut find = |kind, problem: String| {
            findings.push(AuditFinding::new(kind, Some(self.project), Some(self.name), problem));
        };
        // What is wrong with an integration is reported once, for the integration.
        for (kind, problem) in obstacles.iter().filter(|(kind, _)| *kind != FindingKind::AppTrouble) {
            find(*kind, problem.clone());
        }
        if obstacles.is_empty() {
            if let Some(environment) = self.environment
                && !expected.environments.contains(environment)
            {
                find(
                    FindingKind::OneEnvironment,
                    format!("it fires for the environment `{environment}` alone, which no route names"),
                );
            }
            if let Some(minutes) = self.frequency.filter(|minutes| *minutes > LONG_QUIET) {
                find(
                    FindingKind::Quiet,
                    format!("after it fired for an issue it is quiet about it for {minutes} minutes"),
                );
            }
        }
        AlertAudit { name: self.name.to_owned(), pages: obstacles.is_empty() }
    }
}

fn conclude(
    project: &SentryProject,
    alerts: Vec<AlertAudit>,
    what: &str,
    findings: &mut Vec<AuditFinding>,
) -> ProjectAudit {
    let pages = alerts.iter().any(|alert| alert.pages);
    if !pages {
        let names: Vec<_> = alerts.iter().map(|alert| format!("\"{}\"", alert.name)).collect();
        let problem = match names.as_slice() {
            [] => format!("no {what} of it calls the bridge"),
            names => format!("these alerts should call the bridge and do not reach it: {}", names.join(", ")),
        };
        let mut finding = AuditFinding::new(FindingKind::ProjectWithoutPage, Some(&project.slug), None, problem);
        if !names.is_empty() {
            finding.remedy = "fix the findings below about these alerts or their integration";
        }
        findings.push(finding);
    }
    ProjectAudit { project: project.slug.clone(), pages, alerts }
}

/// Adds findings for actions of plugins: Sentry refuses new ones, and most of the old ones do nothing.
fn dead_actions(inventory: &Inventory, findings: &mut Vec<AuditFinding>) {
    for workflow in inventory.workflows.iter().filter(|workflow| workflow.enabled) {
        if workflow.actions.iter().any(|action| action.kind == "plugin") {
            let problem = "one of its actions is that of a legacy plugin, which Sentry mostly does not run any more";
            findings.push(AuditFinding::new(FindingKind::DeadAction, None, Some(&workflow.name), problem));
        }
    }
}
