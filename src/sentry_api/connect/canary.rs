//! The canary's alert: finds its project, and plans the step that creates it if it is missing.

use serde_json::Value;

use super::super::audit::reach::{CANARY, Reach, Target};
use super::super::inventory::{Alerts, Inventory, ProjectInventory};
use super::super::types::Object;
use super::{AlertTarget, CanaryWish, PlanError, Step, noun};

/// The project that the canary is sent to.
///
/// # Errors
///
/// When the token does not see it.
pub(super) fn project<'a>(inventory: &'a Inventory, wish: &CanaryWish) -> Result<&'a ProjectInventory, PlanError> {
    let found = inventory.projects.iter().find(|entry| entry.project.id == wish.project);
    found.ok_or_else(|| PlanError::NoCanaryProject(wish.project.clone()))
}

/// Returns the step that creates the alert, if it is missing, and a note on what is left as it is, and why.
pub(super) fn missing(
    inventory: &Inventory,
    reach: &Reach<'_>,
    entry: &ProjectInventory,
    wish: &CanaryWish,
    target: AlertTarget,
) -> (Option<Step>, Option<String>) {
    let project = entry.project.slug.clone();
    let tag = wish.tag.clone();
    match inventory.generation.alerts {
        Alerts::Rules => {
            let mut rules = entry.rules.iter().flatten();
            let found = rules.find(|rule| {
                let calls = rule.actions.iter().any(|action| target.is(reach.of_rule_action(action), reach));
                rule.name == CANARY && asks_for(&rule.raw, &tag) && calls
            });
            let off = found.filter(|rule| !rule.active);
            let what = noun(Alerts::Rules);
            let note = off.map(|_| format!("{project}: the {what} \"{CANARY}\" is disabled; it stays so"));
            (found.is_none().then_some(Step::CreateCanaryRule { project, tag, target }), note)
        }
        Alerts::Workflows => {
            let is_connected = |id: &str| {
                inventory.detectors.iter().any(|one| one.id == id && one.project_id.as_ref() == Some(&entry.project.id))
            };
            let found = inventory.workflows.iter().find(|workflow| {
                let calls = workflow.actions.iter().any(|action| target.is(reach.of_workflow_action(action), reach));
                let connected = workflow.detector_ids.iter().any(|id| is_connected(id));
                workflow.name == CANARY && asks_for(&workflow.raw, &tag) && calls && connected
            });
            if let Some(workflow) = found {
                let note = (!workflow.enabled).then(|| format!("the alert \"{CANARY}\" is disabled; it stays so"));
                return (None, note);
            }
            match inventory.detector_of(&entry.project.id) {
                Some(detector) => (Some(Step::CreateCanaryWorkflow { project, detector, tag, target }), None),
                None => (None, Some(format!("{project}: it has no monitor that an alert could be connected to"))),
            }
        }
    }
}

/// Whether a rule or workflow contains this value anywhere. The value is a digest, so no other text is equal to it.
fn asks_for(raw: &Object, tag: &str) -> bool {
    fn has(value: &Value, tag: &str) -> bool {
        match value {
            Value::String(text) => text == tag,
            Value::Array(values) => values.iter().any(|value| has(value, tag)),
            Value::Object(members) => members.values().any(|value| has(value, tag)),
            _ => false,
        }
    }
    raw.values().any(|value| has(value, tag))
}

impl AlertTarget {
    /// Whether an existing action calls this target.
    pub(super) fn is(self, found: Target<'_>, reach: &Reach<'_>) -> bool {
        match (found, self) {
            (Target::Legacy, Self::Legacy) => true,
            (Target::App(app), Self::App) => reach.is_ours(app),
            _ => false,
        }
    }
}
