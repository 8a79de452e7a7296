//! `event_alert` and `error`: an event with its issue.

use chrono::{DateTime, Utc};

use super::event::Event;
use super::lenient::{Id, Text, members, non_blank};
use super::link::{self, ApiAddress};
use super::tags::Tags;
use crate::alert::{Action, Alert, IssueLink, Opening, Project, Subject};

/// `event_alert`: an alert rule fired for an issue.
#[derive(Debug, Default)]
pub(super) struct EventAlert {
    event: Option<Event>,
    triggered_rule: Option<Text>,
    issue_alert: Option<RuleAction>,
}

members!(EventAlert { "event" => event, "triggered_rule" => triggered_rule, "issue_alert" => issue_alert });

/// The alert rule, with the settings of the integration's own action.
#[derive(Debug, Default)]
struct RuleAction {
    title: Option<Text>,
    settings: Option<Tags>,
}

members!(RuleAction { "title" => title, "settings" => settings });

impl EventAlert {
    pub(super) fn is_present(&self) -> bool {
        self.event.is_some()
    }

    /// The alert; `None` when the event does not name its issue.
    pub(super) fn into_alert(self, sent_at: DateTime<Utc>) -> Option<Alert> {
        // A test notification has no rule.
        let action = self.issue_alert.unwrap_or_default();
        let rule = non_blank(self.triggered_rule).or_else(|| non_blank(action.title));
        let settings = action.settings.map_or_else(Vec::new, |Tags(settings)| settings);
        let alert = alert(self.event?, Opening::Alert, sent_at)?;
        Some(Alert { rules: rule.into_iter().collect(), settings, ..alert })
    }
}

/// `error`: an error event came in.
#[derive(Debug, Default)]
pub(super) struct ErrorEvent {
    error: Option<Event>,
}

members!(ErrorEvent { "error" => error });

impl ErrorEvent {
    pub(super) fn is_present(&self) -> bool {
        self.error.is_some()
    }

    /// The alert; `None` when the event does not name its issue.
    pub(super) fn into_alert(self, sent_at: DateTime<Utc>) -> Option<Alert> {
        alert(self.error?, Opening::Error, sent_at)
    }
}

fn alert(mut event: Event, opening: Opening, sent_at: DateTime<Utc>) -> Option<Alert> {
    let [page, issue_url, event_url] = [event.web_url.take(), event.issue_url.take(), event.url.take()].map(non_blank);
    let named = event.issue_id.take().map(|Id(id)| id);
    let issue = named.or_else(|| [&issue_url, &page].into_iter().flatten().find_map(|url| link::issue_id(url)))?;
    let mut event_address = event_url.as_deref().and_then(ApiAddress::parse).unwrap_or_default();
    let project = event_address.project.take();
    let page_by_api = || -> Option<IssueLink> {
        // Older addresses of an issue do not name the organization.
        let by_issue = issue_url.as_deref().and_then(ApiAddress::parse).and_then(|address| address.page_of(&issue));
        by_issue.or_else(|| event_address.page_of(&issue))
    };
    let link = page.as_deref().and_then(link::issue_link).or_else(page_by_api);
    Some(Alert {
        project: Project { slug: project, ..Project::default() },
        link,
        ..event.into_alert(Subject::Issue(issue), Action::Trigger(opening), sent_at)
    })
}
