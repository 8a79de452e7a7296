//! Plans what is missing for Sentry to call the bridge.

use serde_json::Value;
use url::{Host, Url};

use super::super::address::{AddressMatch, WebhookKind, masked};
use super::super::audit::reach::{AlertActionTarget, BridgeReach, CANARY, NAME};
use super::super::inventory::Inventory;
use super::super::types::{AlertRule, AlertSystem, JsonObject, SentryProject, Workflow};
use super::step::noun;
use super::{CanaryAlert, ConnectOptions, ConnectPlan, ConnectStep, PlanError, TestWebhook};

/// Plans what is missing.
///
/// # Errors
///
/// When what was asked for cannot be done on this Sentry, or with this token.
pub fn plan(inventory: &Inventory, options: &ConnectOptions) -> Result<ConnectPlan, PlanError> {
    let projects = chosen(inventory, options)?;
    if projects.is_empty() {
        return Err(PlanError::NoProjects);
    }
    // If the token sees only a part of what exists, objects would be created twice.
    if let Some(sentence) = inventory.unseen.first() {
        return Err(PlanError::NotSeen(sentence.clone()));
    }
    let canary = canary_project(inventory, options)?;
    let mut planner = Planner::new(inventory, options);
    let webhooks = options.webhooks(inventory);
    match webhooks {
        WebhookKind::Legacy => {
            let url = options.address_with_token().ok_or(PlanError::NoToken)?;
            if options.root.scheme() == "http" && !is_loopback(&options.root) {
                planner
                    .plan
                    .notes
                    .push("the address is plain `http`: anyone on the network path can read its token".to_owned());
            }
            let also = canary.iter().map(|(entry, _)| *entry).filter(|entry| !projects.contains(entry));
            for entry in projects.iter().copied().chain(also) {
                planner.hook(entry, &url)?;
            }
        }
        WebhookKind::Integration => planner.app()?,
    }
    for name in &options.extend {
        if !planner.is_alert(name, &projects) {
            return Err(PlanError::NoAlert(name.clone()));
        }
    }
    match inventory.alerts {
        AlertSystem::Rules => projects.iter().for_each(|entry| planner.rules(entry, webhooks)),
        AlertSystem::Workflows => planner.workflows(&projects, webhooks),
    }
    if let Some((entry, alert)) = canary {
        planner.canary(entry, alert, webhooks);
    }
    planner.plan.test = match (inventory.alerts, webhooks) {
        (AlertSystem::Rules, WebhookKind::Legacy) => {
            projects.first().map(|entry| TestWebhook::Plugin { project: entry.slug.clone() })
        }
        (AlertSystem::Workflows, WebhookKind::Integration) => Some(TestWebhook::Action(webhooks)),
        // The sample event belongs to the first project, and is sent to the legacy webhooks of that project.
        (AlertSystem::Workflows, WebhookKind::Legacy) => {
            let first = inventory.projects.first().map(|entry| &entry.slug);
            projects.iter().any(|entry| Some(&entry.slug) == first).then_some(TestWebhook::Action(webhooks))
        }
        (AlertSystem::Rules, WebhookKind::Integration) => {
            projects.first().map(|entry| TestWebhook::RuleAction { project: entry.slug.clone() })
        }
    };
    Ok(planner.plan)
}

/// The projects that were asked for, or all.
pub(super) fn chosen<'a>(
    inventory: &'a Inventory,
    options: &ConnectOptions,
) -> Result<Vec<&'a SentryProject>, PlanError> {
    let is_there = |slug: &&String| !inventory.projects.iter().any(|entry| entry.slug == **slug);
    if let Some(slug) = options.projects.iter().find(is_there) {
        return Err(PlanError::NoProject(slug.clone()));
    }
    let wanted = |entry: &&SentryProject| options.projects.is_empty() || options.projects.contains(&entry.slug);
    Ok(inventory.projects.iter().filter(wanted).collect())
}

/// The project that the canary is sent to, and its alert, if there should be one.
///
/// # Errors
///
/// When the token does not see the project.
pub(super) fn canary_project<'a>(
    inventory: &'a Inventory,
    options: &'a ConnectOptions,
) -> Result<Option<(&'a SentryProject, &'a CanaryAlert)>, PlanError> {
    let Some(alert) = &options.canary else { return Ok(None) };
    let found = inventory.projects.iter().find(|entry| entry.id == alert.project_id);
    found.map(|entry| Some((entry, alert))).ok_or_else(|| PlanError::NoCanaryProject(alert.project_id.clone()))
}

/// Makes a plan, or one that reverts it.
pub(super) struct Planner<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) options: &'a ConnectOptions,
    pub(super) reach: BridgeReach<'a>,
    pub(super) plan: ConnectPlan,
}

impl<'a> Planner<'a> {
    pub(super) fn new(inventory: &'a Inventory, options: &'a ConnectOptions) -> Self {
        let reach = BridgeReach::new(inventory, &options.bridge);
        Self { inventory, options, reach, plan: ConnectPlan::default() }
    }

    /// Whether an existing action calls the bridge by these webhooks.
    fn calls(&self, action: AlertActionTarget<'_>, webhooks: WebhookKind) -> bool {
        match (action, webhooks) {
            (AlertActionTarget::Legacy, WebhookKind::Legacy) => true,
            (AlertActionTarget::App(app), WebhookKind::Integration) => self.reach.is_bridge_app(app),
            _ => false,
        }
    }

    fn hook(&mut self, entry: &SentryProject, url: &str) -> Result<(), PlanError> {
        let project = entry.slug.clone();
        let hook = entry.hook.as_ref().ok_or_else(|| PlanError::NoHook(project.clone()))?;
        let alerts = hook.alerts;
        let judged: Vec<AddressMatch> = hook.urls.iter().map(|url| self.options.bridge.classify(url)).collect();
        let is_there = judged.contains(&AddressMatch::Bridge);
        if !is_there {
            if judged.contains(&AddressMatch::WrongToken) {
                self.plan.notes.push(format!(
                    "{project}: its WebHooks have the bridge's address with a token that the bridge does not know; it stays, \
                     take it out in Sentry"
                ));
            }
            let urls: Vec<String> = hook.urls.iter().cloned().chain([url.to_owned()]).collect();
            let url = url.to_owned();
            self.plan.steps.push(ConnectStep::SetUrls {
                project: project.clone(),
                alerts,
                url,
                urls,
                added: true,
                enabled: true,
            });
        }
        // The endpoint of 2026 enables the webhooks in the same request that sets their addresses.
        if !hook.enabled && (is_there || alerts == AlertSystem::Rules) {
            self.plan.steps.push(ConnectStep::EnableHook { project, alerts });
        }
        Ok(())
    }

    fn app(&mut self) -> Result<(), PlanError> {
        if !self.inventory.has_apps {
            return Err(PlanError::NoApps);
        }
        let (events, resources) = self.events();
        let ours = self
            .reach
            .apps()
            .find(|app| app.webhook_url.as_deref().is_some_and(|url| self.options.bridge.matches(url)));
        let Some(app) = ours else {
            if let Some(other) = self.reach.apps().find(|app| app.name == NAME) {
                let url = other.webhook_url.as_deref().map_or_else(|| "nowhere".to_owned(), masked);
                return Err(PlanError::AppElsewhere { name: other.name.clone(), url });
            }
            let url = self.options.address();
            self.plan.steps.push(ConnectStep::CreateApp { name: NAME.to_owned(), url, events, resources });
            return Ok(());
        };
        let lacks = |event: &&String| !app.hears(event);
        let lacking: Vec<String> = events.iter().filter(lacks).cloned().collect();
        if !app.is_alertable || !lacking.is_empty() {
            let own = if app.webhook_events.is_empty() { &app.events } else { &app.webhook_events };
            self.plan.steps.push(ConnectStep::UpdateApp {
                slug: app.slug.clone(),
                name: app.name.clone(),
                scopes: app.scopes.clone(),
                events: own.iter().cloned().chain(lacking).collect(),
            });
        }
        if app.is_disabled {
            self.plan
                .notes
                .push(format!("Sentry has disabled the integration \"{}\": enable it on its page", app.name));
        }
        if self.options.wants_secret {
            self.plan.steps.push(ConnectStep::ReadSecret { slug: app.slug.clone() });
        }
        Ok(())
    }

    /// The integration's subscriptions: as single events if this Sentry supports them, and as whole resources.
    fn events(&self) -> (Vec<String>, Vec<String>) {
        let errors = self.options.errors.then(|| "error".to_owned());
        let resources: Vec<String> = ["issue".to_owned()].into_iter().chain(errors.clone()).collect();
        let singles =
            ["issue.resolved", "issue.unresolved"].into_iter().chain(self.options.issue_events.iter().copied());
        let singles: Vec<String> = singles.map(str::to_owned).chain(errors).collect();
        match self.inventory.alerts {
            AlertSystem::Rules => (resources.clone(), resources),
            AlertSystem::Workflows => (singles, resources),
        }
    }

    fn is_alert(&self, name: &str, projects: &[&SentryProject]) -> bool {
        match self.inventory.alerts {
            AlertSystem::Rules => {
                projects.iter().flat_map(|entry| entry.rules.iter().flatten()).any(|rule| rule.name == name)
            }
            AlertSystem::Workflows => self.inventory.workflows.iter().any(|workflow| workflow.name == name),
        }
    }

    fn rules(&mut self, entry: &SentryProject, webhooks: WebhookKind) {
        let project = &entry.slug;
        let rules = || entry.rules.iter().flatten();
        let calls = |rule: &AlertRule| {
            rule.name != CANARY
                && rule.actions.iter().any(|action| self.calls(self.reach.of_rule_action(action), webhooks))
        };
        let mut steps = Vec::new();
        for rule in rules().filter(|rule| self.options.extend.contains(&rule.name) && !calls(rule)) {
            steps.push(ConnectStep::ExtendRule {
                project: project.clone(),
                id: rule.id.clone(),
                name: rule.name.clone(),
                webhooks,
                raw: rule.raw.clone(),
            });
        }
        let calling = rules().find(|rule| calls(rule));
        match calling {
            None if steps.is_empty() => steps.push(ConnectStep::CreateRule {
                project: project.clone(),
                name: NAME.to_owned(),
                webhooks,
                filters: self.inventory.has_apps,
            }),
            Some(rule) if !rule.active => {
                let what = noun(AlertSystem::Rules);
                let note =
                    format!("{project}: the {what} \"{}\" calls the bridge and is disabled; it stays so", rule.name);
                self.plan.notes.push(note);
            }
            _ => {}
        }
        self.plan.steps.append(&mut steps);
    }

    fn workflows(&mut self, projects: &[&SentryProject], webhooks: WebhookKind) {
        let calls = |workflow: &Workflow| {
            workflow.name != CANARY
                && workflow.actions.iter().any(|action| self.calls(self.reach.of_workflow_action(action), webhooks))
        };
        let mut steps = Vec::new();
        let mut extended = Vec::new();
        for workflow in &self.inventory.workflows {
            if self.options.extend.contains(&workflow.name) && !calls(workflow) {
                extended.push(workflow);
                steps.push(ConnectStep::ExtendWorkflow {
                    id: workflow.id.clone(),
                    name: workflow.name.clone(),
                    webhooks,
                    raw: workflow.raw.clone(),
                });
            }
        }
        let calling = || self.inventory.workflows.iter().filter(|workflow| calls(workflow));
        let covers = |workflow: &Workflow, entry: &SentryProject| {
            self.reach.detectors(workflow).any(|detector| detector.project_id.as_ref().is_none_or(|id| *id == entry.id))
        };
        let is_covered =
            |entry: &SentryProject| calling().chain(extended.iter().copied()).any(|workflow| covers(workflow, entry));
        let (mut slugs, mut detectors) = (Vec::new(), Vec::new());
        let mut notes = Vec::new();
        for entry in projects.iter().filter(|entry| !is_covered(entry)) {
            match self.inventory.detector_of(&entry.id) {
                Some(detector) => {
                    slugs.push(entry.slug.clone());
                    detectors.push(detector);
                }
                None => {
                    notes.push(format!("{}: it has no monitor that an alert could be connected to", entry.slug));
                }
            }
        }
        for workflow in calling().filter(|workflow| !workflow.enabled) {
            notes.push(format!("the alert \"{}\" calls the bridge and is disabled; it stays so", workflow.name));
        }
        if !detectors.is_empty() {
            steps.push(match calling().find(|workflow| workflow.name == NAME) {
                None => ConnectStep::CreateWorkflow { name: NAME.to_owned(), projects: slugs, detectors, webhooks },
                Some(workflow) => {
                    let mut raw = workflow.raw.clone();
                    let all: Vec<String> = workflow.detector_ids.iter().cloned().chain(detectors).collect();
                    raw.insert("detectorIds".to_owned(), all.into());
                    ConnectStep::ConnectDetectors {
                        id: workflow.id.clone(),
                        name: workflow.name.clone(),
                        projects: slugs,
                        raw,
                    }
                }
            });
        }
        self.plan.steps.append(&mut steps);
        self.plan.notes.append(&mut notes);
    }

    /// Plans the canary's alert, if it is missing.
    fn canary(&mut self, entry: &SentryProject, alert: &CanaryAlert, webhooks: WebhookKind) {
        let (project, tag) = (entry.slug.clone(), alert.tag.clone());
        match self.inventory.alerts {
            AlertSystem::Rules => {
                let mut rules = entry.rules.iter().flatten();
                let found = rules.find(|rule| {
                    let calls =
                        rule.actions.iter().any(|action| self.calls(self.reach.of_rule_action(action), webhooks));
                    rule.name == CANARY && has_value(&rule.raw, &tag) && calls
                });
                match found {
                    None => self.plan.steps.push(ConnectStep::CreateCanaryRule { project, tag, webhooks }),
                    Some(rule) if !rule.active => {
                        let what = noun(AlertSystem::Rules);
                        self.plan.notes.push(format!("{project}: the {what} \"{CANARY}\" is disabled; it stays so"));
                    }
                    Some(_) => {}
                }
            }
            AlertSystem::Workflows => {
                let is_connected = |id: &str| {
                    let mut detectors = self.inventory.detectors.iter();
                    detectors.any(|one| one.id == id && one.project_id.as_ref() == Some(&entry.id))
                };
                let found = self.inventory.workflows.iter().find(|workflow| {
                    let mut actions = workflow.actions.iter();
                    let calls = actions.any(|action| self.calls(self.reach.of_workflow_action(action), webhooks));
                    let connected = workflow.detector_ids.iter().any(|id| is_connected(id));
                    workflow.name == CANARY && has_value(&workflow.raw, &tag) && calls && connected
                });
                match (found, self.inventory.detector_of(&entry.id)) {
                    (Some(workflow), _) => {
                        if !workflow.enabled {
                            self.plan.notes.push(format!("the alert \"{CANARY}\" is disabled; it stays so"));
                        }
                    }
                    (None, Some(detector)) => {
                        self.plan.steps.push(ConnectStep::CreateCanaryWorkflow { project, detector, tag, webhooks });
                    }
                    (None, None) => {
                        self.plan
                            .notes
                            .push(format!("{project}: it has no monitor that an alert could be connected to"));
                    }
                }
            }
        }
    }
}

/// Whether a rule or workflow contains this value anywhere. The value is a digest, so no other text is equal to it.
fn has_value(raw: &JsonObject, tag: &str) -> bool {
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

/// Whether an address is a loopback address, so that nobody in between can read the token.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
