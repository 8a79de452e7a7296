//! `event_alert` and `error`: an event with its issue.

use chrono::{DateTime, Utc};

use crate::alert::{Action, Alert, IssueId, Opening, Project, Subject};
use crate::sentry::event::{Event, said};
use crate::sentry::id::Id;
use crate::sentry::lenient::{Text, members};
use crate::sentry::link::{self, ApiAddress};

/// What is told of the alert rule that has an action of the integration's own.
#[derive(Debug, Default)]
pub(super) struct RuleAction {
    title: Option<Text>,
}

members!(RuleAction { "title" => title });

/// The label of the rule that fired; a test notification has none.
pub(super) fn rule(triggered: Option<Text>, action: Option<RuleAction>) -> Option<String> {
    said(triggered).or_else(|| said(action?.title))
}

/// The alert an event stands for; `None` when it names no issue.
pub(super) fn alert(mut event: Event, opening: Opening, rule: Option<String>, sent_at: DateTime<Utc>) -> Option<Alert> {
    let [page, issue_url, event_url] = [event.web_url.take(), event.issue_url.take(), event.url.take()].map(said);
    let named = event.issue_id.take().map(|Id(id)| id);
    let issue = named.or_else(|| [&issue_url, &page].into_iter().flatten().find_map(|url| link::issue_id(url)))?;
    let mut api = event_url.as_deref().and_then(ApiAddress::parse).unwrap_or_default();
    let project = api.project.take();
    let link = page.as_deref().and_then(link::issue_link).or_else(|| page_by_api(issue_url.as_deref(), &api, &issue));
    Some(Alert {
        project: Project { slug: project, ..Project::default() },
        link,
        rules: rule.into_iter().collect(),
        ..event.into_alert(Subject::Issue(issue), Action::Trigger(opening), sent_at)
    })
}

/// The issue's page out of the two addresses of the API, of which older ones name no organization.
fn page_by_api(issue_url: Option<&str>, event: &ApiAddress, issue: &IssueId) -> Option<crate::alert::IssueLink> {
    issue_url.and_then(ApiAddress::parse).and_then(|address| address.page_of(issue)).or_else(|| event.page_of(issue))
}
