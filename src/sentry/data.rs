//! The `data` that a webhook of the integration platform carries.
//!
//! Each kind of webhook has a file of its own with its members of `data`, its actions and the alert they make. To add
//! one, write such a file and register it here: a field of [`Data`], a line in `read_member`, in [`Data::resource`] and in
//! [`Data::into_alert`].

use chrono::{DateTime, Utc};
use serde::de::MapAccess;

use super::activity::ActivityAlert;
use super::event_alert::{ErrorEvent, EventAlert};
use super::issue::{IssueAction, IssueChange};
use super::lenient::{Any, Members, members};
use super::metric::{MetricChange, MetricStatus};
use super::resource::{NotAnAlert, Resource};
use crate::alert::Alert;

/// The `data` of the integration platform's envelope. A body has the members of one resource.
#[derive(Debug, Default)]
pub(super) struct Data {
    event_alert: EventAlert,
    error: ErrorEvent,
    issue: IssueChange,
    metric: MetricChange,
    activity: ActivityAlert,
    unused: Unused,
}

impl<'de> Members<'de> for Data {
    fn read_member<A: MapAccess<'de>>(&mut self, name: &str, object: &mut A) -> Result<bool, A::Error> {
        Ok(self.event_alert.read_member(name, object)?
            || self.error.read_member(name, object)?
            || self.issue.read_member(name, object)?
            || self.metric.read_member(name, object)?
            || self.activity.read_member(name, object)?
            || self.unused.read_member(name, object)?)
    }
}

/// Members of resources that make no alert. They only show which resource it is.
#[derive(Debug, Default)]
struct Unused {
    comment_id: Option<Any<()>>,
    installation: Option<Any<()>>,
    run_id: Option<Any<()>>,
    build_id: Option<Any<()>>,
}

members!(Unused {
    "comment_id" => comment_id,
    "installation" => installation,
    "run_id" => run_id,
    "buildId" => build_id,
});

impl Data {
    /// Infers the resource from the members of `data`, for webhooks whose header a proxy has removed.
    pub(super) fn resource(&self) -> Option<Resource> {
        let unused = &self.unused;
        let resources = [
            (self.event_alert.is_present(), Resource::EventAlert),
            (self.metric.is_present(), Resource::MetricAlert),
            (self.issue.is_present() && self.activity.is_present(), Resource::ActivityAlert),
            (self.issue.is_present(), Resource::Issue),
            (self.error.is_present(), Resource::Error),
            (unused.comment_id.is_some(), Resource::Comment),
            (unused.installation.is_some(), Resource::Installation),
            (unused.run_id.is_some(), Resource::Seer),
            (unused.build_id.is_some(), Resource::PreprodArtifact),
        ];
        resources.into_iter().find(|(is_present, _)| *is_present).map(|(_, resource)| resource)
    }

    /// The alert of `resource` and `action`; `Ok(None)` when it does not say which issue or metric alert it is about.
    ///
    /// `sent_at` is when Sentry sent the webhook; it is the time of an alert that has none of its own. Bodies from relays
    /// and tests may lack the action, which is harmless for a resource that has only one.
    pub(super) fn into_alert(
        self,
        resource: Resource,
        action: Option<&str>,
        sent_at: DateTime<Utc>,
    ) -> Result<Option<Alert>, NotAnAlert> {
        let unknown = NotAnAlert::UnknownAction(resource);
        match resource {
            Resource::EventAlert if action.is_none_or(|action| action == "triggered") => {
                Ok(self.event_alert.into_alert(sent_at))
            }
            Resource::Error if action.is_none_or(|action| action == "created") => Ok(self.error.into_alert(sent_at)),
            Resource::Issue => {
                let change = action.and_then(IssueAction::parse).ok_or(unknown)?;
                let action = change.incident_action().ok_or(NotAnAlert::Archived)?;
                Ok(self.issue.into_alert(action, sent_at))
            }
            Resource::MetricAlert => {
                let status = action.and_then(MetricStatus::parse).ok_or(unknown)?;
                Ok(self.metric.into_alert(status, sent_at))
            }
            Resource::ActivityAlert if action.is_none_or(|action| action == "triggered") => {
                self.activity.into_alert(self.issue, sent_at)
            }
            Resource::EventAlert | Resource::Error | Resource::ActivityAlert => Err(unknown),
            Resource::Installation | Resource::Comment | Resource::Seer | Resource::PreprodArtifact => {
                Err(NotAnAlert::UnusedResource(resource))
            }
        }
    }
}
