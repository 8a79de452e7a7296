//! Sets Sentry up for the bridge: what is missing becomes a [`ConnectPlan`], whose steps are then carried out.
//!
//! Planning is pure: an [`Inventory`] and the [`ConnectOptions`] go in, steps come out. What exists already needs no step, so a
//! second run has nothing to do, and a run that was interrupted continues where it stopped. Nothing that belongs to
//! others is replaced or deleted: addresses are added to a list, actions to an alert.

mod bodies;
mod plan;
mod run;
mod step;
mod undo;

use std::collections::BTreeSet;

use thiserror::Error;
use url::Url;

pub use super::audit::reach::CANARY;
pub use plan::plan;
pub use run::{StepError, StepRunner};
pub use step::ConnectStep;
pub use undo::undo;

use super::address::{BridgeAddress, WebhookKind};
use super::inventory::Inventory;

/// What Sentry should be set up for.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The bridge's root, as Sentry reaches it.
    pub root: Url,
    /// The bridge's address and tokens, to recognise its webhook in Sentry.
    pub bridge: BridgeAddress,
    /// The token that goes into addresses of legacy webhooks.
    pub token: Option<String>,
    /// The webhooks by which Sentry should call the bridge; `None`: those of an integration if this Sentry has
    /// integrations, otherwise legacy webhooks.
    pub webhooks: Option<WebhookKind>,
    /// The projects that should page; empty means all.
    pub projects: BTreeSet<String>,
    /// The names of existing alerts that get the bridge as an additional action, instead of an alert of the bridge's own.
    pub extend: Vec<String>,
    /// Whether the Client Secret still has to be stored.
    pub wants_secret: bool,
    /// The issue webhooks that the bridge uses besides resolved and unresolved: `issue.assigned`, `issue.created`.
    pub issue_events: Vec<&'static str>,
    /// Whether the bridge uses the webhooks about single errors.
    pub errors: bool,
    /// The canary's alert, if there should be one.
    pub canary: Option<CanaryAlert>,
}

/// The canary's alert.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CanaryAlert {
    /// The number of the project that the canary is sent to.
    pub project_id: String,
    /// The value of the canary's tag, which the alert matches.
    pub tag: String,
}

impl ConnectOptions {
    /// Returns the webhooks by which Sentry should call the bridge.
    fn webhooks(&self, inventory: &Inventory) -> WebhookKind {
        self.webhooks.unwrap_or(if inventory.has_apps { WebhookKind::Integration } else { WebhookKind::Legacy })
    }

    /// The bridge's address for an integration. It contains no secret, because an integration's webhooks are signed.
    fn address(&self) -> String {
        format!("{}/sentry", self.root.as_str().trim_end_matches('/'))
    }

    /// The bridge's address for legacy webhooks. It contains the token, because these webhooks have no other proof of
    /// their sender.
    fn address_with_token(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("{}/{token}", self.address()))
    }
}

/// The steps that set Sentry up for the bridge, or that revert this.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConnectPlan {
    /// The steps, in this order.
    pub steps: Vec<ConnectStep>,
    /// What is left as it is, and why.
    pub notes: Vec<String>,
    /// How the setup can be proven afterwards.
    pub test: Option<TestWebhook>,
}

/// How to make Sentry send a webhook that proves the setup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TestWebhook {
    /// The test button of the WebHooks plugin of this project.
    Plugin {
        /// The project, by slug.
        project: String,
    },
    /// An action of a rule of this project, fired with a sample event. Some Sentry versions with rules support this, 23.7
    /// for one.
    RuleAction {
        /// The project, by slug.
        project: String,
    },
    /// An action of a workflow, fired with a sample event.
    Action(WebhookKind),
}

/// Why there is no plan.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PlanError {
    /// A project that the token does not see.
    #[error("the token sees no project `{0}`")]
    NoProject(String),
    /// No project at all.
    #[error("the token sees no project that could page")]
    NoProjects,
    /// A Sentry without integrations.
    #[error("this Sentry has no integrations: use `--by legacy`")]
    NoApps,
    /// No token for the address.
    #[error(
        "legacy webhooks need a token in their address: set BRIDGE_WEBHOOK_TOKEN to that of the bridge (one is made with \
         `openssl rand -hex 24`)"
    )]
    NoToken,
    /// A project whose legacy webhooks cannot be seen.
    #[error(
        "the legacy webhooks of `{0}` cannot be seen: the token needs project:read, and the project its WebHooks plugin"
    )]
    NoHook(String),
    /// An integration of the same name that is not this bridge's.
    #[error(
        "the integration `{name}` posts to {url}, which is not this bridge: change its Webhook URL in Sentry, or rename it \
         if it is another bridge's"
    )]
    AppElsewhere {
        /// Its name.
        name: String,
        /// Where it posts to, masked.
        url: String,
    },
    /// The project of the canary is not among those that the token sees.
    #[error(
        "the token sees no project with the number {0}, to which BRIDGE_CANARY_DSN leads: is it a DSN of this Sentry and \
         organization?"
    )]
    NoCanaryProject(String),
    /// There is no alert with a name that should be extended.
    #[error("no alert of these projects is called `{0}`")]
    NoAlert(String),
    /// The token does not see everything that a plan is based on.
    #[error("the token does not see enough to plan with: {0}")]
    NotSeen(String),
}
