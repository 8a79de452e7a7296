//! The steps of a plan; `Display` describes each of them.

use std::fmt;

use super::super::address::{WebhookKind, masked};
use super::super::types::{AlertSystem, JsonObject};
use super::CANARY;

/// One change in Sentry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConnectStep {
    /// Creates the internal integration, and returns its Client Secret.
    CreateApp {
        /// Its name.
        name: String,
        /// The address it posts to.
        url: String,
        /// What it subscribes to.
        events: Vec<String>,
        /// The same, for Sentry versions that know only whole resources.
        resources: Vec<String>,
    },
    /// Makes the integration an alert action, and adds subscriptions.
    UpdateApp {
        /// Its slug.
        slug: String,
        /// Its name, which the request must contain.
        name: String,
        /// Its scopes, which the request must contain.
        scopes: Vec<String>,
        /// Everything it should subscribe to.
        events: Vec<String>,
    },
    /// Returns the Client Secret of an existing integration.
    ReadSecret {
        /// Its slug.
        slug: String,
    },
    /// Deletes the integration.
    DeleteApp {
        /// Its slug.
        slug: String,
    },
    /// Replaces the addresses of a project's legacy webhooks with a list to which the bridge's address was added, or from
    /// which it was removed.
    SetUrls {
        /// The project.
        project: String,
        /// What decides whom this Sentry notifies, and with it the endpoint.
        alerts: AlertSystem,
        /// The bridge's address.
        url: String,
        /// The whole list.
        urls: Vec<String>,
        /// Whether `url` was added to the list, or removed from it.
        added: bool,
        /// Whether the webhooks should be enabled; the endpoint of 2026 takes this in the same request.
        enabled: bool,
    },
    /// Switches legacy webhooks of a project on.
    EnableHook {
        /// The project.
        project: String,
        /// What decides whom this Sentry notifies, and with it the endpoint.
        alerts: AlertSystem,
    },
    /// Switches legacy webhooks of a project off.
    DisableHook {
        /// The project.
        project: String,
        /// What decides whom this Sentry notifies, and with it the endpoint.
        alerts: AlertSystem,
    },
    /// Creates an alert rule of the bridge's own.
    CreateRule {
        /// The project.
        project: String,
        /// Its name.
        name: String,
        /// The webhooks that it calls.
        webhooks: WebhookKind,
        /// Whether this Sentry's rules have filters.
        filters: bool,
    },
    /// Adds an action to a rule.
    ExtendRule {
        /// The project.
        project: String,
        /// Its number.
        id: String,
        /// Its name.
        name: String,
        /// The webhooks that it should call in addition.
        webhooks: WebhookKind,
        /// The rule as it is now.
        raw: JsonObject,
    },
    /// Removes actions from a rule.
    ReduceRule {
        /// The project.
        project: String,
        /// Its number.
        id: String,
        /// Its name.
        name: String,
        /// The rule as it should be.
        raw: JsonObject,
    },
    /// Deletes a rule of the bridge's own.
    DeleteRule {
        /// The project.
        project: String,
        /// Its number.
        id: String,
        /// Its name.
        name: String,
    },
    /// Creates the alert rule of the canary.
    CreateCanaryRule {
        /// The project.
        project: String,
        /// The value of the canary's tag.
        tag: String,
        /// The webhooks that it calls.
        webhooks: WebhookKind,
    },
    /// Creates the workflow of the canary.
    CreateCanaryWorkflow {
        /// The project, by slug, for display.
        project: String,
        /// The detector that it is connected to.
        detector: String,
        /// The value of the canary's tag.
        tag: String,
        /// The webhooks that it calls.
        webhooks: WebhookKind,
    },
    /// Creates a workflow of the bridge's own.
    CreateWorkflow {
        /// Its name.
        name: String,
        /// The projects, by slug, for display.
        projects: Vec<String>,
        /// The detectors that it is connected to.
        detectors: Vec<String>,
        /// The webhooks that it calls.
        webhooks: WebhookKind,
    },
    /// Connects a workflow to further detectors.
    ConnectDetectors {
        /// Its number.
        id: String,
        /// Its name.
        name: String,
        /// The projects that are added, by slug, for display.
        projects: Vec<String>,
        /// The workflow as it should be.
        raw: JsonObject,
    },
    /// Adds an action to a workflow.
    ExtendWorkflow {
        /// Its number.
        id: String,
        /// Its name.
        name: String,
        /// The webhooks that it should call in addition.
        webhooks: WebhookKind,
        /// The workflow as it is now.
        raw: JsonObject,
    },
    /// Removes actions from a workflow.
    ReduceWorkflow {
        /// Its number.
        id: String,
        /// Its name.
        name: String,
        /// The workflow as it should be.
        raw: JsonObject,
    },
    /// Deletes a workflow of the bridge's own.
    DeleteWorkflow {
        /// Its number.
        id: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for ConnectStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = noun(AlertSystem::Rules);
        let alert = noun(AlertSystem::Workflows);
        match self {
            Self::CreateApp { name, url, events, .. } => write!(
                f,
                "make the internal integration \"{name}\": it posts to {}, may read events, is an alert action, and subscribes \
                 to {}",
                masked(url),
                events.join(", ")
            ),
            Self::UpdateApp { name, events, .. } => {
                write!(f, "make the integration \"{name}\" an alert action that subscribes to {}", events.join(", "))
            }
            Self::ReadSecret { slug } => write!(f, "read the Client Secret of the integration {slug}"),
            Self::DeleteApp { slug } => write!(f, "delete the integration {slug}"),
            Self::SetUrls { project, url, urls, added: true, .. } => {
                write!(f, "{project}: add {} to the addresses of its WebHooks{}", masked(url), others(urls.len() - 1))
            }
            Self::SetUrls { project, url, urls, added: false, .. } => {
                write!(f, "{project}: take {} out of the addresses of its WebHooks{}", masked(url), others(urls.len()))
            }
            Self::EnableHook { project, .. } => write!(f, "{project}: enable its WebHooks"),
            Self::DisableHook { project, .. } => {
                write!(f, "{project}: disable its WebHooks, which have no other address")
            }
            Self::CreateRule { project, name, .. } => {
                write!(f, "{project}: make the {rule} \"{name}\": new issues and regressions call the bridge")
            }
            Self::CreateCanaryRule { project, .. } => {
                write!(f, "{project}: make the {rule} \"{CANARY}\": every canary calls the bridge")
            }
            Self::CreateCanaryWorkflow { project, .. } => {
                write!(f, "make the {alert} \"{CANARY}\": every canary of {project} calls the bridge")
            }
            Self::ExtendRule { project, name, .. } => {
                write!(f, "{project}: let the {rule} \"{name}\" call the bridge too")
            }
            Self::ReduceRule { project, name, .. } => {
                write!(f, "{project}: let the {rule} \"{name}\" not call the bridge any more")
            }
            Self::DeleteRule { project, name, .. } => write!(f, "{project}: delete the {rule} \"{name}\""),
            Self::CreateWorkflow { name, projects, webhooks, .. } => {
                let closes = if *webhooks == WebhookKind::Integration { ", resolved ones too" } else { "" };
                write!(
                    f,
                    "make the {alert} \"{name}\": new, returning and regressed issues{closes} of {} call the bridge",
                    projects.join(", ")
                )
            }
            Self::ConnectDetectors { name, projects, .. } => {
                write!(f, "connect the {alert} \"{name}\" to {} as well", projects.join(", "))
            }
            Self::ExtendWorkflow { name, .. } => write!(f, "let the {alert} \"{name}\" call the bridge too"),
            Self::ReduceWorkflow { name, .. } => write!(f, "let the {alert} \"{name}\" not call the bridge any more"),
            Self::DeleteWorkflow { name, .. } => write!(f, "delete the {alert} \"{name}\""),
        }
    }
}

/// Describes how many other addresses stay as they are, for display.
fn others(number: usize) -> String {
    match number {
        0 => String::new(),
        1 => ", where the other one stays".to_owned(),
        number => format!(", where the other {number} stay"),
    }
}

/// What Sentry calls the objects that fire alerts, for display.
pub(super) fn noun(alerts: AlertSystem) -> &'static str {
    match alerts {
        AlertSystem::Rules => "alert rule",
        AlertSystem::Workflows => "alert",
    }
}
