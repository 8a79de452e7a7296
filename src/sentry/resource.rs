//! What a webhook of the integration platform is about, and why a webhook does not become an alert.

use strum::{EnumString, IntoStaticStr};
use thiserror::Error;

use super::json::NotJson;

/// The values of the header `Sentry-Hook-Resource`.
///
/// Source: `sentry_apps/event_types.py` in Sentry, August 2026.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Resource {
    /// An alert rule fired for an issue.
    EventAlert,
    /// An issue changed.
    Issue,
    /// An error event came in.
    Error,
    /// A metric alert changed its status.
    MetricAlert,
    /// The integration was installed or removed.
    Installation,
    /// A comment was written.
    Comment,
    /// Sentry's debugging agent did something.
    Seer,
    /// An alert on the activity of an issue fired.
    ActivityAlert,
    /// The analysis of a mobile build.
    PreprodArtifact,
}

impl Resource {
    /// Its name in the header.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Parses that name; `None` for names that only another version of Sentry uses.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.trim().parse().ok()
    }
}

/// Why there is nothing to do for a webhook of the integration platform; `Display` is a sentence.
///
/// None of these is a fault: Sentry adds resources and actions to existing subscriptions.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
pub enum NoActionReason {
    /// The resource has nothing to do with incidents.
    #[error("webhooks about the resource `{}` do nothing to incidents", .0.name())]
    UnusedResource(Resource),
    /// The resource is of another version of Sentry.
    #[error("this version does not know what this webhook is about")]
    UnknownResource,
    /// The action is of another version of Sentry.
    #[error("this version does not know this action of the resource `{}`", .0.name())]
    UnknownAction(Resource),
    /// The issue was archived, which does not mean that it is resolved.
    #[error("an issue that is ignored or archived does nothing to its incident")]
    Archived,
    /// An activity that leaves the status of the issue as it is.
    #[error("this activity changes no status of the issue, so it does nothing to its incident")]
    OtherActivity,
    /// Sentry checks whether a server answers, as it does before it saves an integration.
    #[error("this is a validation request: Sentry asks whether anybody listens")]
    Validation,
}

/// Why a webhook does not become an alert.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ParseFailure {
    /// There is nothing to do for it, so it is ignored.
    #[error(transparent)]
    Ignored(#[from] NoActionReason),
    /// It cannot be understood.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// Why a body is rejected. The message never quotes the body.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Rejection {
    /// It is not JSON, even after repair.
    #[error(transparent)]
    NotJson(#[from] NotJson),
    /// It is JSON, but not a Sentry webhook.
    #[error("the body is JSON, but not a Sentry webhook: no event or project")]
    NotSentry,
    /// It looks like a Sentry webhook, but contains nothing to make an incident key from.
    #[error(
        "the body looks like a webhook of Sentry, but names neither an issue nor a metric alert: there is no id of one \
         in it, and none in an address"
    )]
    NoIssue,
}
