//! Determines which alerts reach the bridge, and what prevents the others from reaching it.

use super::result::FindingKind;
use crate::sentry_api::address::{AddressMatch, BridgeAddress, masked};
use crate::sentry_api::inventory::Inventory;
use crate::sentry_api::types::{
    AlertRule, AlertRuleAction, Detector, LegacyHook, SentryApp, SentryProject, Workflow, WorkflowAction,
};

/// The slug of legacy webhooks, as the service of a rule's action and as the target of a workflow's action.
pub(crate) const WEBHOOKS: &str = "webhooks";

/// The name that `connect` gives to the integration and the alerts that it creates.
pub(crate) const NAME: &str = "sentry-pagerduty-bridge";

/// The name that `connect` gives to the canary's alert. That alert fires for nothing else, so no audit counts it.
pub const CANARY: &str = "sentry-pagerduty-bridge canary";

pub(crate) const SERVICE_ACTION: &str = "sentry.rules.actions.notify_event_service.NotifyEventServiceAction";
const PLUGINS_ACTION: &str = "sentry.rules.actions.notify_event.NotifyEventAction";
const APP_ACTION: &str = "sentry.rules.actions.notify_event_sentry_app.NotifyEventSentryAppAction";

/// What an action does, from the bridge's point of view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AlertActionTarget<'a> {
    /// Posts to the legacy webhooks of the project.
    Legacy,
    /// Posts to an integration.
    App(&'a SentryApp),
    /// Does something else: mail, chat, tickets.
    Other,
}

/// One reason why an alert that names the bridge does not reach it.
pub(crate) type Obstacle = (FindingKind, String);

/// Distinguishes the bridge's integrations and addresses from others.
pub(crate) struct BridgeReach<'a> {
    inventory: &'a Inventory,
    bridge: &'a BridgeAddress,
}

impl<'a> BridgeReach<'a> {
    pub(crate) fn new(inventory: &'a Inventory, bridge: &'a BridgeAddress) -> Self {
        Self { inventory, bridge }
    }

    /// The integrations that are the bridge's: by their address, or by the name that `connect` gives.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &'a SentryApp> {
        self.inventory.apps.iter().filter(|app| self.is_bridge_app(app))
    }

    pub(crate) fn is_bridge_app(&self, app: &SentryApp) -> bool {
        app.name == NAME
            || app.webhook_url.as_deref().is_some_and(|url| self.bridge.classify(url) != AddressMatch::Other)
    }

    pub(crate) fn of_rule_action(&self, action: &AlertRuleAction) -> AlertActionTarget<'a> {
        let by_slug = |slug: &str| {
            self.inventory
                .apps
                .iter()
                .find(|app| app.slug == slug)
                .map_or(AlertActionTarget::Other, AlertActionTarget::App)
        };
        match (action.id.as_str(), action.service.as_deref()) {
            (PLUGINS_ACTION, _) | (SERVICE_ACTION, Some(WEBHOOKS)) => AlertActionTarget::Legacy,
            (SERVICE_ACTION, Some(slug)) => by_slug(slug),
            (APP_ACTION, _) => {
                let uuid = action.sentry_app_installation_uuid.as_deref();
                let installation = self.inventory.installations.iter().find(|one| Some(one.uuid.as_str()) == uuid);
                installation.map_or(AlertActionTarget::Other, |installation| by_slug(&installation.app.slug))
            }
            _ => AlertActionTarget::Other,
        }
    }

    pub(crate) fn of_workflow_action(&self, action: &WorkflowAction) -> AlertActionTarget<'a> {
        let target = action.target.as_deref().unwrap_or_default();
        let found = |app: Option<&'a SentryApp>| app.map_or(AlertActionTarget::Other, AlertActionTarget::App);
        match (action.kind.as_str(), target) {
            ("webhook", WEBHOOKS) => AlertActionTarget::Legacy,
            ("webhook", slug) => found(self.inventory.apps.iter().find(|app| app.slug == slug)),
            ("sentry_app", id) => found(
                self.inventory.apps.iter().find(|app| self.inventory.app_id(&app.slug) == Some(id) || app.slug == id),
            ),
            _ => AlertActionTarget::Other,
        }
    }

    /// Returns what prevents legacy webhooks of a project from reaching the bridge; `None` if they reach it.
    pub(crate) fn legacy_obstacle(&self, hook: Option<&LegacyHook>) -> Option<Obstacle> {
        let nothing = |why: &str| Some((FindingKind::NothingBehindWebhook, why.to_owned()));
        let Some(hook) = hook else { return nothing("this Sentry has no legacy webhooks, or does not show them") };
        if !hook.enabled {
            return nothing("the project's WebHooks plugin is disabled");
        }
        let mut judged = hook.urls.iter().map(|url| self.bridge.classify(url));
        if judged.clone().any(|address| address == AddressMatch::Bridge) {
            return None;
        }
        if judged.any(|address| address == AddressMatch::WrongToken) {
            let why =
                "the project's WebHooks plugin has the bridge's address with a token that the bridge would refuse";
            return Some((FindingKind::WrongToken, why.to_owned()));
        }
        nothing("the project's WebHooks plugin does not have the bridge's address")
    }

    /// Returns what prevents an integration's webhooks from reaching the bridge.
    pub(crate) fn app_obstacles(&self, app: &SentryApp) -> Vec<Obstacle> {
        let trouble = |why: String| (FindingKind::AppTrouble, why);
        let mut obstacles = Vec::new();
        if app.is_disabled {
            obstacles
                .push(trouble("Sentry has disabled the integration, as it does after many failed webhooks".to_owned()));
        }
        if !app.is_alertable {
            obstacles.push(trouble("the integration is no alert action (Alert Rule Action is off)".to_owned()));
        }
        match app.webhook_url.as_deref() {
            Some(url) if self.bridge.classify(url) == AddressMatch::Bridge => {}
            Some(url) if self.bridge.classify(url) == AddressMatch::WrongToken => {
                let why = "the integration posts to the bridge with a token that the bridge would refuse";
                obstacles.push((FindingKind::WrongToken, why.to_owned()));
            }
            Some(url) => {
                obstacles.push(trouble(format!("the integration posts to {}, not to the bridge", masked(url))));
            }
            None => obstacles.push(trouble("the integration has no Webhook URL".to_owned())),
        }
        let mut installed = self.inventory.installations.iter().filter(|one| one.app.slug == app.slug);
        let is_installed = installed.any(|one| one.status.is_empty() || one.status == "installed");
        if !is_installed && self.inventory.unseen.is_empty() {
            obstacles.push(trouble("the integration is not installed".to_owned()));
        }
        obstacles
    }

    /// Returns what prevents a rule from reaching the bridge. `None` if the rule has nothing to do with the bridge, empty
    /// if it pages.
    pub(crate) fn of_rule(&self, project: &SentryProject, rule: &AlertRule) -> Option<Vec<Obstacle>> {
        if rule.name == CANARY {
            return None;
        }
        let mut ways = Vec::new();
        for action in &rule.actions {
            match self.of_rule_action(action) {
                AlertActionTarget::Legacy => {
                    ways.push(self.legacy_obstacle(project.hook.as_ref()).into_iter().collect());
                }
                AlertActionTarget::App(app) if self.is_bridge_app(app) => ways.push(self.app_obstacles(app)),
                AlertActionTarget::App(_) | AlertActionTarget::Other => {}
            }
        }
        let mut obstacles = best(ways)?;
        if !rule.active {
            obstacles.push((FindingKind::Disabled, "the rule is disabled or muted for everybody".to_owned()));
        }
        Some(obstacles)
    }

    /// Returns what prevents a workflow from reaching the bridge for a project, through the detectors of that project
    /// that it is connected to.
    pub(crate) fn of_workflow(&self, project: &SentryProject, workflow: &Workflow) -> Option<Vec<Obstacle>> {
        if workflow.name == CANARY {
            return None;
        }
        let mut ways = Vec::new();
        for action in &workflow.actions {
            let mut obstacles: Vec<Obstacle> = match self.of_workflow_action(action) {
                AlertActionTarget::Legacy => self.legacy_obstacle(project.hook.as_ref()).into_iter().collect(),
                AlertActionTarget::App(app) if self.is_bridge_app(app) => self.app_obstacles(app),
                AlertActionTarget::App(_) | AlertActionTarget::Other => continue,
            };
            if !action.active {
                obstacles.push((FindingKind::Disabled, "its action that calls the bridge is disabled".to_owned()));
            }
            ways.push(obstacles);
        }
        let mut obstacles = best(ways)?;
        if !workflow.enabled {
            obstacles.push((FindingKind::Disabled, "the alert is disabled".to_owned()));
        }
        let mut detectors = self.detectors(workflow).filter(|detector| covers(detector, &project.id)).peekable();
        detectors.peek()?;
        if detectors.all(|detector| !detector.enabled) {
            obstacles.push((FindingKind::Disabled, "the monitors that it is connected to are disabled".to_owned()));
        }
        Some(obstacles)
    }

    /// Whether a workflow has an action that can call the bridge, connected to a detector or not.
    pub(crate) fn names_bridge(&self, workflow: &Workflow) -> bool {
        workflow.name != CANARY
            && workflow.actions.iter().any(|action| match self.of_workflow_action(action) {
                AlertActionTarget::Legacy => true,
                AlertActionTarget::App(app) => self.is_bridge_app(app),
                AlertActionTarget::Other => false,
            })
    }

    /// The detectors of a workflow.
    pub(crate) fn detectors(&self, workflow: &'a Workflow) -> impl Iterator<Item = &'a Detector> {
        self.inventory.detectors.iter().filter(|detector| workflow.detector_ids.contains(&detector.id))
    }
}

/// Whether a detector watches a project: a detector without a project watches all (inferred; no source documents it).
fn covers(detector: &Detector, project: &str) -> bool {
    detector.project_id.as_deref().is_none_or(|id| id == project)
}

/// Returns the obstacles of the action that has the fewest.
fn best(ways: Vec<Vec<Obstacle>>) -> Option<Vec<Obstacle>> {
    ways.into_iter().min_by_key(Vec::len)
}
