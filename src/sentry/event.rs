//! The members of an event, under the names they have had since Sentry 8.0.
//!
//! Up to 9.0 Sentry wrote interfaces under their full names (`sentry.interfaces.Exception`), later under short ones
//! (`exception`).

use chrono::{DateTime, Utc};

use super::id::Id;
use super::lenient::{Flag, Integer, List, Moment, Text, members};
use super::occurrence::{Contexts, Occurrence, PolicyReport, blocked};
use super::service_hook::Entry;
use super::tags::Tags;
use crate::alert::{self, Action, Alert, Project, Subject, User};

/// How many exceptions of a chain are read. No runtime chains a tenth of that.
pub(super) const MAX_EXCEPTIONS: usize = 200;

/// How many calls of a stack are read. Sentry itself keeps 250 at most.
pub(super) const MAX_FRAMES: usize = 1_000;

/// An event as a body holds it; `None` wherever it tells nothing usable.
#[derive(Debug, Default)]
pub struct Event {
    /// 32 hexadecimal digits.
    pub event_id: Option<Text>,
    /// Sentry's title; not before 9.1.
    pub title: Option<Text>,
    /// The log message, often `""`.
    pub message: Option<Text>,
    /// What the title was made of; the only trace of a title up to 9.0.
    pub metadata: Option<Metadata>,
    /// Where it happened.
    pub culprit: Option<Text>,
    /// The level's name.
    pub level: Option<Text>,
    /// The logger's name.
    pub logger: Option<Text>,
    /// The SDK's platform.
    pub platform: Option<Text>,
    /// The release that was running.
    pub release: Option<Text>,
    /// The environment.
    pub environment: Option<Text>,
    /// The host's name; in most versions only a tag.
    pub server_name: Option<Text>,
    /// The route or task.
    pub transaction: Option<Text>,
    /// When it happened; not before 9.1.
    pub timestamp: Option<Moment>,
    /// The same, only in bodies of the integration platform.
    pub datetime: Option<Moment>,
    /// When Sentry took it.
    pub received: Option<Moment>,
    /// The tags, names as stored.
    pub tags: Option<Tags>,
    /// Who was hit.
    pub user: Option<Person>,
    /// The log message.
    pub logentry: Option<LogEntry>,
    /// The exceptions, the one raised last is last.
    pub exception: Option<List<Raised, MAX_EXCEPTIONS>>,
    /// The stack of an event without exception.
    pub stacktrace: Option<Stacktrace>,
    /// Where it happened; read only for a cron monitor.
    pub contexts: Option<Contexts>,
    /// What a browser reported that it did not load.
    pub csp: Option<PolicyReport>,
    /// The message, the exceptions and the stack as Sentry's API shows them; only in bodies of a service hook.
    pub entries: Option<List<Entry>>,
    /// What made an issue that is no error; only in bodies of the integration platform, as all that follows.
    pub occurrence: Option<Occurrence>,
    /// The issue's id; absent up to Sentry 20, and `groupID` in bodies of a service hook.
    pub issue_id: Option<Id>,
    /// The issue in Sentry's API.
    pub issue_url: Option<Text>,
    /// The event's page.
    pub web_url: Option<Text>,
    /// The event in Sentry's API.
    pub url: Option<Text>,
}

members!(Event {
    "event_id" | "eventID" => event_id,
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

/// What Sentry makes a title of.
#[derive(Debug, Default)]
pub struct Metadata {
    /// The title of a message.
    pub title: Option<Text>,
    /// The class of an exception.
    pub kind: Option<Text>,
    /// The text of an exception.
    pub value: Option<Text>,
    /// The title of a report of a browser, which can be blank.
    pub message: Option<Text>,
    /// What such a report says was violated.
    pub directive: Option<Text>,
    /// What it says was not loaded.
    pub uri: Option<Text>,
}

members!(Metadata {
    "title" => title,
    "type" => kind,
    "value" => value,
    "message" => message,
    "directive" => directive,
    "uri" => uri,
});

/// The log message, with and without its parameters filled in.
#[derive(Debug, Default)]
pub struct LogEntry {
    /// With the parameters.
    pub formatted: Option<Text>,
    /// Without.
    pub message: Option<Text>,
}

members!(LogEntry { "formatted" => formatted, "message" => message });

/// The user interface.
#[derive(Debug, Default)]
pub struct Person {
    id: Option<Text>,
    username: Option<Text>,
    email: Option<Text>,
    ip_address: Option<Text>,
}

members!(Person { "id" => id, "username" => username, "email" => email, "ip_address" => ip_address });

/// One exception of a chain.
#[derive(Debug, Default)]
pub struct Raised {
    kind: Option<Text>,
    value: Option<Text>,
    stacktrace: Option<Stacktrace>,
}

members!(Raised { "type" => kind, "value" => value, "stacktrace" => stacktrace });

/// A stack.
#[derive(Debug, Default)]
pub struct Stacktrace {
    /// The calls, outermost first.
    pub frames: Option<List<Frame, MAX_FRAMES>>,
}

members!(Stacktrace { "frames" => frames });

/// One call of a stack.
#[derive(Debug, Default)]
pub struct Frame {
    function: Option<Text>,
    module: Option<Text>,
    filename: Option<Text>,
    abs_path: Option<Text>,
    lineno: Option<Integer>,
    in_app: Option<Flag>,
}

members!(Frame {
    "function" => function,
    "module" => module,
    "filename" => filename,
    "abs_path" | "absPath" => abs_path,
    "lineno" | "lineNo" => lineno,
    "in_app" | "inApp" => in_app,
});

/// The text, unless nothing but blanks is in it.
#[must_use]
pub fn said(text: Option<Text>) -> Option<String> {
    text.map(|Text(text)| text).filter(|text| !text.trim().is_empty())
}

/// What Sentry calls an event or issue it has no title for, which is most of those that are no error up to Sentry 23.
const UNTITLED: &str = "<untitled>";

/// The title, unless it is blank or says only that there is none.
#[must_use]
pub fn titled(title: Option<Text>) -> Option<String> {
    said(title).filter(|title| title.trim() != UNTITLED)
}

impl Event {
    /// The alert that the event itself tells of: without project, link and rules, which stand beside it.
    ///
    /// `received_at` is when the bridge got it: the time of an event that tells none.
    #[must_use]
    pub fn into_alert(mut self, subject: Subject, action: Action, received_at: DateTime<Utc>) -> Alert {
        let (exceptions, frames) = self.take_exceptions();
        let occurrence = self.occurrence.take().unwrap_or_default();
        let message = said(self.message.clone()).or_else(|| self.take_message());
        let title = self.take_title().or_else(|| occurrence.title());
        // An exception says more than where it happened.
        let title = title.or_else(|| if exceptions.is_empty() { self.take_stand_in() } else { None });
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
            event_id: said(self.event_id.take()),
            happened_at: self.timestamp.or(self.datetime).or(self.received).map_or(received_at, |Moment(at)| at),
            received: self.received.map(|Moment(at)| at),
            project: Project::default(),
            link: None,
            rules: Vec::new(),
            // The integration platform takes the prefix off.
            release: self.or_tag(release, "sentry:release").or_else(|| self.or_tag(None, "release")),
            platform: said(self.platform.take()),
            environment: self.or_tag(environment, "environment"),
            logger: self.or_tag(logger, "logger"),
            server_name: self.or_tag(server_name, "server_name"),
            transaction: self.or_tag(transaction, "transaction"),
            user: self.take_user(),
            exceptions,
            frames,
            tags: self.tags.take().map_or_else(Vec::new, |tags| tags.0),
            facts: occurrence.facts(),
            evidence: occurrence.into_evidence(),
        }
    }

    /// The tag's value where the event itself says nothing.
    fn or_tag(&self, member: Option<Text>, tag: &str) -> Option<String> {
        said(member).or_else(|| self.tags.as_ref()?.get(tag).map(str::to_owned))
    }

    /// Takes the title out, made of the metadata where it is missing.
    fn take_title(&mut self) -> Option<String> {
        titled(self.title.take()).or_else(|| self.metadata.take()?.into_title())
    }

    /// Takes out what an event without title and exception can be called.
    fn take_stand_in(&mut self) -> Option<String> {
        let monitor = self.contexts.take().and_then(Contexts::into_title);
        monitor.or_else(|| self.csp.take()?.into_title())
    }

    /// Takes the log message out.
    fn take_message(&mut self) -> Option<String> {
        let entry = self.logentry.take()?;
        said(entry.formatted).or_else(|| said(entry.message))
    }

    /// Takes the exceptions out and the stack that tells most: that of the exception which was raised last, as far as it
    /// has one, with the innermost call first.
    fn take_exceptions(&mut self) -> (Vec<alert::Exception>, Vec<alert::Frame>) {
        let mut stack = self.stacktrace.take().and_then(Stacktrace::into_frames);
        let mut exceptions = Vec::new();
        for raised in self.exception.take().map_or_else(Vec::new, |List(raised)| raised) {
            stack = raised.stacktrace.and_then(Stacktrace::into_frames).or(stack);
            let exception = alert::Exception { kind: said(raised.kind), value: said(raised.value) };
            if exception != alert::Exception::default() {
                exceptions.push(exception);
            }
        }
        (exceptions, stack.unwrap_or_default())
    }

    /// Takes the user out, if anything is told of them.
    fn take_user(&mut self) -> Option<User> {
        let person = self.user.take()?;
        let user = User {
            id: said(person.id),
            username: said(person.username),
            email: said(person.email),
            ip_address: said(person.ip_address),
        };
        (user != User::default()).then_some(user)
    }
}

impl Metadata {
    /// The title of a message, else `type: value` of an exception, else what a browser reported.
    #[must_use]
    pub fn into_title(self) -> Option<String> {
        let raised = match (said(self.kind), said(self.value)) {
            (Some(kind), Some(value)) => Some(format!("{kind}: {value}")),
            (kind, value) => kind.or(value),
        };
        let reported = || blocked(said(self.directive).as_deref(), said(self.uri).as_deref());
        titled(self.title).or(raised).or_else(|| said(self.message)).or_else(reported)
    }
}

impl Stacktrace {
    /// The calls, innermost first; `None` when there are none.
    fn into_frames(self) -> Option<Vec<alert::Frame>> {
        let List(frames) = self.frames?;
        let frames: Vec<_> = frames.into_iter().rev().map(Frame::into_call).collect();
        (!frames.is_empty()).then_some(frames)
    }
}

impl Frame {
    fn into_call(self) -> alert::Frame {
        alert::Frame {
            function: said(self.function),
            module: said(self.module),
            filename: said(self.filename).or_else(|| said(self.abs_path)),
            line: self.lineno.and_then(|Integer(line)| u64::try_from(line).ok()).filter(|&line| line > 0),
            in_app: self.in_app == Some(Flag(true)),
        }
    }
}
