//! Carries out the steps of a plan, one by one.

use serde_json::json;
use thiserror::Error;

use super::super::inventory::Inventory;
use super::super::ours::Bridge;
use super::super::types::App;
use super::super::{ApiError, SentryApi};
use super::bodies::{self, AppReference};
use super::{AlertTarget, Proof, Step};

/// The result of a step.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Taken {
    /// The Client Secret of an integration, which must be stored and must not be shown.
    pub secret: Option<String>,
}

/// Why a step failed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum StepError {
    /// Sentry refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] ApiError),
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
pub struct Runner<'a, A> {
    api: &'a A,
    app: Option<AppReference>,
}

impl<'a, A: SentryApi> Runner<'a, A> {
    /// Creates a runner that knows the bridge's integration, if it exists already.
    pub fn new(api: &'a A, inventory: &Inventory, bridge: &Bridge) -> Self {
        let is_ours = |app: &&App| app.webhook_url.as_deref().is_some_and(|url| bridge.is_ours(url));
        let app = inventory.apps.iter().find(is_ours);
        let reference =
            |app: &App| AppReference { slug: app.slug.clone(), id: inventory.app_id(&app.slug).map(str::to_owned) };
        Self { api, app: app.map(reference) }
    }

    /// Carries out one step.
    ///
    /// # Errors
    ///
    /// When Sentry refuses. Earlier steps stay in effect, and a new plan continues from there.
    pub async fn take(&mut self, step: &Step) -> Result<Taken, StepError> {
        let api = self.api;
        match step {
            Step::CreateApp { name, url, events, resources } => {
                return self.create_app(name, url, events, resources).await;
            }
            Step::UpdateApp { slug, name, scopes, events } => {
                let body = json!({"name": name, "scopes": scopes, "events": events, "isAlertable": true});
                api.update_app(slug, body).await?;
            }
            Step::ReadSecret { slug } => return self.read_secret(slug).await,
            Step::DeleteApp { slug } => api.delete_app(slug).await.map_err(|error| match error {
                ApiError::Forbidden { .. } => StepError::DeleteByHand(slug.clone()),
                error => error.into(),
            })?,
            Step::SetUrls { project, route, urls, enabled, .. } => {
                api.set_urls(project, *route, urls, *enabled).await?;
            }
            Step::EnableHook { project, route } => api.enable_hook(project, *route).await?,
            Step::DisableHook { project, route } => api.disable_hook(project, *route).await?,
            Step::CreateRule { project, target, filters, .. } => {
                let rule = bodies::rule(&bodies::rule_action(self.app_of(*target)?), *filters);
                api.create_rule(project, rule).await?;
            }
            Step::CreateCanaryRule { project, tag, target } => {
                let action = bodies::rule_action(self.app_of(*target)?);
                match api.create_rule(project, bodies::canary_rule(&action, tag)).await {
                    Err(ApiError::Status { status: 400, .. }) => {
                        api.create_rule(project, bodies::filtered_canary_rule(&action, tag)).await?;
                    }
                    made => drop(made?),
                }
            }
            Step::CreateCanaryWorkflow { detector, tag, target, .. } => {
                let action = self.workflow_action(*target)?;
                api.create_workflow(bodies::canary_workflow(&action, detector, tag)).await?;
            }
            Step::ExtendRule { project, id, target, raw, .. } => {
                let action = bodies::rule_action(self.app_of(*target)?);
                api.update_rule(project, id, bodies::with_rule_action(raw.clone(), action)).await?;
            }
            Step::ReduceRule { project, id, raw, .. } => drop(api.update_rule(project, id, raw.clone()).await?),
            Step::DeleteRule { project, id, .. } => api.delete_rule(project, id).await?,
            Step::CreateWorkflow { detectors, target, .. } => {
                let action = self.workflow_action(*target)?;
                let closes = *target == AlertTarget::App;
                api.create_workflow(bodies::workflow(&action, detectors, closes)).await?;
            }
            Step::ExtendWorkflow { id, target, raw, .. } => {
                let action = self.workflow_action(*target)?;
                api.update_workflow(id, bodies::with_workflow_action(raw.clone(), action)).await?;
            }
            Step::ConnectDetectors { id, raw, .. } | Step::ReduceWorkflow { id, raw, .. } => {
                api.update_workflow(id, raw.clone()).await?;
            }
            Step::DeleteWorkflow { id, .. } => api.delete_workflow(id).await?,
        }
        Ok(Taken::default())
    }

    /// Makes Sentry send its test webhook.
    ///
    /// # Errors
    ///
    /// When Sentry refuses.
    pub async fn prove(&self, proof: &Proof) -> Result<(), StepError> {
        match proof {
            Proof::Plugin { project } => drop(self.api.test_plugin(project).await?),
            Proof::RuleAction { project } => {
                let action = bodies::rule_action(self.app_of(AlertTarget::App)?);
                self.api.test_rule_action(project, action).await?;
            }
            Proof::Action(target) => self.api.test_action(self.workflow_action(*target)?).await?,
        }
        Ok(())
    }

    async fn create_app(
        &mut self,
        name: &str,
        url: &str,
        events: &[String],
        resources: &[String],
    ) -> Result<Taken, StepError> {
        let made = match self.api.create_app(bodies::app(name, url, events)).await {
            // Sentry accepts single events only since July 2026.
            Err(ApiError::Status { status: 400, reason, .. }) if reason.contains("events") && events != resources => {
                self.api.create_app(bodies::app(name, url, resources)).await?
            }
            made => made?,
        };
        // An internal integration is installed as soon as it is created.
        let installations = self.api.installations().await?;
        let id = installations.into_iter().find(|one| one.app_slug == made.slug).and_then(|one| one.app_id);
        self.app = Some(AppReference { slug: made.slug.clone(), id });
        // The response to the creation does not contain the secret.
        self.read_secret(&made.slug).await
    }

    async fn read_secret(&self, slug: &str) -> Result<Taken, StepError> {
        let app = self.api.app(slug).await?;
        let secret = app.client_secret.as_ref().and_then(|secret| secret.is_readable()).map(str::to_owned);
        let secret = secret.ok_or_else(|| StepError::HiddenSecret(slug.to_owned()))?;
        Ok(Taken { secret: Some(secret) })
    }

    /// Returns the integration that an action for `target` calls; `None` for legacy webhooks.
    fn app_of(&self, target: AlertTarget) -> Result<Option<&AppReference>, StepError> {
        match target {
            AlertTarget::Legacy => Ok(None),
            AlertTarget::App => self.app.as_ref().map(Some).ok_or(StepError::NoApp),
        }
    }

    fn workflow_action(&self, target: AlertTarget) -> Result<serde_json::Value, StepError> {
        let id = match self.app_of(target)? {
            None => None,
            Some(app) => Some(app.id.as_deref().ok_or_else(|| StepError::NoAppId(app.slug.clone()))?),
        };
        Ok(bodies::workflow_action(id))
    }
}
