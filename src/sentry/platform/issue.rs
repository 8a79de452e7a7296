//! `issue`: somebody or something changed an issue. There are neither tags nor an environment in it.

use chrono::{DateTime, Utc};

use crate::alert::{Action, Alert, IssueId, IssueLink, Opening, Project, Subject};
use crate::sentry::event::{Event, Metadata, said, titled};
use crate::sentry::id::Id;
use crate::sentry::lenient::{Moment, Shape, Text, members};
use crate::sentry::link::{self, ApiAddress};

/// An issue as Sentry's API shows it.
#[derive(Debug, Default)]
pub(super) struct Issue {
    id: Option<Id>,
    short_id: Option<Text>,
    title: Option<Text>,
    metadata: Option<Metadata>,
    culprit: Option<Text>,
    logger: Option<Text>,
    level: Option<Text>,
    platform: Option<Text>,
    project: Option<OfProject>,
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

/// The project of an issue.
#[derive(Debug, Default)]
struct OfProject {
    name: Option<Text>,
    slug: Option<Text>,
}

members!(OfProject { "name" => name, "slug" => slug });

/// The person or team an issue was given to.
#[derive(Debug, Default)]
pub(super) struct Assignee {
    name: Option<Text>,
}

members!(Assignee { "name" => name });

impl Issue {
    /// The alert a change of the issue stands for; `None` when it has no id.
    pub(super) fn into_alert(
        mut self,
        action: Action,
        assignee: Option<Assignee>,
        sent_at: DateTime<Utc>,
    ) -> Option<Alert> {
        let pages = [self.web_url.take(), self.permalink.take()].map(said);
        let api = said(self.url.take());
        let named = self.id.take().map(|Id(id)| id);
        let issue = named.or_else(|| pages.iter().chain([&api]).flatten().find_map(|url| link::issue_id(url)))?;
        let project = self.project.take().unwrap_or_default();
        // A change happens when it is told. Only of a new issue there is an event, and that is its time.
        let last_seen = self.last_seen.as_ref().and_then(|Text(text)| Moment::of_text(text));
        let event_at = last_seen.filter(|_| action == Action::Trigger(Opening::IssueCreated));
        let assignee = assignee.or(self.assignee.take()).and_then(|assignee| said(assignee.name));
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
            project: Project { name: said(project.name), slug: said(project.slug), others: Vec::new() },
            link: page(&pages, api.as_deref(), &issue),
            facts: self.facts(assignee),
            ..event.into_alert(Subject::Issue(issue), action, sent_at)
        })
    }

    /// Takes the title out, made of the metadata where it is missing, and else of the kind of what is no error, such as
    /// `monitor_check_in_failure`.
    fn take_title(&mut self) -> Option<String> {
        let kind = || said(self.kind.clone()).filter(|kind| kind != "error").map(|kind| in_words(&kind));
        titled(self.title.take()).or_else(|| self.metadata.take()?.into_title()).or_else(kind)
    }

    fn facts(self, assignee: Option<String>) -> Vec<(&'static str, String)> {
        let facts = [
            ("short_id", said(self.short_id)),
            ("priority", said(self.priority)),
            ("substatus", said(self.substatus)),
            ("issue_category", said(self.category)),
            ("issue_type", said(self.kind)),
            ("assignee", assignee),
            ("issue_events", said(self.count)),
            ("issue_users", said(self.user_count)),
            ("issue_first_seen", said(self.first_seen)),
            ("issue_last_seen", said(self.last_seen)),
        ];
        facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// `Monitor check in failure` of `monitor_check_in_failure`.
fn in_words(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters.map(|letter| if letter == '_' { ' ' } else { letter })).collect()
}

fn page(pages: &[Option<String>], api: Option<&str>, issue: &IssueId) -> Option<IssueLink> {
    let told = pages.iter().flatten().find_map(|page| link::issue_link(page));
    told.or_else(|| ApiAddress::parse(api?)?.page_of(issue))
}
