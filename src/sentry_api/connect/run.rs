//! Carries out the steps of a plan, one by one.

use serde_json::json;
use thiserror::Error;

use super::super::address::{BridgeAddress, WebhookKind};
use super::super::inventory::Inventory;
use super::super::types::{AppReference, SentryApp};
use super::super::{SentryApiError, SentryClient};
use super::{ConnectStep, TestWebhook, bodies};

/// Why a step failed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum StepError {
    /// Sentry refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] SentryApiError),
    /// Sentry does not show the secret, or no longer shows it.
    #[error(
        "Sentry does not show the Client Secret of {0} to this token, or no longer does (it does for a day, to members with \
         org:write): copy it from the integration's page, or rotate it there"
    )]
    HiddenSecret(String),
    /// Sentry 23.7 requires a scope that no token can have; users can delete the integration in the browser.
    #[error(
        "Sentry does not let this token delete the integration {0}, and some versions let none: delete it in Settings > \
         Developer Settings; no alert calls it any more"
    )]
    DeleteByHand(String),
    /// Sentry does not return the integration's number, which an action needs.
    #[error("Sentry does not tell the number of the integration {0}, which its alerts name: is it installed?")]
    NoAppId(String),
    /// A step that needs the integration ran before the integration existed, which is a bug.
    #[error("there is no integration yet that the alert could call")]
    NoApp,
}

/// Carries out steps, and remembers the integration that one of them created.
pub struct StepRunner<'a> {
    api: &'a SentryClient,
    app: Option<AppReference>,
}

impl<'a> StepRunner<'a> {
    /// Creates a runner that knows the bridge's integration, if it exists already.
    #[must_use]
    pub fn new(api: &'a SentryClient, inventory: &Inventory, bridge: &BridgeAddress) -> Self {
        let is_bridge = |app: &&SentryApp| app.webhook_url.as_deref().is_some_and(|url| bridge.matches(url));
        let app = inventory.apps.iter().find(is_bridge);
        let reference = |app: &SentryApp| AppReference {
            slug: app.slug.clone(),
            id: inventory.app_id(&app.slug).map(str::to_owned),
        };
        Self { api, app: app.map(reference) }
    }

    /// Carries out one step. Returns the Client Secret of an integration if the step reads it; it must be stored and must not
    /// be shown.
    ///
    /// # Errors
    ///
    /// When Sentry refuses. Earlier steps stay in effect, and a new plan continues from there.
    pub async fn run(&mut self, step: &ConnectStep) -> Result<Option<String>, StepError> {
        let api = self.api;
        match step {
            ConnectStep::CreateApp { name, url, events, resources } => {
                return self.create_app(name, url, events, resources).await;
            }
            ConnectStep::UpdateApp { slug, name, scopes, events } => {
                let body = json!({"name": name, "scopes": scopes, "events": events, "isAlertable": true});
                api.update_app(slug, body).await?;
            }
            ConnectStep::ReadSecret { slug } => return self.read_secret(slug).await,
            ConnectStep::DeleteApp { slug } => api.delete_app(slug).await.map_err(|error| match error {
                SentryApiError::Forbidden { .. } => StepError::DeleteByHand(slug.clone()),
                error => error.into(),
            })?,
            ConnectStep::SetUrls { project, alerts, urls, enabled, .. } => {
                api.set_urls(project, *alerts, urls, *enabled).await?;
            }
            ConnectStep::EnableHook { project, alerts } => api.enable_hook(project, *alerts).await?,
            ConnectStep::DisableHook { project, alerts } => api.disable_hook(project, *alerts).await?,
            ConnectStep::CreateRule { project, webhooks, filters, .. } => {
                let rule = bodies::rule(&bodies::rule_action(self.app_of(*webhooks)?), *filters);
                api.create_rule(project, rule).await?;
            }
            ConnectStep::CreateCanaryRule { project, tag, webhooks } => {
                let action = bodies::rule_action(self.app_of(*webhooks)?);
                match api.create_rule(project, bodies::canary_rule(&action, tag)).await {
                    Err(SentryApiError::Status { status: 400, .. }) => {
                        api.create_rule(project, bodies::filtered_canary_rule(&action, tag)).await?;
                    }
                    made => drop(made?),
                }
            }
            ConnectStep::CreateCanaryWorkflow { detector, tag, webhooks, .. } => {
                let action = self.workflow_action(*webhooks)?;
                api.create_workflow(bodies::canary_workflow(&action, detector, tag)).await?;
            }
            ConnectStep::ExtendRule { project, id, webhooks, raw, .. } => {
                let action = bodies::rule_action(self.app_of(*webhooks)?);
                api.update_rule(project, id, bodies::with_rule_action(raw.clone(), action)).await?;
            }
            ConnectStep::ReduceRule { project, id, raw, .. } => drop(api.update_rule(project, id, raw.clone()).await?),
            ConnectStep::DeleteRule { project, id, .. } => api.delete_rule(project, id).await?,
            ConnectStep::CreateWorkflow { detectors, webhooks, .. } => {
                let action = self.workflow_action(*webhooks)?;
                let closes = *webhooks == WebhookKind::Integration;
                api.create_workflow(bodies::workflow(&action, detectors, closes)).await?;
            }
            ConnectStep::ExtendWorkflow { id, webhooks, raw, .. } => {
                let action = self.workflow_action(*webhooks)?;
                api.update_workflow(id, bodies::with_workflow_action(raw.clone(), action)).await?;
            }
            ConnectStep::ConnectDetectors { id, raw, .. } | ConnectStep::ReduceWorkflow { id, raw, .. } => {
                api.update_workflow(id, raw.clone()).await?;
            }
            ConnectStep::DeleteWorkflow { id, .. } => api.delete_workflow(id).await?,
        }
        Ok(None)
    }

    /// Makes Sentry send its test webhook.
    ///
    /// # Errors
    ///
    /// When Sentry refuses.
    pub async fn test(&self, test: &TestWebhook) -> Result<(), StepError> {
        match test {
            TestWebhook::Plugin { project } => drop(self.api.test_plugin(project).await?),
            TestWebhook::RuleAction { project } => {
                let action = bodies::rule_action(self.app_of(WebhookKind::Integration)?);
                self.api.test_rule_action(project, action).await?;
            }
            TestWebhook::Action(webhooks) => self.api.test_action(self.workflow_action(*webhooks)?).await?,
        }
        Ok(())
    }

    async fn create_app(
        &mut self,
        name: &str,
        url: &str,
        events: &[String],
        resources: &[String],
    ) -> Result<Option<String>, StepError> {
        let made = match self.api.create_app(bodies::app(name, url, events)).await {
            // Sentry accepts single events only since July 2026.
            Err(SentryApiError::Status { status: 400, reason, .. })
                if reason.contains("events") && events != resources =>
            {
                self.api.create_app(bodies::app(name, url, resources)).await?
            }
            made => made?,
        };
        // An internal integration is installed as soon as it is created.
        let installations = self.api.installations().await?;
        let id = installations.into_iter().find(|one| one.app.slug == made.slug).and_then(|one| one.app.id);
        self.app = Some(AppReference { slug: made.slug.clone(), id });
        // The response to the creation does not contain the secret.
        self.read_secret(&made.slug).await
    }

    async fn read_secret(&self, slug: &str) -> Result<Option<String>, StepError> {
        let app = self.api.app(slug).await?;
        let secret = app.client_secret.as_ref().and_then(|secret| secret.readable()).map(str::to_owned);
        secret.map(Some).ok_or_else(|| StepError::HiddenSecret(slug.to_owned()))
    }

    /// Returns the integration that an action calls by these webhooks; `None` for legacy webhooks.
    fn app_of(&self, webhooks: WebhookKind) -> Result<Option<&AppReference>, StepError> {
        match webhooks {
            WebhookKind::Legacy => Ok(None),
            WebhookKind::Integration => self.app.as_ref().map(Some).ok_or(StepError::NoApp),
        }
    }

    fn workflow_action(&self, webhooks: WebhookKind) -> Result<serde_json::Value, StepError> {
        let id = match self.app_of(webhooks)? {
            None => None,
            Some(app) => Some(app.id.as_deref().ok_or_else(|| StepError::NoAppId(app.slug.clone()))?),
        };
        Ok(bodies::workflow_action(id))
    }
}
