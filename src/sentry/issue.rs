//! `issue`: an issue was changed, by a person or automatically; `activity_alert`: an alert on the activity of an issue. The
//! webhooks have neither tags nor an environment.

use chrono::{DateTime, Utc};

use super::event::SentryEvent;
use super::lenient::{FromJson, members, non_blank};
use super::link::{self, ApiAddress};
use super::resource::{NoActionReason, Resource};
use super::tags::{ActionSettings, Tags};
use super::title::{Metadata, titled};
use crate::alert::{Alert, IncidentAction, IssueLink, Project, SentryId, Subject, TriggerKind};

/// What a change of an issue, the action of the webhook, does to the incident.
pub(super) fn incident_action(change: &str) -> Result<IncidentAction, NoActionReason> {
    match change {
        "created" => Ok(IncidentAction::Trigger(TriggerKind::IssueCreated)),
        // A resolved or archived issue is back, or escalates.
        "unresolved" => Ok(IncidentAction::Reopen(TriggerKind::IssueUnresolved)),
        "resolved" => Ok(IncidentAction::Resolve),
        "assigned" => Ok(IncidentAction::Acknowledge),
        "ignored" | "archived" => Err(NoActionReason::Archived),
        _ => Err(NoActionReason::UnknownAction(Resource::Issue)),
    }
}

/// The members of `data`.
#[derive(Debug, Default)]
pub(super) struct IssueChange {
    issue: Option<ChangedIssue>,
    assignee: Option<Assignee>,
}

members!(IssueChange { "issue" => issue, "assignee" => assignee });

/// An issue as Sentry's API shows it.
#[derive(Debug, Default)]
struct ChangedIssue {
    id: Option<SentryId>,
    short_id: Option<String>,
    title: Option<String>,
    metadata: Option<Metadata>,
    culprit: Option<String>,
    logger: Option<String>,
    level: Option<String>,
    platform: Option<String>,
    project: Option<Project>,
    web_url: Option<String>,
    permalink: Option<String>,
    url: Option<String>,
    substatus: Option<String>,
    priority: Option<String>,
    category: Option<String>,
    kind: Option<String>,
    count: Option<String>,
    user_count: Option<String>,
    first_seen: Option<String>,
    last_seen: Option<String>,
    assignee: Option<Assignee>,
}

members!(ChangedIssue {
    "id" => id,
    "shortId" => short_id,
    "title" => title,
    "metadata" => metadata,
    "culprit" => culprit,
    "logger" => logger,
    "level" => level,
    "platform" => platform,
    "project" => project,
    "web_url" => web_url,
    "permalink" => permalink,
    "url" => url,
    "substatus" => substatus,
    "priority" => priority,
    "issueCategory" => category,
    "issueType" => kind,
    "count" => count,
    "userCount" => user_count,
    "firstSeen" => first_seen,
    "lastSeen" => last_seen,
    "assignedTo" => assignee,
});

members!(Project { "name" => name, "slug" => slug });

/// A project as Sentry's API shows it, without blank names.
pub(super) fn named(project: Project) -> Project {
    Project { name: non_blank(project.name), slug: non_blank(project.slug), others: Vec::new() }
}

/// The person or team that an issue is assigned to.
#[derive(Debug, Default)]
struct Assignee {
    name: Option<String>,
}

members!(Assignee { "name" => name });

impl IssueChange {
    pub(super) fn is_present(&self) -> bool {
        self.issue.is_some()
    }

    /// The alert; `None` when the issue has no id.
    pub(super) fn into_alert(self, action: IncidentAction, sent_at: DateTime<Utc>) -> Option<Alert> {
        self.issue?.into_alert(action, self.assignee, sent_at)
    }
}

impl ChangedIssue {
    fn into_alert(
        mut self,
        action: IncidentAction,
        assignee: Option<Assignee>,
        sent_at: DateTime<Utc>,
    ) -> Option<Alert> {
        let pages = [self.web_url.take(), self.permalink.take()].map(non_blank);
        let api = non_blank(self.url.take());
        let id = self.id.take();
        let issue = id.or_else(|| pages.iter().chain([&api]).flatten().find_map(|url| link::issue_id(url)))?;
        let project = self.project.take().unwrap_or_default();
        // The time of a change is when Sentry sends it. Only a new issue has an event, whose time is used instead.
        let last_seen = self.last_seen.as_ref().and_then(|text| DateTime::from_text(text.into()));
        let event_at = last_seen.filter(|_| action == IncidentAction::Trigger(TriggerKind::IssueCreated));
        let assignee = assignee.or(self.assignee.take()).and_then(|assignee| non_blank(assignee.name));
        let event = SentryEvent {
            title: self.take_title(),
            culprit: self.culprit.take(),
            logger: self.logger.take(),
            level: self.level.take(),
            platform: self.platform.take(),
            timestamp: event_at,
            ..SentryEvent::default()
        };
        Some(Alert {
            project: named(project),
            link: page(&pages, api.as_deref(), &issue),
            facts: self.facts(assignee),
            ..event.into_alert(Subject::Issue(issue), action, sent_at)
        })
    }

    /// Takes the title. If it is missing, it is made from the metadata, or else from the type of an issue that is not an
    /// error, such as `monitor_check_in_failure`.
    fn take_title(&mut self) -> Option<String> {
        let kind = || non_blank(self.kind.clone()).filter(|kind| kind != "error").map(|kind| sentence_of(&kind));
        titled(self.title.take()).or_else(|| self.metadata.take()?.into_title()).or_else(kind)
    }

    fn facts(self, assignee: Option<String>) -> Vec<(&'static str, String)> {
        let facts = [
            ("short_id", non_blank(self.short_id)),
            ("priority", non_blank(self.priority)),
            ("substatus", non_blank(self.substatus)),
            ("issue_category", non_blank(self.category)),
            ("issue_type", non_blank(self.kind)),
            ("assignee", assignee),
            ("issue_events", non_blank(self.count)),
            ("issue_users", non_blank(self.user_count)),
            ("issue_first_seen", non_blank(self.first_seen)),
            ("issue_last_seen", non_blank(self.last_seen)),
        ];
        facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Turns `monitor_check_in_failure` into `Monitor check in failure`.
fn sentence_of(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters.map(|letter| if letter == '_' { ' ' } else { letter })).collect()
}

fn page(pages: &[Option<String>], api: Option<&str>, issue: &SentryId) -> Option<IssueLink> {
    let page = pages.iter().flatten().find_map(|page| link::issue_link(page));
    page.or_else(|| ApiAddress::parse(api?)?.page_of(issue))
}

/// `activity_alert`: the members of `data` beside the issue. Such an alert may watch status changes, which open and close
/// incidents, and many activities that do neither.
#[derive(Debug, Default)]
pub(super) struct ActivityAlert {
    activity: Option<Activity>,
    alert: Option<ActionSettings>,
}

members!(ActivityAlert { "activity" => activity, "alert" => alert });

/// What was done to the issue.
#[derive(Debug, Default)]
struct Activity {
    kind: Option<String>,
}

members!(Activity { "type" => kind });

impl ActivityAlert {
    pub(super) fn is_present(&self) -> bool {
        self.activity.is_some()
    }

    /// The alert; `Ok(None)` when the issue has no id.
    pub(super) fn into_alert(
        self,
        issue: IssueChange,
        sent_at: DateTime<Utc>,
    ) -> Result<Option<Alert>, NoActionReason> {
        let kind = non_blank(self.activity.and_then(|activity| activity.kind)).unwrap_or_default();
        let action = action_of_activity(&kind)?;
        let rule = self.alert.unwrap_or_default();
        Ok(issue.into_alert(action, sent_at).map(|mut alert| {
            alert.facts.push(("activity", kind));
            Alert {
                rules: non_blank(rule.title).into_iter().collect(),
                action_settings: rule.settings.map_or_else(Vec::new, |Tags(settings)| settings),
                ..alert
            }
        }))
    }
}

/// What an activity does to the incident.
///
/// Source: `activity_registry/sentry_app.py` in Sentry, August 2026. There is one `status_resolved…` for each way of resolving
/// an issue.
fn action_of_activity(kind: &str) -> Result<IncidentAction, NoActionReason> {
    match kind {
        _ if kind.starts_with("status_resolved") => Ok(IncidentAction::Resolve),
        "status_regression" | "status_unresolved" | "status_escalating" => {
            Ok(IncidentAction::Reopen(TriggerKind::Alert))
        }
        "status_ignored" => Err(NoActionReason::Archived),
        _ => Err(NoActionReason::OtherActivity),
    }
}
