//! Plans what is missing for Sentry to call the bridge.

use url::{Host, Url};

use super::super::audit::reach::{CANARY, NAME, Reach};
use super::super::inventory::{Alerts, Inventory, ProjectInventory};
use super::super::ours::{Address, Masked};
use super::super::types::HookRoute;
use super::{AlertTarget, Plan, PlanError, Proof, Step, Way, Wish, canary, noun};

/// Plans what is missing.
///
/// # Errors
///
/// When what was asked for cannot be done on this Sentry, or with this token.
pub fn plan(inventory: &Inventory, wish: &Wish) -> Result<Plan, PlanError> {
    let projects = chosen(inventory, wish)?;
    if projects.is_empty() {
        return Err(PlanError::NoProjects);
    }
    // If the token sees only a part of what exists, objects would be created twice.
    if let Some(sentence) = inventory.unseen.first() {
        return Err(PlanError::NotSeen(sentence.clone()));
    }
    let canary = wish.canary.as_ref().map(|wish| Ok((canary::project(inventory, wish)?, wish))).transpose()?;
    let mut planner = Planner { inventory, wish, reach: Reach::new(inventory, &wish.bridge), plan: Plan::default() };
    let way = wish.way(inventory);
    let target = match way {
        Way::Legacy => {
            let url = wish.address_with_token().ok_or(PlanError::NoToken)?;
            if wish.root.scheme() == "http" && !is_loopback(&wish.root) {
                planner
                    .plan
                    .notes
                    .push("the address is plain `http`: anyone on the network path can read its token".to_owned());
            }
            let also = canary.iter().map(|(entry, _)| *entry).filter(|entry| !projects.contains(entry));
            for entry in projects.iter().copied().chain(also) {
                planner.hook(entry, &url)?;
            }
            AlertTarget::Legacy
        }
        Way::Integration => {
            planner.app()?;
            AlertTarget::App
        }
    };
    for name in &wish.extend {
        if !planner.is_alert(name, &projects) {
            return Err(PlanError::NoAlert(name.clone()));
        }
    }
    match inventory.generation.alerts {
        Alerts::Rules => projects.iter().for_each(|entry| planner.rules(entry, target)),
        Alerts::Workflows => planner.workflows(&projects, target),
    }
    if let Some((entry, wish)) = canary {
        let (step, note) = canary::missing(inventory, &planner.reach, entry, wish, target);
        planner.plan.steps.extend(step);
        planner.plan.notes.extend(note);
    }
    planner.plan.proof = match (inventory.generation.alerts, way) {
        (Alerts::Rules, Way::Legacy) => {
            projects.first().map(|entry| Proof::Plugin { project: entry.project.slug.clone() })
        }
        (Alerts::Workflows, Way::Integration) => Some(Proof::Action(target)),
        // The sample event belongs to the first project, and is sent to the legacy webhooks of that project.
        (Alerts::Workflows, Way::Legacy) => {
            let first = inventory.projects.first().map(|entry| &entry.project.slug);
            projects.iter().any(|entry| Some(&entry.project.slug) == first).then_some(Proof::Action(target))
        }
        (Alerts::Rules, Way::Integration) => {
            projects.first().map(|entry| Proof::RuleAction { project: entry.project.slug.clone() })
        }
    };
    Ok(planner.plan)
}

/// The projects that were asked for, or all.
pub(super) fn chosen<'a>(inventory: &'a Inventory, wish: &Wish) -> Result<Vec<&'a ProjectInventory>, PlanError> {
    let is_there = |slug: &&String| !inventory.projects.iter().any(|entry| entry.project.slug == **slug);
    if let Some(slug) = wish.projects.iter().find(is_there) {
        return Err(PlanError::NoProject(slug.clone()));
    }
    let wanted = |entry: &&ProjectInventory| wish.projects.is_empty() || wish.projects.contains(&entry.project.slug);
    Ok(inventory.projects.iter().filter(wanted).collect())
}

struct Planner<'a> {
    inventory: &'a Inventory,
    wish: &'a Wish,
    reach: Reach<'a>,
    plan: Plan,
}

impl Planner<'_> {
    fn hook(&mut self, entry: &ProjectInventory, url: &str) -> Result<(), PlanError> {
        let project = entry.project.slug.clone();
        let hook = entry.hook.as_ref().ok_or_else(|| PlanError::NoHook(project.clone()))?;
        let route = hook.route;
        let judged: Vec<Address> = hook.urls.iter().map(|url| self.wish.bridge.judge(url)).collect();
        let is_there = judged.contains(&Address::Ours);
        if !is_there {
            if judged.contains(&Address::WrongToken) {
                self.plan.notes.push(format!(
                    "{project}: its WebHooks have the bridge's address with a token that the bridge does not know; it stays, \
                     take it out in Sentry"
                ));
            }
            let urls: Vec<String> = hook.urls.iter().cloned().chain([url.to_owned()]).collect();
            let url = url.to_owned();
            self.plan.steps.push(Step::SetUrls {
                project: project.clone(),
                route,
                url,
                urls,
                added: true,
                enabled: true,
            });
        }
        // The endpoint of 2026 enables the webhooks in the same request that sets their addresses.
        if !hook.enabled && (is_there || route == HookRoute::Plugin) {
            self.plan.steps.push(Step::EnableHook { project, route });
        }
        Ok(())
    }

    fn app(&mut self) -> Result<(), PlanError> {
        if !self.inventory.generation.apps {
            return Err(PlanError::NoApps);
        }
        let (events, resources) = self.events();
        let ours =
            self.reach.apps().find(|app| app.webhook_url.as_deref().is_some_and(|url| self.wish.bridge.is_ours(url)));
        let Some(app) = ours else {
            if let Some(other) = self.reach.apps().find(|app| app.name == NAME) {
                let url =
                    other.webhook_url.as_deref().map_or_else(|| "nowhere".to_owned(), |url| Masked(url).to_string());
                return Err(PlanError::AppElsewhere { name: other.name.clone(), url });
            }
            let url = self.wish.address();
            self.plan.steps.push(Step::CreateApp { name: NAME.to_owned(), url, events, resources });
            return Ok(());
        };
        let lacks = |event: &&String| !app.hears(event);
        let lacking: Vec<String> = events.iter().filter(lacks).cloned().collect();
        if !app.is_alertable || !lacking.is_empty() {
            let own = if app.webhook_events.is_empty() { &app.events } else { &app.webhook_events };
            self.plan.steps.push(Step::UpdateApp {
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
        if self.wish.wants_secret {
            self.plan.steps.push(Step::ReadSecret { slug: app.slug.clone() });
        }
        Ok(())
    }

    /// The integration's subscriptions: as single events if this Sentry supports them, and as whole resources.
    fn events(&self) -> (Vec<String>, Vec<String>) {
        let errors = self.wish.errors.then(|| "error".to_owned());
        let resources: Vec<String> = ["issue".to_owned()].into_iter().chain(errors.clone()).collect();
        let singles = ["issue.resolved", "issue.unresolved"].into_iter().chain(self.wish.issue_events.iter().copied());
        let singles: Vec<String> = singles.map(str::to_owned).chain(errors).collect();
        match self.inventory.generation.alerts {
            Alerts::Rules => (resources.clone(), resources),
            Alerts::Workflows => (singles, resources),
        }
    }

    fn is_alert(&self, name: &str, projects: &[&ProjectInventory]) -> bool {
        match self.inventory.generation.alerts {
            Alerts::Rules => {
                projects.iter().flat_map(|entry| entry.rules.iter().flatten()).any(|rule| rule.name == name)
            }
            Alerts::Workflows => self.inventory.workflows.iter().any(|workflow| workflow.name == name),
        }
    }

    fn rules(&mut self, entry: &ProjectInventory, target: AlertTarget) {
        let project = &entry.project.slug;
        let rules = || entry.rules.iter().flatten();
        let calls = |rule: &super::super::types::Rule| {
            rule.name != CANARY
                && rule.actions.iter().any(|action| target.is(self.reach.of_rule_action(action), &self.reach))
        };
        let mut steps = Vec::new();
        for rule in rules().filter(|rule| self.wish.extend.contains(&rule.name) && !calls(rule)) {
            steps.push(Step::ExtendRule {
                project: project.clone(),
                id: rule.id.clone(),
                name: rule.name.clone(),
                target,
                raw: rule.raw.clone(),
            });
        }
        let calling = rules().find(|rule| calls(rule));
        match calling {
            None if steps.is_empty() => steps.push(Step::CreateRule {
                project: project.clone(),
                name: NAME.to_owned(),
                target,
                filters: self.inventory.generation.apps,
            }),
            Some(rule) if !rule.active => {
                let what = noun(Alerts::Rules);
                let note =
                    format!("{project}: the {what} \"{}\" calls the bridge and is disabled; it stays so", rule.name);
                self.plan.notes.push(note);
            }
            _ => {}
        }
        self.plan.steps.append(&mut steps);
    }

    fn workflows(&mut self, projects: &[&ProjectInventory], target: AlertTarget) {
        let calls = |workflow: &super::super::types::Workflow| {
            workflow.name != CANARY
                && workflow.actions.iter().any(|action| target.is(self.reach.of_workflow_action(action), &self.reach))
        };
        let mut steps = Vec::new();
        let mut extended = Vec::new();
        for workflow in &self.inventory.workflows {
            if self.wish.extend.contains(&workflow.name) && !calls(workflow) {
                extended.push(workflow);
                steps.push(Step::ExtendWorkflow {
                    id: workflow.id.clone(),
                    name: workflow.name.clone(),
                    target,
                    raw: workflow.raw.clone(),
                });
            }
        }
        let calling = || self.inventory.workflows.iter().filter(|workflow| calls(workflow));
        let covers = |workflow: &super::super::types::Workflow, entry: &ProjectInventory| {
            self.reach
                .detectors(workflow)
                .any(|detector| detector.project_id.as_ref().is_none_or(|id| *id == entry.project.id))
        };
        let is_covered = |entry: &ProjectInventory| {
            calling().chain(extended.iter().copied()).any(|workflow| covers(workflow, entry))
        };
        let (mut slugs, mut detectors) = (Vec::new(), Vec::new());
        let mut notes = Vec::new();
        for entry in projects.iter().filter(|entry| !is_covered(entry)) {
            match self.inventory.detector_of(&entry.project.id) {
                Some(detector) => {
                    slugs.push(entry.project.slug.clone());
                    detectors.push(detector);
                }
                None => {
                    notes
                        .push(format!("{}: it has no monitor that an alert could be connected to", entry.project.slug));
                }
            }
        }
        for workflow in calling().filter(|workflow| !workflow.enabled) {
            notes.push(format!("the alert \"{}\" calls the bridge and is disabled; it stays so", workflow.name));
        }
        if !detectors.is_empty() {
            steps.push(match calling().find(|workflow| workflow.name == NAME) {
                None => Step::CreateWorkflow { name: NAME.to_owned(), projects: slugs, detectors, target },
                Some(workflow) => {
                    let mut raw = workflow.raw.clone();
                    let all: Vec<String> = workflow.detector_ids.iter().cloned().chain(detectors).collect();
                    raw.insert("detectorIds".to_owned(), all.into());
                    Step::ConnectDetectors {
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
