//! The body of the `WebHooks` plugin: flat, unsigned, and the same in spirit from Sentry 8.0 to this day.
//!
//! Source: `get_group_data` in Sentry's `plugins/sentry_webhooks/plugin.py`.

use chrono::{DateTime, Utc};

use super::event::{Event, said};
use super::lenient::{List, Moment, Present, Shape, Text, members};
use super::link;
use crate::alert::{Action, Alert, IssueId, Project};

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

/// The issue's id: text in every version of the plugin, but an integer is as good.
#[derive(Clone, Debug)]
struct Id(IssueId);

impl Shape for Id {
    fn of_text(text: &str) -> Option<Self> {
        // Without a letter or digit it would be a blank incident key.
        IssueId::new(text).filter(|id| id.as_str().contains(char::is_alphanumeric)).map(Self)
    }

    fn of_integer(value: i128) -> Option<Self> {
        Self::of_text(&value.to_string())
    }

    fn of_float(value: f64) -> Option<Self> {
        if value.fract() == 0.0 { Self::of_text(&value.to_string()) } else { None }
    }
}

impl Body {
    /// Whether it has the members that every body of the integration platform has and the plugin's never had.
    #[must_use]
    pub fn is_of_the_platform(&self) -> bool {
        self.action.is_some() && self.data.is_some()
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
        let (exceptions, frames) = event.take_exceptions();
        let message = said(self.message.clone()).or_else(|| event.take_message());
        let [level, logger, release, environment, server_name, transaction] = [
            (said(self.level).map(Text).or(event.level.take()), "level"),
            (said(self.logger).map(Text).or(event.logger.take()), "logger"),
            (event.release.take(), "sentry:release"),
            (event.environment.take(), "environment"),
            (event.server_name.take(), "server_name"),
            (event.transaction.take(), "transaction"),
        ]
        .map(|(member, tag)| event.or_tag(member, tag));
        Alert {
            issue,
            action: Action::Trigger,
            message: message.or_else(|| self.message.map(|Text(text)| text)),
            title: event.take_title(),
            culprit: self.culprit.or(event.culprit.take()).map(|Text(text)| text),
            level,
            event_id: said(event.event_id.take()),
            happened_at: event.timestamp.or(event.received).map_or(received_at, |Moment(moment)| moment),
            project: Project {
                name: said(self.project_name),
                slug: said(self.project_slug).or_else(|| said(self.project)),
            },
            link: self.url.and_then(|Text(url)| link::issue_link(&url)),
            rules: self
                .triggering_rules
                .map_or_else(Vec::new, |List(rules)| rules.into_iter().filter_map(|rule| said(Some(rule))).collect()),
            release,
            platform: said(event.platform.take()),
            environment,
            logger,
            server_name,
            transaction,
            user: event.take_user(),
            exceptions,
            frames,
            tags: event.tags.map_or_else(Vec::new, |tags| tags.0),
        }
    }
}
