//! Sets Sentry up for the bridge: what is missing becomes a [`Plan`], and each of its steps is then taken.
//!
//! Planning is pure: an [`Inventory`] and a [`Wish`] go in, steps come out. What is there already is no step, so that a
//! second run has nothing to do, and a run that was interrupted goes on where it ended. Nothing of somebody else's is
//! replaced or deleted: addresses are added to a list, actions to an alert.

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

/// By what Sentry calls the bridge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// The legacy WebHooks plugin of each project. Never tells that an issue is resolved.
    Legacy,
    /// An internal integration of the organization.
    Integration,
}

/// What the user wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The bridge's root, as Sentry reaches it.
    pub root: Url,
    /// The bridge, to know its address again.
    pub bridge: Bridge,
    /// The token that goes into addresses of legacy webhooks.
    pub token: Option<String>,
    /// By what Sentry shall call; `None`: an integration where there are some.
    pub way: Option<Way>,
    /// The projects that shall page; empty: all.
    pub projects: BTreeSet<String>,
    /// Names of alerts that get the bridge as a further action, in place of one of its own.
    pub extend: Vec<String>,
    /// Whether the Client Secret is still to be stored.
    pub wants_secret: bool,
    /// Issues' webhooks that the bridge makes use of, besides resolved and unresolved: `issue.assigned`, `issue.created`.
    pub issue_events: Vec<&'static str>,
    /// Whether the bridge makes use of the webhooks about single errors.
    pub errors: bool,
    /// The canary's alert, where there shall be one.
    pub canary: Option<CanaryWish>,
}

/// The canary's alert.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CanaryWish {
    /// The number of the project that the canary is sent to.
    pub project: String,
    /// The value of the canary's tag, which the alert asks for.
    pub tag: String,
}

impl Wish {
    /// By what Sentry is to call.
    fn way(&self, inventory: &Inventory) -> Way {
        self.way.unwrap_or(if inventory.generation.apps { Way::Integration } else { Way::Legacy })
    }

    /// The bridge's address for an integration, without a secret: its webhooks are signed.
    fn address(&self) -> String {
        format!("{}/sentry", self.root.as_str().trim_end_matches('/'))
    }

    /// The bridge's address for legacy webhooks, which carry nothing else that proves who sends them.
    fn address_with_token(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("{}/{token}", self.address()))
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What is left as it is, and why.
    pub notes: Vec<String>,
    /// What proves the set-up afterwards.
    pub proof: Option<Proof>,
}

/// How Sentry is made to send a webhook that proves the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proof {
    /// The test button of the WebHooks plugin of this project.
    Plugin {
        /// The project, by slug.
        project: String,
    },
    /// An action of a rule of this project, fired with a sample event. Some Sentrys with rules can do that: 23.7 does.
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
    /// No alert of a name that is to be extended.
    #[error("no alert of these projects is called `{0}`")]
    NoAlert(String),
    /// The token lacks what a plan would be based on.
    #[error("the token does not see enough to plan with: {0}")]
    NotSeen(String),
}

/// What Sentry calls the things that hold alerts, for print.
fn noun(alerts: Alerts) -> &'static str {
    match alerts {
        Alerts::Rules => "alert rule",
        Alerts::Workflows => "alert",
    }
}
