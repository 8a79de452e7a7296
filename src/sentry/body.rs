//! A webhook, and the one parser of its body, whichever of Sentry's three senders wrote it.
//!
//! - The `WebHooks` plugin, since Sentry 8.0: flat and unsigned. Source: `get_group_data` in Sentry's
//!   `plugins/sentry_webhooks/plugin.py`.
//! - A project's service hook, since Sentry 9.0: `{project, group, event}`, each as Sentry's API shows it. Only Sentry's API
//!   creates such hooks. They send what alert rules and the plugin send, but never that an issue is resolved. Their own
//!   signature (`X-ServiceHook-Signature`) is not verified: they are authenticated by the token. Source:
//!   `get_payload_v0` in Sentry's `tasks/servicehooks.py`, later `sentry_apps/tasks/service_hooks.py`, and
//!   `EventSerializer` in `api/serializers/models/event.py`.
//! - The integration platform, since Sentry 9.1: `{action, installation, data, actor}`, signed. `data` depends on the
//!   resource, which a header names. Source: `sentry_apps/api/serializers/app_platform_event.py` and
//!   `sentry_apps/event_types.py`.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde::de::MapAccess;

use super::event::{EventAlert, SentryEvent, alert_with_issue};
use super::issue::{self, ActivityAlert, IssueChange};
use super::json;
use super::lenient::{Any, FromJson, ReadMembers, members, non_blank, read_members};
use super::link;
use super::metric::{MetricChange, MetricStatus};
use super::resource::{NoActionReason, ParseFailure, Rejection, Resource};
use crate::alert::{Alert, IncidentAction, Project, SentryId, Subject, TriggerKind};

/// The maximum age of a time from Sentry that is trusted, such as that of `Sentry-Hook-Timestamp`. Sentry waits seconds
/// for a response and retries after five minutes.
const OLDEST: TimeDelta = TimeDelta::minutes(10);

/// A request from Sentry.
#[derive(Clone, Copy, Debug)]
pub struct Webhook<'a> {
    /// The header `Sentry-Hook-Resource`, which only the integration platform sends.
    pub resource: Option<&'a str>,
    /// Whether it has the header `Sentry-App-Signature`, which requests from Sentry's own pages have.
    pub has_app_signature: bool,
    /// The header `Idempotency-Key`, the same for every retry of one delivery; Sentry sends it since 2026.
    pub idempotency_key: Option<&'a str>,
    /// The header `Sentry-Hook-Timestamp`: when Sentry sent the webhook, by Sentry's clock.
    pub sent_at: Option<DateTime<Utc>>,
    /// The body, byte for byte.
    pub body: &'a [u8],
    /// Whether Sentry's signature proves the body. The headers are not signed.
    pub is_signature_verified: bool,
    /// When it was received; also the time of an event that has none.
    pub received_at: DateTime<Utc>,
}

/// In which of Sentry's two formats an alert was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WebhookFormat {
    /// The legacy plugin, or a service hook.
    Legacy,
    /// The integration platform.
    Platform,
}

impl<'a> Webhook<'a> {
    /// A webhook without any of Sentry's headers, as the legacy plugin sends it.
    #[must_use]
    pub fn of_body(body: &'a [u8], received_at: DateTime<Utc>) -> Self {
        Self {
            resource: None,
            has_app_signature: false,
            idempotency_key: None,
            sent_at: None,
            body,
            is_signature_verified: false,
            received_at,
        }
    }

    /// Whether its headers say that the integration platform sent it.
    #[must_use]
    pub fn has_platform_headers(&self) -> bool {
        self.resource.is_some() || self.has_app_signature
    }

    /// Returns when Sentry received the event of `alert` or, if there is no event, when it sent the webhook. The time is by
    /// Sentry's clock, for comparison with other times from Sentry. `None` if Sentry sends neither, or an implausible time.
    #[must_use]
    pub fn sentry_time(&self, alert: &Alert) -> Option<DateTime<Utc>> {
        self.plausible(alert.received_by_sentry_at.or(self.sent_at))
    }

    /// Parses the body. The headers determine its format or, if a proxy has removed them, the body's members do.
    ///
    /// # Errors
    ///
    /// When there is nothing to do for the webhook, or its body cannot be understood.
    pub fn parse(&self) -> Result<(Alert, WebhookFormat), ParseFailure> {
        if self.has_platform_headers() && self.body.trim_ascii().is_empty() {
            return Err(NoActionReason::Validation.into());
        }
        let mut body = json::read::<WebhookBody>(self.body).map_err(Rejection::from)?.unwrap_or_default();
        let is_legacy = body.is_legacy();
        let has_action = body.action.is_some();
        let action = body.action.take().and_then(|Any(action)| action);
        match (self.resource, body.data.take()) {
            // Sentry has sent test notifications in the legacy form to integrations (sentry#67314).
            (Some(_), None | Some(Any(None))) if is_legacy => self.legacy(body),
            (Some(resource), data) => {
                let resource = Resource::parse(resource).ok_or(NoActionReason::UnknownResource)?;
                self.platform(data.and_then(|Any(data)| data).unwrap_or_default(), resource, action.as_deref())
            }
            (None, Some(Any(data))) if has_action || !is_legacy => {
                let data = data.unwrap_or_default();
                match data.resource() {
                    Some(resource) => self.platform(data, resource, action.as_deref()),
                    None if action.is_some() => Err(NoActionReason::UnknownResource.into()),
                    None => Err(Rejection::NotSentry.into()),
                }
            }
            (None, _) if is_legacy => self.legacy(body),
            // Requests from Sentry's own pages have other forms. Rejecting them would keep people from choosing the
            // bridge as the action of a rule.
            (None, _) if self.has_app_signature => Err(NoActionReason::Validation.into()),
            (None, _) => Err(Rejection::NotSentry.into()),
        }
    }

    fn legacy(&self, body: WebhookBody) -> Result<(Alert, WebhookFormat), ParseFailure> {
        let alert = body.into_alert(self.received_at).ok_or(Rejection::NoIssue)?;
        Ok((alert, WebhookFormat::Legacy))
    }

    fn platform(
        &self,
        data: Box<Data>,
        resource: Resource,
        action: Option<&str>,
    ) -> Result<(Alert, WebhookFormat), ParseFailure> {
        // The header is not signed, and clocks differ.
        let sent_at = self.plausible(self.sent_at).unwrap_or(self.received_at);
        let alert = data.into_alert(resource, action, sent_at)?.ok_or(Rejection::NoIssue)?;
        Ok((alert, WebhookFormat::Platform))
    }

    /// Returns a time of Sentry's clock, unless it is implausible by the bridge's own clock.
    fn plausible(&self, time: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        time.filter(|time| (self.received_at - OLDEST..=self.received_at).contains(time))
    }
}

/// The members of all three kinds of bodies.
#[derive(Debug, Default)]
pub(super) struct WebhookBody {
    id: Option<SentryId>,
    project: Option<ProjectMember>,
    project_name: Option<String>,
    project_slug: Option<String>,
    culprit: Option<String>,
    level: Option<String>,
    logger: Option<String>,
    message: Option<String>,
    url: Option<String>,
    triggering_rules: Option<Vec<String>>,
    event: Option<SentryEvent>,
    group: Option<Group>,
    action: Option<Any<String>>,
    data: Option<Any<Box<Data>>>,
}

members!(WebhookBody {
    "id" => id,
    "project" => project,
    "project_name" => project_name,
    "project_slug" => project_slug,
    "culprit" => culprit,
    "level" => level,
    "logger" => logger,
    "message" => message,
    "url" => url,
    "triggering_rules" => triggering_rules,
    "event" => event,
    "group" => group,
    "action" => action,
    "data" => data,
});

/// `project`: the slug in the plugin's body, an object in a service hook's.
#[derive(Debug)]
enum ProjectMember {
    Slug(String),
    Object(Project),
}

impl<'de> FromJson<'de> for ProjectMember {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        String::from_text(text).map(Self::Slug)
    }

    fn from_bool(value: bool) -> Option<Self> {
        String::from_bool(value).map(Self::Slug)
    }

    fn from_integer(value: i128) -> Option<Self> {
        String::from_integer(value).map(Self::Slug)
    }

    fn from_float(value: f64) -> Option<Self> {
        String::from_float(value).map(Self::Slug)
    }

    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        Project::read(object).map(|project| Some(Self::Object(project)))
    }
}

/// The issue in a service hook's body.
#[derive(Debug, Default)]
struct Group {
    id: Option<SentryId>,
    url: Option<String>,
    permalink: Option<String>,
    title: Option<String>,
    culprit: Option<String>,
    level: Option<String>,
    logger: Option<String>,
}

members!(Group {
    "id" => id,
    "url" => url,
    "permalink" => permalink,
    "title" => title,
    "culprit" => culprit,
    "level" => level,
    "logger" => logger,
});

impl WebhookBody {
    /// Whether it has an event or a project, as the bodies of the plugin and of service hooks have.
    fn is_legacy(&self) -> bool {
        let has_slug = matches!(self.project, Some(ProjectMember::Slug(_)));
        self.event.is_some() || has_slug || self.project_name.is_some() || self.project_slug.is_some()
    }

    /// The alert of a legacy body; `None` when it does not name its issue.
    ///
    /// A service hook also has members of the plugin's body, but its issue is in a member of its own.
    fn into_alert(mut self, received_at: DateTime<Utc>) -> Option<Alert> {
        let named = self.id.take();
        match named.or_else(|| link::issue_id(self.url.as_ref()?)) {
            Some(issue) => Some(self.into_alert_of_plugin(issue, received_at)),
            None => self.into_alert_of_service_hook(received_at),
        }
    }

    fn into_alert_of_plugin(self, issue: SentryId, received_at: DateTime<Utc>) -> Alert {
        let mut event = self.event.unwrap_or_default();
        // The members of the body take precedence over those of its event, except for the culprit: in the body it is that
        // of the issue's first event. Sentry's plugin prefers the event's own culprit too.
        event.message = self.message;
        event.culprit = non_blank(event.culprit.clone()).or(self.culprit).or(event.culprit);
        event.level = non_blank(self.level).or(event.level);
        event.logger = non_blank(self.logger).or(event.logger);
        let slug = match self.project {
            Some(ProjectMember::Slug(slug)) => Some(slug),
            _ => None,
        };
        let rules = self.triggering_rules.unwrap_or_default();
        Alert {
            project: Project {
                name: non_blank(self.project_name),
                slug: non_blank(self.project_slug).or_else(|| non_blank(slug)),
                others: Vec::new(),
            },
            link: self.url.and_then(|url| link::issue_link(&url)),
            rules: rules.into_iter().filter_map(|rule| non_blank(Some(rule))).collect(),
            ..event.into_alert(Subject::Issue(issue), IncidentAction::Trigger(TriggerKind::Alert), received_at)
        }
    }

    /// Makes the alert of an issue and its event as Sentry's API shows them; `None` when neither names the issue.
    pub(super) fn into_alert_of_service_hook(self, received_at: DateTime<Utc>) -> Option<Alert> {
        let mut event = self.event.unwrap_or_default();
        let group = self.group.unwrap_or_default();
        let pages = [group.url, group.permalink, event.url.take()].map(non_blank);
        let named = group.id.or_else(|| event.issue_id.take());
        let issue = named.or_else(|| pages.iter().flatten().find_map(|page| link::issue_id(page)))?;
        event.title = non_blank(event.title).or_else(|| non_blank(group.title));
        event.culprit = non_blank(event.culprit.clone()).or(group.culprit).or(event.culprit);
        event.unpack_entries();
        let project = match self.project {
            Some(ProjectMember::Object(project)) => issue::named(project),
            _ => Project::default(),
        };
        let mut alert = Alert {
            project,
            link: pages.iter().flatten().find_map(|page| link::issue_link(page)),
            ..event.into_alert(Subject::Issue(issue), IncidentAction::Trigger(TriggerKind::Alert), received_at)
        };
        // The event has them only as tags.
        alert.level = alert.level.or_else(|| non_blank(group.level));
        alert.logger = alert.logger.or_else(|| non_blank(group.logger));
        Some(alert)
    }
}

/// The `data` of the integration platform's body. A body has the members of one resource.
///
/// Each kind of webhook has a type with its members of `data`, which makes the alert. To add one, write such a type in a file
/// beside this one and register it here: a field of [`Data`], a name in `read_members!`, and a line in [`Data::resource`] and
/// in [`Data::into_alert`].
#[derive(Debug, Default)]
pub(super) struct Data {
    event_alert: EventAlert,
    error: Option<SentryEvent>,
    issue: IssueChange,
    metric: MetricChange,
    activity: ActivityAlert,
    // Members of resources that make no alert. They only show which resource it is.
    comment_id: Option<Any<()>>,
    installation: Option<Any<()>>,
    run_id: Option<Any<()>>,
    build_id: Option<Any<()>>,
}

read_members!(Data {
    "error" => error,
    "comment_id" => comment_id,
    "installation" => installation,
    "run_id" => run_id,
    "buildId" => build_id,
    ..event_alert,
    ..issue,
    ..metric,
    ..activity,
});

impl Data {
    /// Infers the resource from the members of `data`, for webhooks whose header a proxy has removed.
    pub(super) fn resource(&self) -> Option<Resource> {
        let resources = [
            (self.event_alert.is_present(), Resource::EventAlert),
            (self.metric.is_present(), Resource::MetricAlert),
            (self.issue.is_present() && self.activity.is_present(), Resource::ActivityAlert),
            (self.issue.is_present(), Resource::Issue),
            (self.error.is_some(), Resource::Error),
            (self.comment_id.is_some(), Resource::Comment),
            (self.installation.is_some(), Resource::Installation),
            (self.run_id.is_some(), Resource::Seer),
            (self.build_id.is_some(), Resource::PreprodArtifact),
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
    ) -> Result<Option<Alert>, NoActionReason> {
        let unknown = NoActionReason::UnknownAction(resource);
        match resource {
            Resource::EventAlert if action.is_none_or(|action| action == "triggered") => {
                Ok(self.event_alert.into_alert(sent_at))
            }
            Resource::Error if action.is_none_or(|action| action == "created") => {
                Ok(self.error.and_then(|event| alert_with_issue(event, TriggerKind::Error, sent_at)))
            }
            Resource::Issue => {
                let action = action.map_or(Err(unknown), issue::incident_action)?;
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
                Err(NoActionReason::UnusedResource(resource))
            }
        }
    }
}
