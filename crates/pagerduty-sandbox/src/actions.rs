//! Actions on incidents other than events, and the webhooks that report changes of incidents.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::incidents::{Effect, Event, EventType};
use crate::records::Records;
use crate::webhooks::{Agent, webhooks};

/// An action on an incident other than an event, by a person or by PagerDuty itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Action {
    /// The integration key of the incident's events.
    pub service_key: String,
    /// Its incident key.
    pub incident_key: String,
    /// What is done.
    #[serde(rename = "action")]
    pub kind: ActionKind,
    /// Who does it.
    #[serde(default = "person")]
    pub agent: Agent,
}

fn person() -> Agent {
    Agent::Person
}

/// The kinds of [`Action`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Acknowledge it.
    Acknowledge,
    /// Resolve it.
    Resolve,
    /// Open a resolved one again.
    Reopen,
}

impl Records {
    /// Performs an action of a person or of PagerDuty itself on an incident. Returns whether that changed it.
    pub(crate) fn act(&mut self, action: &Action, now: DateTime<Utc>) -> bool {
        let Action { service_key, incident_key, kind, agent } = action;
        let event_type = match kind {
            ActionKind::Acknowledge => EventType::Acknowledge,
            ActionKind::Resolve => EventType::Resolve,
            ActionKind::Reopen => {
                let is_reopened = self.incidents.reopen(service_key, incident_key, now);
                if is_reopened {
                    self.tell_as(service_key, incident_key, "incident.reopened", *agent, now);
                }
                return is_reopened;
            }
        };
        let event = Event {
            event_type,
            service_key: service_key.clone(),
            incident_key: Some(incident_key.clone()),
            description: None,
        };
        let of_api = self.incidents.api_of(service_key, incident_key);
        let effect = self.incidents.apply(of_api, &event, incident_key, now).effect;
        self.tell(service_key, incident_key, effect, *agent, now);
        matches!(effect, Effect::Acknowledged | Effect::Resolved)
    }

    /// Queues the webhooks that tell subscribers what an event or an action did.
    pub(crate) fn tell(
        &mut self,
        service_key: &str,
        incident_key: &str,
        effect: Effect,
        agent: Agent,
        now: DateTime<Utc>,
    ) {
        let event_type = match effect {
            Effect::Opened => "incident.triggered",
            Effect::Acknowledged => "incident.acknowledged",
            Effect::Resolved => "incident.resolved",
            Effect::Logged | Effect::AlreadyAcknowledged | Effect::Dropped => return,
        };
        self.tell_as(service_key, incident_key, event_type, agent, now);
    }

    fn tell_as(
        &mut self,
        service_key: &str,
        incident_key: &str,
        event_type: &'static str,
        agent: Agent,
        now: DateTime<Utc>,
    ) {
        if let Some(incident) = self.incidents.get(service_key, incident_key) {
            self.unposted.extend(webhooks(&self.options.webhooks, incident, event_type, agent, now));
        }
    }
}
