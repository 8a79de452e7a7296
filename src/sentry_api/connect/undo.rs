//! Reverts what `connect` made: the objects that have its name, and the bridge's address and actions.

use serde_json::Value;

use super::super::audit::reach::{AlertActionTarget, CANARY, NAME};
use super::super::inventory::Inventory;
use super::super::types::{AlertRuleAction, AlertSystem, JsonObject, SentryProject, WorkflowAction};
use super::plan::{Planner, canary_project, chosen};
use super::{ConnectOptions, ConnectPlan, ConnectStep, PlanError};

/// Plans the steps that revert what `connect` made.
///
/// Rules and workflows with the names that `connect` gives are deleted, and so is its integration if no project was named.
/// The bridge's address is removed from the lists that contain it; if it was the only address, the legacy webhooks are
/// disabled. Other alerts lose the action that calls the integration and, if they are named in [`ConnectOptions::extend`],
/// the action that calls legacy webhooks. With [`ConnectOptions::canary`] only the canary's alert is reverted.
///
/// # Errors
///
/// When a project does not exist, or the token does not see enough.
pub fn undo(inventory: &Inventory, options: &ConnectOptions) -> Result<ConnectPlan, PlanError> {
    let projects = chosen(inventory, options)?;
    if let Some(sentence) = inventory.unseen.first() {
        return Err(PlanError::NotSeen(sentence.clone()));
    }
    // If the canary is named, only its alert is removed: everything else still pages.
    let canary_alone = canary_project(inventory, options)?;
    let mut undo = Planner::new(inventory, options);
    if let Some((entry, _)) = canary_alone {
        undo.remove_rules(entry);
        undo.remove_workflows();
        return Ok(undo.plan);
    }
    for entry in &projects {
        undo.remove_rules(entry);
    }
    // A workflow may serve many projects, so it is reverted only together with all of them.
    if options.projects.is_empty() {
        undo.remove_workflows();
    } else if inventory.workflows.iter().any(|workflow| undo.reach.names_bridge(workflow)) {
        undo.plan
            .notes
            .push("alerts and integration of the organization stay: leave out --project to take them back".to_owned());
    }
    for entry in &projects {
        undo.remove_hook(entry);
    }
    if options.projects.is_empty() {
        for app in inventory.apps.iter().filter(|app| app.name == NAME && app.status == "internal") {
            let is_bridge = app.webhook_url.as_deref().is_some_and(|url| options.bridge.matches(url));
            if is_bridge {
                undo.plan.steps.push(ConnectStep::DeleteApp { slug: app.slug.clone() });
            } else {
                undo.plan.notes.push(format!("the integration \"{NAME}\" posts elsewhere and stays"));
            }
        }
    }
    Ok(undo.plan)
}

/// Whether `connect` gives this name to an alert of the bridge's own.
fn is_own(alert: &str) -> bool {
    alert == NAME || alert == CANARY
}

impl Planner<'_> {
    /// Whether this undo removes an action of the alert `alert`.
    fn removes(&self, found: AlertActionTarget<'_>, alert: &str) -> bool {
        match found {
            AlertActionTarget::App(app) => app.name == NAME && self.reach.is_bridge_app(app),
            AlertActionTarget::Legacy => is_own(alert) || self.options.extend.iter().any(|name| name == alert),
            AlertActionTarget::Other => false,
        }
    }

    fn remove_rules(&mut self, entry: &SentryProject) {
        let project = &entry.slug;
        let takes = |name: &str| self.options.canary.is_none() || name == CANARY;
        for rule in entry.rules.iter().flatten().filter(|rule| takes(&rule.name)) {
            let goes = |action: &AlertRuleAction| self.removes(self.reach.of_rule_action(action), &rule.name);
            let going: Vec<bool> = rule.actions.iter().map(goes).collect();
            let (id, name) = (rule.id.clone(), rule.name.clone());
            let all_go = going.iter().all(|goes| *goes);
            match (going.contains(&true), all_go) {
                (false, _) => {}
                (true, true) if is_own(&rule.name) => {
                    self.plan.steps.push(ConnectStep::DeleteRule { project: project.clone(), id, name });
                }
                (true, true) => {
                    let note =
                        format!("{project}: the rule \"{name}\" does nothing but call the bridge; delete it in Sentry");
                    self.plan.notes.push(note);
                }
                (true, false) => {
                    let mut raw = rule.raw.clone();
                    drop_actions(&mut raw, &going);
                    self.plan.steps.push(ConnectStep::ReduceRule { project: project.clone(), id, name, raw });
                }
            }
        }
    }

    fn remove_workflows(&mut self) {
        let takes = |name: &str| self.options.canary.is_none() || name == CANARY;
        for workflow in self.inventory.workflows.iter().filter(|workflow| takes(&workflow.name)) {
            let goes = |action: &WorkflowAction| self.removes(self.reach.of_workflow_action(action), &workflow.name);
            let going: Vec<bool> = workflow.actions.iter().map(goes).collect();
            let (id, name) = (workflow.id.clone(), workflow.name.clone());
            let all_go = going.iter().all(|goes| *goes);
            match (going.contains(&true), all_go) {
                (false, _) => {}
                (true, true) if is_own(&workflow.name) => {
                    self.plan.steps.push(ConnectStep::DeleteWorkflow { id, name });
                }
                (true, true) => {
                    self.plan
                        .notes
                        .push(format!("the alert \"{name}\" does nothing but call the bridge; delete it in Sentry"));
                }
                (true, false) => {
                    let mut raw = workflow.raw.clone();
                    // `going` covers the actions of all filters, one after the other.
                    let mut going = going.as_slice();
                    for filter in raw.get_mut("actionFilters").and_then(Value::as_array_mut).into_iter().flatten() {
                        let number = filter["actions"].as_array().map_or(0, Vec::len);
                        let (here, rest) = going.split_at(number.min(going.len()));
                        if let Some(filter) = filter.as_object_mut() {
                            drop_actions(filter, here);
                        }
                        going = rest;
                    }
                    self.plan.steps.push(ConnectStep::ReduceWorkflow { id, name, raw });
                }
            }
        }
    }

    fn remove_hook(&mut self, entry: &SentryProject) {
        let project = entry.slug.clone();
        let Some(hook) = &entry.hook else { return };
        let (own, others): (Vec<String>, Vec<String>) =
            hook.urls.iter().cloned().partition(|url| self.options.bridge.matches(url));
        let Some(url) = own.into_iter().next() else { return };
        let alerts = hook.alerts;
        // It is not known what the endpoint of 2026 does with an empty list, so the address stays in the list and the
        // webhooks are disabled.
        if others.is_empty() && alerts == AlertSystem::Workflows {
            self.plan.steps.push(ConnectStep::DisableHook { project, alerts });
            return;
        }
        let alone = others.is_empty();
        self.plan.steps.push(ConnectStep::SetUrls {
            project: project.clone(),
            alerts,
            url,
            urls: others,
            added: false,
            enabled: hook.enabled,
        });
        if alone && hook.enabled {
            self.plan.steps.push(ConnectStep::DisableHook { project, alerts });
        }
    }
}

/// Removes the actions whose entry in `going` is true.
fn drop_actions(holder: &mut JsonObject, going: &[bool]) {
    if let Some(actions) = holder.get_mut("actions").and_then(Value::as_array_mut) {
        let mut going = going.iter();
        actions.retain(|_| !going.next().copied().unwrap_or(false));
    }
}
