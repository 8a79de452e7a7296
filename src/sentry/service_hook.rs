//! The body of a project's service hook: `{project, group, event}`, each as Sentry's API shows it, since Sentry 9.0.
//!
//! Only Sentry's API makes such hooks. They tell of what alert rules and the legacy plugin tell of, never that an issue
//! is resolved, and carry a signature of their own (`X-ServiceHook-Signature`), which is not verified: the token opens.
//!
//! Source: `get_payload_v0` in Sentry's `tasks/servicehooks.py`, later `sentry_apps/tasks/service_hooks.py`, and
//! `EventSerializer` in `api/serializers/models/event.py`.

use chrono::{DateTime, Utc};

use super::event::{Event, Frame, LogEntry, MAX_EXCEPTIONS, MAX_FRAMES, Raised, Stacktrace, said};
use super::id::Id;
use super::lenient::{List, Text, members};
use super::link;
use crate::alert::{Action, Alert, Opening, Project, Subject};

/// A body as far as it is a service hook's.
#[derive(Debug, Default)]
pub struct Body {
    project: Option<OfProject>,
    group: Option<Group>,
    event: Option<Event>,
}

members!(Body { "project" => project, "group" => group, "event" => event });

/// The project.
#[derive(Debug, Default)]
struct OfProject {
    slug: Option<Text>,
    name: Option<Text>,
}

members!(OfProject { "slug" => slug, "name" => name });

/// The issue.
#[derive(Debug, Default)]
struct Group {
    id: Option<Id>,
    url: Option<Text>,
    permalink: Option<Text>,
    title: Option<Text>,
    culprit: Option<Text>,
    level: Option<Text>,
    logger: Option<Text>,
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

/// One of the interfaces of an event, of which message, exceptions and stack are read.
#[derive(Debug, Default)]
pub struct Entry {
    kind: Option<Text>,
    data: Option<Data>,
}

members!(Entry { "type" => kind, "data" => data });

/// The members of these three; which of them is meant only the entry's type tells.
#[derive(Debug, Default)]
struct Data {
    formatted: Option<Text>,
    message: Option<Text>,
    values: Option<List<Raised, MAX_EXCEPTIONS>>,
    frames: Option<List<Frame, MAX_FRAMES>>,
}

members!(Data { "formatted" => formatted, "message" => message, "values" => values, "frames" => frames });

impl Body {
    /// The alert it stands for; `None` when it names no issue.
    ///
    /// `received_at` is when the bridge got it: the time of an event that tells none.
    #[must_use]
    pub fn into_alert(self, received_at: DateTime<Utc>) -> Option<Alert> {
        let mut event = self.event.unwrap_or_default();
        let group = self.group.unwrap_or_default();
        let pages = [group.url, group.permalink, event.url.take()].map(said);
        let named = group.id.or_else(|| event.issue_id.take()).map(|Id(id)| id);
        let issue = named.or_else(|| pages.iter().flatten().find_map(|page| link::issue_id(page)))?;
        event.title = said(event.title).or_else(|| said(group.title)).map(Text);
        event.culprit = said(event.culprit.clone()).map(Text).or(group.culprit).or(event.culprit);
        take_entries(&mut event);
        let project = self.project.unwrap_or_default();
        let mut alert = Alert {
            project: Project { name: said(project.name), slug: said(project.slug), others: Vec::new() },
            link: pages.iter().flatten().find_map(|page| link::issue_link(page)),
            ..event.into_alert(Subject::Issue(issue), Action::Trigger(Opening::Alert), received_at)
        };
        // The event's own are only in its tags.
        alert.level = alert.level.or_else(|| said(group.level));
        alert.logger = alert.logger.or_else(|| said(group.logger));
        Some(alert)
    }
}

/// Puts message, exceptions and stack where other bodies have them.
fn take_entries(event: &mut Event) {
    let List(entries) = event.entries.take().unwrap_or(List(Vec::new()));
    for entry in entries {
        let data = entry.data.unwrap_or_default();
        match entry.kind.as_ref().map(|Text(kind)| kind.as_str()) {
            Some("message") => {
                event.logentry = Some(LogEntry { formatted: data.formatted, message: data.message });
            }
            Some("exception") => event.exception = data.values,
            Some("stacktrace") => event.stacktrace = Some(Stacktrace { frames: data.frames }),
            _ => {}
        }
    }
    // Where there is no log message, Sentry writes the text it searches by in its place.
    if event.title.is_some() || event.logentry.is_some() {
        event.message = None;
    }
}
