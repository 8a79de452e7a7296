//! The members of an event, under the names they have had since Sentry 8.0.
//!
//! Up to 9.0 Sentry wrote interfaces under their full names (`sentry.interfaces.Exception`), later under short ones
//! (`exception`).

use super::lenient::{Flag, Integer, List, Moment, Text, members};
use super::tags::Tags;
use crate::alert::{self, User};

/// An event as a body holds it; `None` wherever it tells nothing usable.
#[derive(Debug, Default)]
pub struct Event {
    /// 32 hexadecimal digits.
    pub event_id: Option<Text>,
    /// Sentry's title; not before 9.1.
    pub title: Option<Text>,
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
    /// When Sentry took it.
    pub received: Option<Moment>,
    /// The tags, names as stored.
    pub tags: Option<Tags>,
    /// Who was hit.
    pub user: Option<Person>,
    /// The log message.
    pub logentry: Option<LogEntry>,
    /// The exceptions, the one raised last is last.
    pub exception: Option<List<Raised>>,
    /// The stack of an event without exception.
    pub stacktrace: Option<Stacktrace>,
}

members!(Event {
    "event_id" => event_id,
    "title" => title,
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
    "received" => received,
    "tags" => tags,
    "user" | "sentry.interfaces.User" => user,
    "logentry" | "sentry.interfaces.Message" => logentry,
    "exception" | "sentry.interfaces.Exception" => exception,
    "stacktrace" | "sentry.interfaces.Stacktrace" => stacktrace,
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
}

members!(Metadata { "title" => title, "type" => kind, "value" => value });

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
    frames: Option<List<Frame>>,
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
    "abs_path" => abs_path,
    "lineno" => lineno,
    "in_app" => in_app,
});

/// The text, unless nothing but blanks is in it.
#[must_use]
pub fn said(text: Option<Text>) -> Option<String> {
    text.map(|Text(text)| text).filter(|text| !text.trim().is_empty())
}

impl Event {
    /// The tag's value where the event itself says nothing.
    #[must_use]
    pub fn or_tag(&self, member: Option<Text>, tag: &str) -> Option<String> {
        said(member).or_else(|| self.tags.as_ref()?.get(tag).map(str::to_owned))
    }

    /// Takes the title out, made of the metadata where it is missing.
    pub fn take_title(&mut self) -> Option<String> {
        said(self.title.take()).or_else(|| {
            let Metadata { title, kind, value } = self.metadata.take()?;
            said(title).or_else(|| match (said(kind), said(value)) {
                (Some(kind), Some(value)) => Some(format!("{kind}: {value}")),
                (kind, value) => kind.or(value),
            })
        })
    }

    /// Takes the log message out.
    pub fn take_message(&mut self) -> Option<String> {
        let entry = self.logentry.take()?;
        said(entry.formatted).or_else(|| said(entry.message))
    }

    /// Takes the exceptions out and the stack that tells most: that of the exception which was raised last, as far as it
    /// has one, with the innermost call first.
    pub fn take_exceptions(&mut self) -> (Vec<alert::Exception>, Vec<alert::Frame>) {
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
    pub fn take_user(&mut self) -> Option<User> {
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
