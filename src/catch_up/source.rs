//! Asks Sentry what fired for the bridge within a window.
//!
//! Where Sentry keeps a record of firings (workflows, and rules from 22.12 on), the result is exact: the record is written
//! when an action is fired, whether or not the webhook arrived. Elsewhere it is a guess: new issues count as firings.

use std::collections::BTreeMap;

use super::plan::joined;
use crate::sentry_api::address::{BridgeAddress, WebhookKind};
use crate::sentry_api::audit::reach::{AlertActionTarget, BridgeReach, CANARY};
use crate::sentry_api::inventory::{Inventory, permitted};
use crate::sentry_api::types::{AlertRule, AlertSystem, Firing, SentryProject, TimeWindow, Workflow};
use crate::sentry_api::{SentryApiError, SentryClient};

/// Conditions that make a rule fire for a new issue. Source: `rules/conditions/` of 9.1.2 and 23.7.1.
const ON_NEW_ISSUES: [&str; 3] = ["FirstSeenEventCondition", "EveryEventCondition", "NewHighPriorityIssueCondition"];

/// Asks Sentry what fired within a window and was meant for the bridge.
pub(super) struct FiringSearch<'a> {
    api: &'a SentryClient,
    inventory: &'a Inventory,
    reach: BridgeReach<'a>,
    window: TimeWindow,
    /// What fired, in the order of time, with one entry for each issue.
    pub(super) firings: Vec<Firing>,
    /// Whether Sentry recorded all of these firings.
    pub(super) is_exact: bool,
    /// What the token may not see, as sentences.
    pub(super) unseen: Vec<String>,
}

impl<'a> FiringSearch<'a> {
    pub(super) fn new(
        api: &'a SentryClient,
        inventory: &'a Inventory,
        bridge: &'a BridgeAddress,
        window: TimeWindow,
    ) -> Self {
        let reach = BridgeReach::new(inventory, bridge);
        Self { api, inventory, reach, window, firings: Vec::new(), is_exact: true, unseen: Vec::new() }
    }

    /// Asks for everything.
    ///
    /// # Errors
    ///
    /// When Sentry does not answer; what the token may not see is left out.
    pub(super) async fn run(&mut self) -> Result<(), SentryApiError> {
        match self.inventory.alerts {
            AlertSystem::Workflows => self.workflows().await?,
            AlertSystem::Rules => self.rules().await?,
        }
        self.firings = joined(std::mem::take(&mut self.firings));
        Ok(())
    }

    async fn workflows(&mut self) -> Result<(), SentryApiError> {
        let inventory = self.inventory;
        for workflow in &inventory.workflows {
            if !self.reach.names_bridge(workflow) {
                continue;
            }
            let rows = self.api.workflow_history(&workflow.id, self.window).await;
            let Some(rows) = permitted(rows, &mut self.unseen)? else { continue };
            let rows = rows.into_iter().filter(|fired| !is_of_activity(fired));
            let firings: Vec<_> = rows
                .filter_map(|fired| Some((self.webhooks_of_workflow(workflow, &fired)?, fired)))
                .map(|(webhooks, fired)| recorded(fired, &workflow.name, webhooks))
                .collect();
            self.firings.extend(firings);
        }
        Ok(())
    }

    async fn rules(&mut self) -> Result<(), SentryApiError> {
        let mut keeps_history = true;
        for project in &self.inventory.projects {
            let rules: Vec<_> = project
                .rules
                .iter()
                .flatten()
                // The canary's rule pages nobody. Because of its condition for every event, it would be mistaken for a
                // rule that fires for all new issues.
                .filter(|rule| rule.name != CANARY)
                .filter_map(|rule| {
                    let actions = rule.actions.iter().map(|action| self.reach.of_rule_action(action));
                    Some((rule, self.webhooks(project, actions)?))
                })
                .collect();
            let mut guessed: BTreeMap<&str, WebhookKind> = BTreeMap::new();
            for (rule, webhooks) in &rules {
                if keeps_history {
                    match self.api.rule_history(&project.slug, &rule.id, self.window).await {
                        // If this endpoint does not exist for one rule, it exists for none.
                        Err(SentryApiError::Gone { .. }) => keeps_history = false,
                        rows => {
                            let rows = permitted(rows, &mut self.unseen)?.unwrap_or_default();
                            let firings = rows.into_iter().map(|fired| recorded(fired, &rule.name, *webhooks));
                            self.firings.extend(firings);
                            continue;
                        }
                    }
                }
                if fires_for_new_issues(rule) {
                    guessed.insert(&rule.name, *webhooks);
                }
            }
            if !guessed.is_empty() {
                self.guess(project, &guessed).await?;
            }
        }
        self.is_exact = keeps_history;
        Ok(())
    }

    /// Counts new issues of a project as firings of these rules.
    async fn guess(
        &mut self,
        project: &SentryProject,
        rules: &BTreeMap<&str, WebhookKind>,
    ) -> Result<(), SentryApiError> {
        let issues = self.api.issues_since(&project.slug, self.window.from).await;
        for issue in permitted(issues, &mut self.unseen)?.unwrap_or_default() {
            // Sentry compares whole seconds only.
            let Some(at) = issue.first_seen.filter(|at| (self.window.from..self.window.until).contains(at)) else {
                continue;
            };
            self.firings.push(Firing {
                issue,
                at,
                event_id: None,
                alerts: rules.keys().map(|name| (*name).to_owned()).collect(),
                is_exact: false,
                by_plugin: rules.values().all(|webhooks| *webhooks == WebhookKind::Legacy),
            });
        }
        Ok(())
    }

    fn webhooks_of_workflow(&self, workflow: &Workflow, fired: &Firing) -> Option<WebhookKind> {
        let slug = fired.issue.project.as_ref()?;
        let project = self.inventory.projects.iter().find(|project| project.slug == *slug)?;
        self.webhooks(project, workflow.actions.iter().map(|action| self.reach.of_workflow_action(action)))
    }

    /// Returns the webhooks by which an alert with these actions reaches the bridge, if it was meant to.
    fn webhooks<'t>(
        &self,
        project: &SentryProject,
        actions: impl Iterator<Item = AlertActionTarget<'t>>,
    ) -> Option<WebhookKind> {
        let kinds = actions.filter_map(|action| match action {
            AlertActionTarget::App(app) if self.reach.is_bridge_app(app) => Some(WebhookKind::Integration),
            AlertActionTarget::Legacy if self.reach.legacy_obstacle(project.hook.as_ref()).is_none() => {
                Some(WebhookKind::Legacy)
            }
            AlertActionTarget::App(_) | AlertActionTarget::Legacy | AlertActionTarget::Other => None,
        });
        kinds.min_by_key(|kind| *kind == WebhookKind::Legacy)
    }
}

fn recorded(fired: Firing, alert: &str, webhooks: WebhookKind) -> Firing {
    Firing { alerts: vec![alert.to_owned()], is_exact: true, by_plugin: webhooks == WebhookKind::Legacy, ..fired }
}

/// Whether an alert fired for an activity of the issue, such as resolving it, and not for an event. Such a firing pages
/// nobody.
fn is_of_activity(fired: &Firing) -> bool {
    fired.event_id.as_ref().is_some_and(|id| id.len() != 32)
}

/// Whether a rule fires for every new issue, as far as its conditions tell.
fn fires_for_new_issues(rule: &AlertRule) -> bool {
    let conditions = rule.raw.get("conditions").and_then(|conditions| conditions.as_array());
    let Some(conditions) = conditions.filter(|conditions| !conditions.is_empty()) else { return true };
    let mut kinds = conditions.iter().filter_map(|condition| condition["id"].as_str());
    kinds.any(|kind| ON_NEW_ISSUES.iter().any(|known| kind.ends_with(known)))
}
