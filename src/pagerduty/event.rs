//! An event of PagerDuty's Events API v1 that is valid by construction.
//!
//! Source: PagerDuty's pages "Events API v1: Overview" and "Trigger, acknowledge and resolve events".

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Description, IncidentKey, ServiceKey};

/// One event. There is no way to build one that lacks a member which PagerDuty requires.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// The integration it goes to.
    pub service_key: ServiceKey,
    /// The incident it belongs to. PagerDuty could make one up for a trigger; the bridge always says it.
    pub incident_key: IncidentKey,
    /// What it does, written as `event_type` and the members that go with it.
    #[serde(flatten)]
    pub action: EventAction,
}

impl Event {
    /// The `event_type` this event is sent with.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match self.action {
            EventAction::Trigger(_) => EventType::Trigger,
            EventAction::Resolve => EventType::Resolve,
        }
    }

    /// The members that only a trigger has.
    #[must_use]
    pub fn trigger(&self) -> Option<&Trigger> {
        match &self.action {
            EventAction::Trigger(trigger) => Some(trigger),
            EventAction::Resolve => None,
        }
    }

    pub(super) fn trigger_mut(&mut self) -> Option<&mut Trigger> {
        match &mut self.action {
            EventAction::Trigger(trigger) => Some(trigger),
            EventAction::Resolve => None,
        }
    }
}

/// What an event does to its incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event_type", rename_all = "lowercase")]
pub enum EventAction {
    /// Opens the incident or adds to it.
    Trigger(Trigger),
    /// Closes the incident; PagerDuty drops it where none is open.
    Resolve,
}

/// The members of a trigger.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trigger {
    /// The line people read first.
    pub description: Description,
    /// Who sent it; Sentry's plugin wrote `sentry`.
    pub client: &'static str,
    /// The root of the Sentry it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_url: Option<String>,
    /// Everything else worth knowing, in the order people read it.
    pub details: Map<String, Value>,
    /// Links shown beside the incident.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<Context>,
}

/// Something PagerDuty shows beside an incident.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Context {
    /// A link; `href` is an absolute web address.
    Link {
        /// Where it leads.
        href: String,
        /// What it says.
        text: &'static str,
    },
}

/// The three values of `event_type`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EventType {
    /// `trigger`
    Trigger,
    /// `acknowledge`
    Acknowledge,
    /// `resolve`
    Resolve,
}

impl EventType {
    /// The word PagerDuty uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Acknowledge => "acknowledge",
            Self::Resolve => "resolve",
        }
    }

    /// Reads PagerDuty's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Trigger, Self::Acknowledge, Self::Resolve].into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
