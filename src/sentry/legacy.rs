//! The body of the `WebHooks` plugin: flat, unsigned, and the same in spirit from Sentry 8.0 to this day.
//!
//! Source: `get_group_data` in Sentry's `plugins/sentry_webhooks/plugin.py`.

use chrono::{DateTime, Utc};

use super::event::{Event, said};
use super::id::Id;
use super::lenient::{List, Present, Text, members};
use super::link;
use crate::alert::{Action, Alert, IssueId, Opening, Project, Subject};

/// A body as far as it is the plugin's.
#[derive(Debug, Default)]
pub struct Body {
    id: Option<Id>,
    project: Option<Text>,
    project_name: Option<Text>,
    project_slug: Option<Text>,
    culprit: Option<Text>,
    level: Option<Text>,
    logger: Option<Text>,
    message: Option<Text>,
    url: Option<Text>,
    triggering_rules: Option<List<Text>>,
    event: Option<Event>,
    action: Option<Present>,
    data: Option<Present>,
}

members!(Body {
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
    "action" => action,
    "data" => data,
});

impl Body {
    /// Whether it has the member that every body of the integration platform has and the plugin's never had.
    #[must_use]
    pub fn is_of_the_platform(&self) -> bool {
        self.data.is_some() && (self.action.is_some() || !self.is_of_the_plugin())
    }

    /// Whether it tells of an event or a project as the plugin does.
    #[must_use]
    pub fn is_of_the_plugin(&self) -> bool {
        self.event.is_some() || self.project.is_some() || self.project_name.is_some() || self.project_slug.is_some()
    }

    /// The issue it is about, from the address of its page if need be.
    #[must_use]
    pub fn issue(&self) -> Option<IssueId> {
        let named = self.id.as_ref().map(|Id(id)| id.clone());
        named.or_else(|| link::issue_id(&self.url.as_ref()?.0))
    }

    /// The alert it stands for, about `issue`.
    ///
    /// `received_at` is when the bridge got it: the time of an event that tells none.
    #[must_use]
    pub fn into_alert(self, issue: IssueId, received_at: DateTime<Utc>) -> Alert {
        let mut event = self.event.unwrap_or_default();
        // What stands beside the event goes before what stands in it.
        event.message = self.message;
        // Beside the event stands where the issue happened first. Sentry's plugin prefers the event's own culprit too.
        event.culprit = said(event.culprit.clone()).map(Text).or(self.culprit).or(event.culprit);
        event.level = said(self.level).map(Text).or(event.level);
        event.logger = said(self.logger).map(Text).or(event.logger);
        Alert {
            project: Project {
                name: said(self.project_name),
                slug: said(self.project_slug).or_else(|| said(self.project)),
                others: Vec::new(),
            },
            link: self.url.and_then(|Text(url)| link::issue_link(&url)),
            rules: self
                .triggering_rules
                .map_or_else(Vec::new, |List(rules)| rules.into_iter().filter_map(|rule| said(Some(rule))).collect()),
            ..event.into_alert(Subject::Issue(issue), Action::Trigger(Opening::Alert), received_at)
        }
    }
}
