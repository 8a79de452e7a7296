//! The members of an event, under the names they have had since Sentry 8.0.
//!
//! Up to 9.0 Sentry wrote interfaces under their full names (`sentry.interfaces.Exception`), later under short ones
//! (`exception`).

use chrono::{DateTime, Utc};

use super::lenient::{Id, List, Moment, Text, members, non_blank};
use super::stack::{Frames, Stacktrace};
use super::tags::Tags;
use super::title::{Contexts, Metadata, Occurrence, PolicyReport, titled};
use crate::alert::{self, Action, Alert, Project, Subject, User};

/// How many exceptions of a chain are kept. No runtime chains a tenth of that.
const MAX_EXCEPTIONS: usize = 200;

/// An event as a body has it; `None` where there is no usable value.
#[derive(Debug, Default)]
pub(super) struct Event {
    /// 32 hexadecimal digits.
    pub(super) id: Option<Text>,
    /// Sentry's title; not before 9.1.
    pub(super) title: Option<Text>,
    /// The log message, often `""`.
    pub(super) message: Option<Text>,
    /// What Sentry made the title from; up to 9.0 the only source of a title.
    pub(super) metadata: Option<Metadata>,
    /// Where it happened.
    pub(super) culprit: Option<Text>,
    /// The level's name.
    pub(super) level: Option<Text>,
    /// The logger's name.
    pub(super) logger: Option<Text>,
    /// The SDK's platform.
    pub(super) platform: Option<Text>,
    /// The release that was running.
    pub(super) release: Option<Text>,
    /// The environment.
    pub(super) environment: Option<Text>,
    /// The host's name; in most versions only a tag.
    pub(super) server_name: Option<Text>,
    /// The route or task.
    pub(super) transaction: Option<Text>,
    /// When it happened; not before 9.1.
    pub(super) timestamp: Option<Moment>,
    /// The same, only in bodies of the integration platform.
    pub(super) datetime: Option<Moment>,
    /// When Sentry received it.
    pub(super) received: Option<Moment>,
    /// The tags, names as stored.
    pub(super) tags: Option<Tags>,
    /// The user that it happened to.
    pub(super) user: Option<Person>,
    /// The log message.
    pub(super) logentry: Option<LogEntry>,
    /// The exceptions; the one raised last is last.
    pub(super) exception: Option<List<Raised, MAX_EXCEPTIONS>>,
    /// The stack of an event without an exception.
    pub(super) stacktrace: Option<Stacktrace>,
    /// The contexts, of which only a cron monitor is read.
    pub(super) contexts: Option<Contexts>,
    /// A browser's report that it did not load something.
    pub(super) csp: Option<PolicyReport>,
    /// The message, the exceptions and the stack as Sentry's API shows them; only in bodies of a service hook.
    pub(super) entries: Option<List<Entry>>,
    /// What created an issue that is not an error. This and all members below are only in bodies of the integration
    /// platform, unless noted.
    pub(super) occurrence: Option<Occurrence>,
    /// The issue's id; absent up to Sentry 20, and `groupID` in bodies of a service hook.
    pub(super) issue_id: Option<Id>,
    /// The issue in Sentry's API.
    pub(super) issue_url: Option<Text>,
    /// The event's page.
    pub(super) web_url: Option<Text>,
    /// The event in Sentry's API.
    pub(super) url: Option<Text>,
}

members!(Event {
    "event_id" | "eventID" => id,
    "title" => title,
    "message" => message,
    "metadata" => metadata,
    "culprit" => culprit,
    "level" => level,
    "logger" => logger,
    "platform" => platform,
    "release" => release,
    "environment" => environment,
    "server_name" => server_name,
    "transaction" => transaction,
    "timestamp" => timestamp,
    "datetime" | "dateCreated" => datetime,
    "received" | "dateReceived" => received,
    "tags" => tags,
    "user" | "sentry.interfaces.User" => user,
    "logentry" | "sentry.interfaces.Message" => logentry,
    "exception" | "sentry.interfaces.Exception" => exception,
    "stacktrace" | "sentry.interfaces.Stacktrace" => stacktrace,
    "contexts" | "sentry.interfaces.Contexts" => contexts,
    "csp" | "sentry.interfaces.Csp" => csp,
    "entries" => entries,
    "occurrence" => occurrence,
    "issue_id" | "groupID" => issue_id,
    "issue_url" => issue_url,
    "web_url" => web_url,
    "url" => url,
});

/// The log message, with and without its parameters filled in.
#[derive(Debug, Default)]
pub(super) struct LogEntry {
    formatted: Option<Text>,
    message: Option<Text>,
}

members!(LogEntry { "formatted" => formatted, "message" => message });

/// The event's `user` interface.
#[derive(Debug, Default)]
pub(super) struct Person {
    id: Option<Text>,
    username: Option<Text>,
    email: Option<Text>,
    ip_address: Option<Text>,
}

members!(Person { "id" => id, "username" => username, "email" => email, "ip_address" => ip_address });

/// One exception of a chain.
#[derive(Debug, Default)]
pub(super) struct Raised {
    kind: Option<Text>,
    value: Option<Text>,
    stacktrace: Option<Stacktrace>,
}

members!(Raised { "type" => kind, "value" => value, "stacktrace" => stacktrace });

/// One interface of an event as Sentry's API shows it. Only message, exceptions and stack are read.
#[derive(Debug, Default)]
pub(super) struct Entry {
    kind: Option<Text>,
    data: Option<EntryData>,
}

members!(Entry { "type" => kind, "data" => data });

/// The members of these three interfaces; the entry's type says which of them it is.
#[derive(Debug, Default)]
struct EntryData {
    formatted: Option<Text>,
    message: Option<Text>,
    values: Option<List<Raised, MAX_EXCEPTIONS>>,
    frames: Option<Frames>,
}

members!(EntryData { "formatted" => formatted, "message" => message, "values" => values, "frames" => frames });

impl Event {
    /// Makes the alert from the event alone: without project, link and rules, which are not in the event.
    ///
    /// `fallback_time` is used when the event has no time.
    pub(super) fn into_alert(mut self, subject: Subject, action: Action, fallback_time: DateTime<Utc>) -> Alert {
        let (exceptions, frames) = self.take_exceptions();
        let occurrence = self.occurrence.take().unwrap_or_default();
        let message = non_blank(self.message.clone()).or_else(|| self.take_message());
        let title = self.take_title().or_else(|| occurrence.title());
        // An exception makes a better description than the context or a report.
        let title = title.or_else(|| if exceptions.is_empty() { self.take_substitute_title() } else { None });
        let level = self.level.take();
        let logger = self.logger.take();
        let release = self.release.take();
        let environment = self.environment.take();
        let server_name = self.server_name.take();
        let transaction = self.transaction.take();
        Alert {
            subject,
            action,
            message: message.or_else(|| self.message.take().map(|Text(text)| text)),
            title,
            culprit: self.culprit.take().map(|Text(text)| text),
            level: self.or_tag(level, "level").or_else(|| occurrence.level()),
            event_id: non_blank(self.id.take()),
            happened_at: self.timestamp.or(self.datetime).or(self.received).map_or(fallback_time, |Moment(at)| at),
            received: self.received.map(|Moment(at)| at),
            project: Project::default(),
            link: None,
            rules: Vec::new(),
            // The integration platform strips the prefix `sentry:`.
            release: self.or_tag(release, "sentry:release").or_else(|| self.or_tag(None, "release")),
            platform: non_blank(self.platform.take()),
            environment: self.or_tag(environment, "environment"),
            logger: self.or_tag(logger, "logger"),
            server_name: self.or_tag(server_name, "server_name"),
            transaction: self.or_tag(transaction, "transaction"),
            user: self.take_user(),
            exceptions,
            frames,
            tags: self.tags.take().map_or_else(Vec::new, |tags| tags.0),
            facts: occurrence.facts(),
            settings: Vec::new(),
            evidence: occurrence.into_evidence(),
        }
    }

    /// Moves message, exceptions and stack from the entries of Sentry's API to where other bodies have them.
    pub(super) fn unpack_entries(&mut self) {
        let List(entries) = self.entries.take().unwrap_or(List(Vec::new()));
        for entry in entries {
            let data = entry.data.unwrap_or_default();
            match entry.kind.as_ref().map(|Text(kind)| kind.as_str()) {
                Some("message") => {
                    self.logentry = Some(LogEntry { formatted: data.formatted, message: data.message });
                }
                Some("exception") => self.exception = data.values,
                Some("stacktrace") => self.stacktrace = Some(Stacktrace::new(data.frames)),
                _ => {}
            }
        }
        // Without a log message, Sentry's API returns its search text as the message.
        if self.title.is_some() || self.logentry.is_some() {
            self.message = None;
        }
    }

    /// Returns the member, or the tag if the member is missing or blank.
    fn or_tag(&self, member: Option<Text>, tag: &str) -> Option<String> {
        non_blank(member).or_else(|| self.tags.as_ref()?.get(tag).map(str::to_owned))
    }

    /// Takes the title, made from the metadata where it is missing.
    fn take_title(&mut self) -> Option<String> {
        titled(self.title.take()).or_else(|| self.metadata.take()?.into_title())
    }

    /// Takes a title for an event that has neither title nor exception.
    fn take_substitute_title(&mut self) -> Option<String> {
        let monitor = self.contexts.take().and_then(Contexts::into_title);
        monitor.or_else(|| self.csp.take()?.into_title())
    }

    /// Takes the log message.
    fn take_message(&mut self) -> Option<String> {
        let entry = self.logentry.take()?;
        non_blank(entry.formatted).or_else(|| non_blank(entry.message))
    }

    /// Takes the exceptions, and the stack of the last exception that has one, innermost frame first.
    fn take_exceptions(&mut self) -> (Vec<alert::Exception>, Vec<alert::Frame>) {
        let mut stack = self.stacktrace.take().and_then(Stacktrace::into_frames);
        let mut exceptions = Vec::new();
        for raised in self.exception.take().map_or_else(Vec::new, |List(raised)| raised) {
            stack = raised.stacktrace.and_then(Stacktrace::into_frames).or(stack);
            let exception = alert::Exception { kind: non_blank(raised.kind), value: non_blank(raised.value) };
            if exception != alert::Exception::default() {
                exceptions.push(exception);
            }
        }
        (exceptions, stack.unwrap_or_default())
    }

    /// Takes the user, if the body says anything about them.
    fn take_user(&mut self) -> Option<User> {
        let person = self.user.take()?;
        let user = User {
            id: non_blank(person.id),
            username: non_blank(person.username),
            email: non_blank(person.email),
            ip_address: non_blank(person.ip_address),
        };
        (user != User::default()).then_some(user)
    }
}
