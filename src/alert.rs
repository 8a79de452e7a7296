//! What Sentry said about an issue or a metric alert, whichever webhook it came by.
//!
//! [`crate::sentry`] makes an [`Alert`]; [`crate::routing`] and [`crate::pagerduty`] read it. Texts are kept as Sentry
//! sent them, so that the side that writes an event decides how to shorten them.

use chrono::{DateTime, Utc};
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};

/// The most stack frames that an event shows.
pub const MAX_FRAMES: usize = 10;

/// What one webhook says about an issue or a metric alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// What it is about.
    pub subject: Subject,
    /// What the incident should do.
    pub action: IncidentAction,
    /// The log message; `Some("")` is normal for exceptions since Sentry 9.1.
    pub message: Option<String>,
    /// Sentry's own title of the event; absent up to 9.0.
    pub title: Option<String>,
    /// Where it happened, in Sentry's words; often empty.
    pub culprit: Option<String>,
    /// The level as Sentry spelt it; [`Level::parse`] knows the usual five. Metric alerts have `critical` too.
    pub level: Option<String>,
    /// 32 hexadecimal digits, the id of the event.
    pub event_id: Option<String>,
    /// When it happened by the client's clock, or the nearest time that the body has. Only for display: it must never be
    /// compared with other times.
    pub occurred_at: DateTime<Utc>,
    /// When Sentry received its event, by Sentry's own clock; absent where there is no event or the body does not say.
    pub received_by_sentry_at: Option<DateTime<Utc>>,
    /// The project it happened in.
    pub project: Project,
    /// The page of the issue; absent when the body has no URL of it.
    pub link: Option<IssueLink>,
    /// Tags in Sentry's order, names as stored (`sentry:release` in legacy bodies, `release` in those of the
    /// integration platform).
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
    /// The user, if the SDK sent one.
    pub user: Option<User>,
    /// The chain of exceptions in Sentry's order: the one raised last is last.
    pub exceptions: Vec<Exception>,
    /// The stack of the last exception (or of the message), innermost call first: at most [`MAX_FRAMES`] of the
    /// application's own calls, or of all calls if none is the application's own.
    pub frames: Vec<StackFrame>,
    /// What Sentry measured for an issue without an exception, such as that of a cron monitor or a slow query: names and
    /// values as Sentry wrote them, in its order.
    pub evidence: Vec<(String, String)>,
    /// The fields of the form of the alert's action as a user filled them in: names and values, in their order.
    pub action_settings: Vec<(String, String)>,
    /// Other details worth showing, under their display names, in their order.
    pub facts: Vec<(&'static str, String)>,
}

impl Alert {
    /// An alert that says nothing but this.
    #[must_use]
    pub fn new(subject: Subject, action: IncidentAction, occurred_at: DateTime<Utc>) -> Self {
        Self {
            subject,
            action,
            message: None,
            title: None,
            culprit: None,
            level: None,
            event_id: None,
            occurred_at,
            received_by_sentry_at: None,
            project: Project::default(),
            link: None,
            tags: Vec::new(),
            rules: Vec::new(),
            release: None,
            platform: None,
            environment: None,
            logger: None,
            server_name: None,
            transaction: None,
            user: None,
            exceptions: Vec::new(),
            frames: Vec::new(),
            evidence: Vec::new(),
            action_settings: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// The issue's priority, such as `high`, which only some webhooks of newer Sentry versions have.
    #[must_use]
    pub fn priority(&self) -> Option<&str> {
        self.facts.iter().find(|(name, _)| *name == "priority").map(|(_, priority)| priority.as_str())
    }
}

/// What an alert is about, and what one incident stands for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Subject {
    /// An issue. Its id is the only one that all of Sentry's webhooks have.
    Issue(SentryId),
    /// One firing of a metric alert, by the key that Sentry's own integration gives it:
    /// `incident_<organization_id>_<identifier>`.
    Metric(String),
}

impl Subject {
    /// The firing `identifier` of a metric alert; the organization may be unknown.
    #[must_use]
    pub fn metric(organization: Option<&SentryId>, identifier: &SentryId) -> Self {
        let organization = organization.map_or_else(String::new, |id| format!("{}_", id.as_str()));
        Self::Metric(format!("incident_{organization}{}", identifier.as_str()))
    }

    /// The name of its incident, without any prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Issue(id) => id.as_str(),
            Self::Metric(name) => name,
        }
    }
}

/// The id that Sentry gave to an issue, an organization or the firing of a metric alert: text without blanks around it,
/// never empty.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SentryId(String);

impl SentryId {
    /// An id as Sentry wrote it; `None` when it is blank.
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
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum IncidentAction {
    /// Open it, or add to it.
    Trigger(TriggerKind),
    /// Open it again wherever it was open before, because its issue is back. If the bridge never opened it, it is opened
    /// if this kind of webhook may open incidents.
    Reopen(TriggerKind),
    /// Record that someone is working on it.
    Acknowledge,
    /// Close it.
    Resolve,
}

/// The webhooks that may open an incident, as `BRIDGE_PAGE_ON` names them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, EnumString, IntoStaticStr, VariantArray, VariantNames)]
#[strum(ascii_case_insensitive)]
pub enum TriggerKind {
    /// An alert rule fired for an issue: the legacy plugin, `event_alert.triggered`, and `activity_alert.triggered` for an
    /// issue that is back or escalates.
    #[strum(serialize = "alert")]
    Alert,
    /// `metric_alert.critical`, `.warning` and `.open`.
    #[strum(serialize = "metric")]
    Metric,
    /// `issue.created`.
    #[strum(serialize = "issue.created")]
    IssueCreated,
    /// `issue.unresolved`: a resolved or archived issue is back, or escalates.
    #[strum(serialize = "issue.unresolved")]
    IssueUnresolved,
    /// `error.created`: every single error event.
    #[strum(serialize = "error")]
    Error,
}

impl TriggerKind {
    /// All of them.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;

    /// Their names in `BRIDGE_PAGE_ON`.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Its name in `BRIDGE_PAGE_ON`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Parses that name in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.trim().parse().ok()
    }
}

/// A project, by the two names that Sentry gives it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Project {
    /// The display name; may hold any character.
    pub name: Option<String>,
    /// The short name in URLs.
    pub slug: Option<String>,
    /// The short names of further projects, which only a metric alert over several projects has.
    pub others: Vec<String>,
}

/// The page of an issue and the Sentry it is on; both absolute `http` or `https` URLs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssueLink {
    /// The issue's page.
    pub href: String,
    /// The root URL of that Sentry, without a trailing slash.
    pub root: String,
}

/// The user or client of an event.
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
    /// `kind: value`, or whichever of the two is present.
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
pub struct StackFrame {
    /// The function that was running.
    pub function: Option<String>,
    /// The module it belongs to.
    pub module: Option<String>,
    /// The source file.
    pub filename: Option<String>,
    /// The line in that file, from 1.
    pub line: Option<u64>,
    /// Whether it belongs to the application rather than to its libraries.
    pub in_app: bool,
}

/// Sentry's levels, mildest first.
///
/// Source: Sentry's `constants.py`, `LOG_LEVELS`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, EnumString, IntoStaticStr, VariantNames)]
#[strum(ascii_case_insensitive, serialize_all = "lowercase")]
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
    /// The names that [`Level::parse`] knows, mildest first.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Its name as Sentry spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Parses a level's name in any case; `None` for names that are not Sentry's own (`log`, `sample`, `critical`).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.trim().parse().ok()
    }
}
