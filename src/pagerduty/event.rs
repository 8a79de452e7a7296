//! Events: what PagerDuty should do, and how severe it is, independent of the API to which they are sent.

use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use serde::Serialize;
use strum::{Display, EnumString, IntoStaticStr, VariantArray, VariantNames};

use super::description::Description;
use super::destination::Destination;
use super::keys::IncidentKey;
use crate::alert::{Alert, Level};

/// An event: what PagerDuty should do to one incident of one integration.
///
/// It has everything that PagerDuty requires. An [`EventsApi`](super::EventsApi) renders it to the JSON that is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The integration it goes to, and through which API.
    pub destination: Destination,
    /// The incident it belongs to. PagerDuty can generate a key for a trigger, but the bridge always sends one.
    pub incident_key: IncidentKey,
    /// What it does to the incident.
    pub action: EventAction,
}

impl Event {
    /// What it does to the incident, without the content.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.action.event_type()
    }

    /// The line people read first, if the event has one.
    #[must_use]
    pub fn description(&self) -> Option<&Description> {
        match &self.action {
            EventAction::Trigger(trigger) => Some(&trigger.description),
            EventAction::Acknowledge(line) | EventAction::Resolve(line) => line.as_ref(),
        }
    }
}

/// What an event does to its incident.
#[derive(Clone, Debug, PartialEq)]
pub enum EventAction {
    /// Opens the incident, or adds to it when it is open.
    Trigger(Trigger),
    /// Acknowledges the incident. PagerDuty drops the event when no incident is open. The line says what happened: PagerDuty
    /// writes it into the incident's log.
    Acknowledge(Option<Description>),
    /// Resolves the incident, in the same way.
    Resolve(Option<Description>),
}

impl EventAction {
    /// The action without its content.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Trigger(_) => EventType::Trigger,
            Self::Acknowledge(_) => EventType::Acknowledge,
            Self::Resolve(_) => EventType::Resolve,
        }
    }
}

/// The content of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// The line people read first.
    pub description: Description,
    /// The monitoring system it comes from.
    pub client: &'static str,
    /// The address of that system.
    pub client_url: Option<String>,
    /// Everything else that is known.
    pub details: Details,
    /// Links shown beside the incident.
    pub links: Vec<Link>,
    /// How severe it is. Only the Events API v2 has a field for it.
    pub severity: Severity,
    /// Where it comes from. Only the Events API v2 has fields for it.
    pub v2_fields: Box<V2Fields>,
}

/// The client and the source of events about the bridge itself.
pub const BRIDGE_CLIENT: &str = "sentry-pagerduty-bridge";

impl Trigger {
    /// Makes a trigger about the bridge itself, which is critical and has no links.
    #[must_use]
    pub fn of_bridge(description: Description, details: Details) -> Self {
        Self {
            description,
            client: BRIDGE_CLIENT,
            client_url: None,
            details,
            links: Vec::new(),
            severity: Severity::Critical,
            v2_fields: Box::new(V2Fields::of_source(Description::of_line(BRIDGE_CLIENT.to_owned()))),
        }
    }
}

/// Where a trigger comes from, in the terms of the Events API v2. Each text is a line with the limits of a description,
/// because PagerDuty documents no limit for these fields.
#[derive(Clone, Debug, PartialEq)]
pub struct V2Fields {
    /// The affected system.
    pub source: Description,
    /// The part of it that is responsible.
    pub component: Option<Description>,
    /// The group of systems it belongs to.
    pub group: Option<Description>,
    /// The kind of the problem.
    pub class: Option<Description>,
    /// When it happened. `None` means about when PagerDuty receives it.
    pub occurred_at: Option<DateTime<Utc>>,
}

impl V2Fields {
    /// Makes a value that has only a source.
    #[must_use]
    pub fn of_source(source: Description) -> Self {
        Self { source, component: None, group: None, class: None, occurred_at: None }
    }

    /// The texts that are present, each with the name of its field.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, &Description)> {
        let optional = [("component", &self.component), ("group", &self.group), ("class", &self.class)];
        let optional = optional.into_iter().filter_map(|(name, line)| Some((name, line.as_ref()?)));
        std::iter::once(("source", &self.source)).chain(optional)
    }
}

/// A link shown beside an incident.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Link {
    /// An absolute web address.
    pub href: String,
    /// The text of the link.
    pub text: &'static str,
}

/// The details of an alert, by name, in the order in which people read them.
pub type Details = IndexMap<&'static str, Detail>;

/// The name of the detail that says when the alert happened. The number of alerts and the time of the first are inserted
/// after it.
pub const HAPPENED_AT: &str = "datetime";

/// One detail. Its variant says what may be cut from it if the event is too large.
#[derive(Clone, Debug, PartialEq)]
pub enum Detail {
    /// Sentry gave no value. The detail is shown nevertheless.
    Unknown,
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// A time.
    Time(DateTime<Utc>),
    /// An absolute web address. It is never shortened.
    Url(String),
    /// Texts, the most important ones first.
    List(Vec<String>),
    /// Calls of a stack, the innermost first. The outermost ones are dropped before anything else.
    Frames(Vec<String>),
    /// Named texts, such as tags.
    Fields(IndexMap<String, String>),
}

/// The kinds of events, as they are named in PagerDuty's APIs, in the database and in metrics.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum EventType {
    /// `trigger`
    Trigger,
    /// `acknowledge`
    Acknowledge,
    /// `resolve`
    Resolve,
}

impl EventType {
    /// PagerDuty's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The event type with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// PagerDuty's severities, worst first.
///
/// A service may notify by severity: `critical` and `error` then have high urgency, `warning` and `info` have low urgency,
/// which wakes nobody.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, EnumString, IntoStaticStr, Serialize, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(ascii_case_insensitive, serialize_all = "lowercase")]
pub enum Severity {
    /// `critical`
    Critical,
    /// `error`
    Error,
    /// `warning`
    Warning,
    /// `info`
    Info,
}

impl Severity {
    /// Their names, worst first.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Parses the name, ignoring case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.trim().parse().ok()
    }

    /// Whether a service that notifies by severity gives it low urgency, which wakes nobody.
    #[must_use]
    pub fn is_low_urgency(self) -> bool {
        matches!(self, Self::Warning | Self::Info)
    }

    /// The severity of an alert: that of its level, but at least `error` for an issue of high priority and at most `warning`
    /// for one of low priority.
    ///
    /// A level that is missing or not one of Sentry's own says nothing about the severity, so that is `error`, which has
    /// high urgency.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        let of_level = match alert.level.as_deref().map(str::trim) {
            // Metric alerts have a level of their own.
            Some(level) if level.eq_ignore_ascii_case("critical") => Self::Critical,
            level => match level.and_then(Level::parse) {
                Some(Level::Fatal) => Self::Critical,
                Some(Level::Error) | None => Self::Error,
                Some(Level::Warning) => Self::Warning,
                Some(Level::Info | Level::Debug) => Self::Info,
            },
        };
        match alert.priority() {
            Some("high") => of_level.min(Self::Error),
            Some("low") => of_level.max(Self::Warning),
            _ => of_level,
        }
    }
}

/// What became of an event that PagerDuty accepted: a success response does not prove that the event took effect.
#[derive(Clone, Copy, Debug, EnumString, Eq, IntoStaticStr, PartialEq, Serialize, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ProofState {
    /// A trigger: its incident exists. A resolve: its incident is resolved.
    Confirmed,
    /// A trigger: its alert exists, but a rule in PagerDuty suppresses it.
    Suppressed,
    /// A trigger: no incident exists.
    NotOpened,
    /// A resolve: its incident was still open, so the resolve was sent once more.
    Resent,
    /// A resolve that was sent once more: its incident is still open.
    LeftOpen,
}

impl ProofState {
    /// The name in the database, in metrics and in `/api`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether an operator has to look into it.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::NotOpened | Self::LeftOpen)
    }
}

/// Events for the tests of the APIs.
#[cfg(test)]
pub(super) mod samples {
    use super::super::keys::ServiceKey;
    use super::super::{ApiVersion, Destination};
    use super::*;
    use crate::alert::SentryId;

    pub(in super::super) fn event(api: ApiVersion, action: EventAction) -> Event {
        Event {
            destination: Destination {
                api,
                service_key: ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap(),
            },
            incident_key: IncidentKey::of_issue("", &SentryId::new("42").unwrap()),
            action,
        }
    }

    pub(in super::super) fn trigger(details: Details) -> Trigger {
        Trigger {
            description: Description::new("Disk \"full\"").unwrap(),
            client: "sentry",
            client_url: Some("https://sentry.test".to_owned()),
            details,
            links: vec![Link { href: "https://sentry.test/42".to_owned(), text: "Issue Details" }],
            severity: Severity::Error,
            v2_fields: Box::new(V2Fields::of_source(Description::new("shop").unwrap())),
        }
    }
}
