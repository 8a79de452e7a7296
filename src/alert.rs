//! The one shape every Sentry body becomes.
//!
//! [`Alert`] stands in the middle of the bridge: [`crate::sentry`] builds it, [`crate::routing`] and
//! [`crate::pagerduty`] read it, and it knows neither side. Texts are kept as Sentry sent them, so that the side that
//! writes an event decides how to shorten them.

use chrono::{DateTime, Utc};

/// What Sentry told about one issue, whichever webhook it came by.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The issue it is about. All of Sentry's webhooks agree on this id and on no other.
    pub issue: IssueId,
    /// What the incident should do.
    pub action: Action,
    /// The log message; `Some("")` is normal for exceptions since Sentry 9.1.
    pub message: Option<String>,
    /// Sentry's own title of the event; absent up to 9.0.
    pub title: Option<String>,
    /// Where it happened, in Sentry's words; often empty.
    pub culprit: Option<String>,
    /// The level as Sentry spelt it; [`Level::parse`] knows the usual five.
    pub level: Option<String>,
    /// 32 hexadecimal digits, the id of this very event.
    pub event_id: Option<String>,
    /// When it happened, or the nearest to that which the body tells.
    pub happened_at: DateTime<Utc>,
    /// The project it happened in.
    pub project: Project,
    /// The page of the issue, absent when the body names none that is a web address.
    pub link: Option<IssueLink>,
    /// Tags in Sentry's order, names as stored (`sentry:release` in legacy bodies).
    pub tags: Vec<(String, String)>,
    /// Labels of the alert rules that fired, without blank ones.
    pub rules: Vec<String>,
    /// The release that was running.
    pub release: Option<String>,
    /// The SDK's platform, such as `python`.
    pub platform: Option<String>,
    /// The environment, such as `production`.
    pub environment: Option<String>,
    /// The logger's name.
    pub logger: Option<String>,
    /// The host's name.
    pub server_name: Option<String>,
    /// The route or task that was running.
    pub transaction: Option<String>,
    /// Who was hit, if the SDK said so.
    pub user: Option<User>,
    /// The chain of exceptions in Sentry's order: the one that was raised last is last.
    pub exceptions: Vec<Exception>,
    /// The stack of the last exception (or of the message), innermost call first.
    pub frames: Vec<Frame>,
}

/// The id of a Sentry issue: text without blanks around it, never empty.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct IssueId(String);

impl IssueId {
    /// Takes an id as Sentry wrote it; `None` when nothing but blanks is there.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        let id = id.trim();
        (!id.is_empty()).then(|| Self(id.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an alert asks of the incident.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Open it, or add to it.
    Trigger,
}

/// A project by the two names Sentry gives it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Project {
    /// The name people read; may hold any character.
    pub name: Option<String>,
    /// The short name in addresses.
    pub slug: Option<String>,
}

/// The page of an issue and the Sentry it is on; both absolute `http` or `https` addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssueLink {
    /// The issue's page.
    pub href: String,
    /// The Sentry's root, without a slash at its end.
    pub root: String,
}

/// The person or client an event happened to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct User {
    /// The application's own id of the user.
    pub id: Option<String>,
    /// The log-in name.
    pub username: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
    /// The IP address.
    pub ip_address: Option<String>,
}

/// One exception of a chain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Exception {
    /// Its class, such as `ZeroDivisionError`.
    pub kind: Option<String>,
    /// Its text.
    pub value: Option<String>,
}

impl Exception {
    /// `kind: value`, or the one of them that is told.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        match (&self.kind, &self.value) {
            (Some(kind), Some(value)) => Some(format!("{kind}: {value}")),
            (kind, value) => kind.as_ref().or(value.as_ref()).cloned(),
        }
    }
}

/// One call of a stack.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Frame {
    /// The function that was running.
    pub function: Option<String>,
    /// The module it belongs to.
    pub module: Option<String>,
    /// The source file.
    pub filename: Option<String>,
    /// The line in that file, from 1.
    pub line: Option<u64>,
    /// Whether Sentry counts it to the application rather than to its libraries.
    pub in_app: bool,
}

/// Sentry's levels, mildest first.
///
/// Source: Sentry's `constants.py`, `LOG_LEVELS`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warning`
    Warning,
    /// `error`
    Error,
    /// `fatal`
    Fatal,
}

impl Level {
    /// The names [`Level::parse`] knows, mildest first.
    pub const NAMES: [&str; 5] = ["debug", "info", "warning", "error", "fatal"];

    /// Its name as Sentry spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Reads a level's name in any case; `None` for names that are not Sentry's own (`log`, `sample`, `critical`).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warning" => Some(Self::Warning),
            "error" => Some(Self::Error),
            "fatal" => Some(Self::Fatal),
            _ => None,
        }
    }
}
