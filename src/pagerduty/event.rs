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
        self.action.event_type()
    }

    /// The line people read first, if the event has one.
    #[must_use]
    pub fn description(&self) -> Option<&Description> {
        match &self.action {
            EventAction::Trigger(trigger) => Some(&trigger.description),
            EventAction::Acknowledge(note) | EventAction::Resolve(note) => note.description.as_ref(),
        }
    }

    pub(super) fn trigger_mut(&mut self) -> Option<&mut Trigger> {
        match &mut self.action {
            EventAction::Trigger(trigger) => Some(trigger),
            EventAction::Acknowledge(_) | EventAction::Resolve(_) => None,
        }
    }
}

/// What an event does to its incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event_type", rename_all = "lowercase")]
pub enum EventAction {
    /// Opens the incident or adds to it.
    Trigger(Trigger),
    /// Tells that somebody works on it; PagerDuty drops it where none is open.
    Acknowledge(Note),
    /// Closes the incident; PagerDuty drops it where none is open.
    Resolve(Note),
}

impl EventAction {
    /// The `event_type` it is sent with.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Trigger(_) => EventType::Trigger,
            Self::Acknowledge(_) => EventType::Acknowledge,
            Self::Resolve(_) => EventType::Resolve,
        }
    }
}

/// What PagerDuty writes into the incident's log for an event that is no trigger. It takes no client and no links there.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Note {
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
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
