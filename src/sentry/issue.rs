//! `issue`: an issue was changed, by a person or automatically. The webhook has neither tags nor an environment.

use chrono::{DateTime, Utc};

use strum::EnumString;

use super::event::Event;
use super::lenient::{Id, Moment, Shape, Text, members, non_blank};
use super::link::{self, ApiAddress};
use super::title::{Metadata, titled};
use crate::alert::{Action, Alert, IssueId, IssueLink, Opening, Project, Subject};

/// What happened to the issue.
#[derive(Clone, Copy, Debug, EnumString)]
#[strum(serialize_all = "lowercase")]
pub(super) enum IssueAction {
    Created,
    /// A resolved or archived issue is back, or escalates.
    Unresolved,
    Resolved,
    Assigned,
    #[strum(serialize = "ignored", serialize = "archived")]
    Archived,
}

impl IssueAction {
    pub(super) fn parse(action: &str) -> Option<Self> {
        action.parse().ok()
    }

    /// What it does to the incident, if anything.
    pub(super) fn incident_action(self) -> Option<Action> {
        match self {
            Self::Created => Some(Action::Trigger(Opening::IssueCreated)),
            Self::Unresolved => Some(Action::Reopen(Opening::IssueUnresolved)),
            Self::Resolved => Some(Action::Resolve),
            Self::Assigned => Some(Action::Acknowledge),
            Self::Archived => None,
        }
    }
}

/// The members of `data`.
#[derive(Debug, Default)]
pub(super) struct IssueChange {
    issue: Option<Issue>,
    assignee: Option<Assignee>,
}

members!(IssueChange { "issue" => issue, "assignee" => assignee });

/// An issue as Sentry's API shows it.
#[derive(Debug, Default)]
struct Issue {
    id: Option<Id>,
    short_id: Option<Text>,
    title: Option<Text>,
    metadata: Option<Metadata>,
    culprit: Option<Text>,
    logger: Option<Text>,
    level: Option<Text>,
    platform: Option<Text>,
    project: Option<ApiProject>,
    web_url: Option<Text>,
    permalink: Option<Text>,
    url: Option<Text>,
    substatus: Option<Text>,
    priority: Option<Text>,
    category: Option<Text>,
    kind: Option<Text>,
    count: Option<Text>,
    user_count: Option<Text>,
    first_seen: Option<Text>,
    last_seen: Option<Text>,
    assignee: Option<Assignee>,
}

members!(Issue {
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

/// A project as Sentry's API shows it.
#[derive(Debug, Default)]
pub(super) struct ApiProject {
    name: Option<Text>,
    slug: Option<Text>,
}

members!(ApiProject { "name" => name, "slug" => slug });

impl ApiProject {
    pub(super) fn into_project(self) -> Project {
        Project { name: non_blank(self.name), slug: non_blank(self.slug), others: Vec::new() }
    }
}

/// The person or team that an issue is assigned to.
#[derive(Debug, Default)]
struct Assignee {
    name: Option<Text>,
}

members!(Assignee { "name" => name });

impl IssueChange {
    pub(super) fn is_present(&self) -> bool {
        self.issue.is_some()
    }

    /// The alert; `None` when the issue has no id.
    pub(super) fn into_alert(self, action: Action, sent_at: DateTime<Utc>) -> Option<Alert> {
        self.issue?.into_alert(action, self.assignee, sent_at)
    }
}

impl Issue {
    fn into_alert(mut self, action: Action, assignee: Option<Assignee>, sent_at: DateTime<Utc>) -> Option<Alert> {
        let pages = [self.web_url.take(), self.permalink.take()].map(non_blank);
        let api = non_blank(self.url.take());
        let named = self.id.take().map(|Id(id)| id);
        let issue = named.or_else(|| pages.iter().chain([&api]).flatten().find_map(|url| link::issue_id(url)))?;
        let project = self.project.take().unwrap_or_default();
        // The time of a change is when Sentry sends it. Only a new issue has an event, whose time is used instead.
        let last_seen = self.last_seen.as_ref().and_then(|Text(text)| Moment::of_text(text.into()));
        let event_at = last_seen.filter(|_| action == Action::Trigger(Opening::IssueCreated));
        let assignee = assignee.or(self.assignee.take()).and_then(|assignee| non_blank(assignee.name));
        let event = Event {
            title: self.take_title().map(Text),
            culprit: self.culprit.take(),
            logger: self.logger.take(),
            level: self.level.take(),
            platform: self.platform.take(),
            timestamp: event_at,
            ..Event::default()
        };
        Some(Alert {
            project: project.into_project(),
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

fn page(pages: &[Option<String>], api: Option<&str>, issue: &IssueId) -> Option<IssueLink> {
    let page = pages.iter().flatten().find_map(|page| link::issue_link(page));
    page.or_else(|| ApiAddress::parse(api?)?.page_of(issue))
}
