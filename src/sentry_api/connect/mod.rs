//! Sets Sentry up for the bridge: what is missing becomes a [`Plan`], whose steps are then carried out.
//!
//! Planning is pure: an [`Inventory`] and a [`Wish`] go in, steps come out. What exists already needs no step, so a
//! second run has nothing to do, and a run that was interrupted continues where it stopped. Nothing that belongs to
//! others is replaced or deleted: addresses are added to a list, actions to an alert.

mod bodies;
mod canary;
mod plan;
mod run;
mod step;
mod undo;

use std::collections::BTreeSet;

use thiserror::Error;
use url::Url;

pub use super::audit::reach::CANARY;
pub use plan::plan;
pub use run::{Runner, StepError, Taken};
pub use step::{AlertTarget, Step};
pub use undo::undo;

use super::inventory::{Alerts, Inventory};
use super::ours::Bridge;

/// The way in which Sentry calls the bridge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// The legacy WebHooks plugin of each project. It never reports that an issue is resolved.
    Legacy,
    /// An internal integration of the organization.
    Integration,
}

/// What the user wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The bridge's root, as Sentry reaches it.
    pub root: Url,
    /// The bridge's address and tokens, to recognise its webhook in Sentry.
    pub bridge: Bridge,
    /// The token that goes into addresses of legacy webhooks.
    pub token: Option<String>,
    /// The way in which Sentry should call the bridge; `None`: an integration if this Sentry has integrations, otherwise
    /// legacy webhooks.
    pub way: Option<Way>,
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
    pub canary: Option<CanaryWish>,
}

/// The canary's alert.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CanaryWish {
    /// The number of the project that the canary is sent to.
    pub project: String,
    /// The value of the canary's tag, which the alert matches.
    pub tag: String,
}

impl Wish {
    /// Returns the way in which Sentry should call the bridge.
    fn way(&self, inventory: &Inventory) -> Way {
        self.way.unwrap_or(if inventory.generation.apps { Way::Integration } else { Way::Legacy })
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
pub struct Plan {
    /// The steps, in this order.
    pub steps: Vec<Step>,
    /// What is left as it is, and why.
    pub notes: Vec<String>,
    /// How the setup can be proven afterwards.
    pub proof: Option<Proof>,
}

/// How to make Sentry send a webhook that proves the setup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proof {
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
    Action(AlertTarget),
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

/// What Sentry calls the objects that fire alerts, for display.
fn noun(alerts: Alerts) -> &'static str {
    match alerts {
        Alerts::Rules => "alert rule",
        Alerts::Workflows => "alert",
    }
}
