//! The bodies of Sentry's integration platform: `{action, installation, data, actor}`, signed, since Sentry 9.1.
//!
//! What stands in `data` depends on the resource, which a header names:
//!
//! - [`resource`]: the resources, by header or by shape
//! - [`event`]: of `event_alert` and `error`
//! - [`issue`]: of `issue`
//! - [`metric`]: of `metric_alert`
//! - [`silence`]: webhooks that ask for nothing, and why
//!
//! Source: `sentry_apps/api/serializers/app_platform_event.py` and `sentry_apps/event_types.py` in Sentry.

pub mod event;
pub mod issue;
pub mod metric;
pub mod resource;
pub mod silence;

use chrono::{DateTime, Utc};

use super::event::Event;
use super::lenient::{Present, Text, members};
use crate::alert::{Action, Alert, Opening};

pub use resource::Resource;
pub use silence::Silence;

use event::RuleAction;
use issue::{Assignee, Issue};
use metric::MetricAlert;

/// A body as far as it is the platform's.
#[derive(Debug, Default)]
pub struct Body {
    action: Option<Text>,
    data: Option<Data>,
}

members!(Body { "action" => action, "data" => data });

/// What the resources tell; each body has one of them.
#[derive(Debug, Default)]
struct Data {
    event: Option<Event>,
    triggered_rule: Option<Text>,
    issue_alert: Option<RuleAction>,
    error: Option<Event>,
    issue: Option<Issue>,
    assignee: Option<Assignee>,
    activity: Option<Present>,
    metric_alert: Option<MetricAlert>,
    description_title: Option<Text>,
    description_text: Option<Text>,
    web_url: Option<Text>,
    comment_id: Option<Present>,
    installation: Option<Present>,
    run_id: Option<Present>,
    build_id: Option<Present>,
}

members!(Data {
    "event" => event,
    "triggered_rule" => triggered_rule,
    "issue_alert" => issue_alert,
    "error" => error,
    "issue" => issue,
    "assignee" => assignee,
    "activity" => activity,
    "metric_alert" => metric_alert,
    "description_title" => description_title,
    "description_text" => description_text,
    "web_url" => web_url,
    "comment_id" => comment_id,
    "installation" => installation,
    "run_id" => run_id,
    "buildId" => build_id,
});

/// What a body says.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Something about an incident.
    Alert(Box<Alert>),
    /// Nothing that asks for anything.
    Nothing(Silence),
    /// Something about an incident, but not which.
    NoSubject,
}

impl Body {
    /// Whether it has `data`, as every body of the platform has.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.data.is_some()
    }

    /// Whether it names an action, as every body of the platform does that was not trimmed.
    #[must_use]
    pub fn has_action(&self) -> bool {
        self.action.is_some()
    }

    /// The resource by the shape of `data`, for bodies whose header a proxy has taken off.
    #[must_use]
    pub fn shape(&self) -> Option<Resource> {
        let data = self.data.as_ref()?;
        let shapes = [
            (data.event.is_some(), Resource::EventAlert),
            (data.metric_alert.is_some(), Resource::MetricAlert),
            (data.issue.is_some() && data.activity.is_some(), Resource::ActivityAlert),
            (data.issue.is_some(), Resource::Issue),
            (data.error.is_some(), Resource::Error),
            (data.comment_id.is_some(), Resource::Comment),
            (data.installation.is_some(), Resource::Installation),
            (data.run_id.is_some(), Resource::Seer),
            (data.build_id.is_some(), Resource::PreprodArtifact),
        ];
        shapes.into_iter().find(|(fits, _)| *fits).map(|(_, resource)| resource)
    }

    /// What the body says about `resource`.
    ///
    /// `sent_at` is when Sentry sent it: the time of whatever tells none.
    #[must_use]
    pub fn told(self, resource: Resource, sent_at: DateTime<Utc>) -> Told {
        // Bodies of relays and tests may lack the action; these two resources have no other.
        let action = match (&self.action, resource) {
            (Some(Text(action)), _) => action.as_str(),
            (None, Resource::EventAlert) => "triggered",
            (None, Resource::Error) => "created",
            (None, _) => "",
        };
        let data = self.data.unwrap_or_default();
        let alert = match (resource, action) {
            (Resource::EventAlert, "triggered") => {
                let rule = event::rule(data.triggered_rule, data.issue_alert);
                data.event.and_then(|event| event::alert(event, Opening::Alert, rule, sent_at))
            }
            (Resource::Error, "created") => {
                data.error.and_then(|error| event::alert(error, Opening::Error, None, sent_at))
            }
            (Resource::Issue, "created" | "unresolved" | "resolved" | "assigned") => {
                let action = match action {
                    "created" => Action::Trigger(Opening::IssueCreated),
                    "unresolved" => Action::Trigger(Opening::IssueUnresolved),
                    "resolved" => Action::Resolve,
                    _ => Action::Acknowledge,
                };
                data.issue.and_then(|issue| issue.into_alert(action, data.assignee, sent_at))
            }
            (Resource::Issue, "ignored" | "archived") => return Told::Nothing(Silence::Archived),
            (Resource::MetricAlert, "critical" | "warning" | "open" | "resolved") => {
                let words = metric::Words {
                    status: action,
                    title: data.description_title,
                    text: data.description_text,
                    page: data.web_url,
                };
                data.metric_alert.and_then(|metric| metric.into_alert(words, sent_at))
            }
            (Resource::EventAlert | Resource::Error | Resource::Issue | Resource::MetricAlert, _) => {
                return Told::Nothing(Silence::UnknownAction(resource));
            }
            _ => return Told::Nothing(Silence::Unused(resource)),
        };
        alert.map_or(Told::NoSubject, |alert| Told::Alert(Box::new(alert)))
    }
}
