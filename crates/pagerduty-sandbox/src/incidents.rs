//! Incidents and what events do to them. Pure: the time and generated incident keys are arguments.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::api::EventsApiVersion;

/// How many log entries of an incident are kept, the newest.
const LOG_ENTRIES: usize = 100;

/// The `event_type` of an event.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// Open an incident, or add to the open one.
    Trigger,
    /// Acknowledge the open incident.
    Acknowledge,
    /// Resolve the open incident.
    Resolve,
}

impl EventType {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "trigger" => Some(Self::Trigger),
            "acknowledge" => Some(Self::Acknowledge),
            "resolve" => Some(Self::Resolve),
            _ => None,
        }
    }
}

/// A valid event, reduced to what incidents need.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ValidEvent {
    pub(crate) event_type: EventType,
    pub(crate) service_key: String,
    /// `None` only for a trigger without one.
    pub(crate) incident_key: Option<String>,
    pub(crate) description: Option<String>,
}

/// The state of an incident.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentState {
    /// Open; somebody is being notified.
    Triggered,
    /// Open; somebody has acknowledged it.
    Acknowledged,
    /// Closed.
    Resolved,
}

/// What an event did to its incident.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It opened an incident: somebody is notified.
    Opened,
    /// It was added to the log of an open incident: nobody is notified again.
    Logged,
    /// It acknowledged the incident.
    Acknowledged,
    /// The incident was acknowledged before.
    AlreadyAcknowledged,
    /// It resolved the incident.
    Resolved,
    /// Nothing: there was no open incident to acknowledge or resolve.
    Dropped,
}

/// The newest incident of one incident key at one integration. It replaces the one before it; [`opened`](Self::opened)
/// counts them all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// The integration key of its events.
    pub service_key: String,
    /// The incident key of its events, or the generated one.
    pub incident_key: String,
    /// Its number in the account, counted from 1.
    pub number: u64,
    /// Its state.
    pub state: IncidentState,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When it was resolved; `None` while it is open.
    pub resolved_at: Option<DateTime<Utc>>,
    /// How many incidents were opened with this key; more than 1 only if it was resolved in between.
    pub opened: u64,
    /// Its title: the description of the trigger that opened it.
    pub description: String,
    /// How many events had an effect on this key.
    pub events: u64,
    /// The newest 100 of them, oldest first.
    pub log: VecDeque<IncidentLogEntry>,
}

impl Incident {
    /// The id in the REST API and in webhooks: a letter and 13 characters.
    #[must_use]
    pub fn id(&self) -> String {
        format!("Q{:013}", self.number)
    }

    /// The address of its page.
    pub(crate) fn html_url(&self) -> String {
        format!("https://sandbox.invalid/incidents/{}", self.id())
    }
}

/// An entry in the log of an incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncidentLogEntry {
    /// When the event was applied.
    pub at: DateTime<Utc>,
    /// The type of the event.
    pub event_type: EventType,
    /// What it did.
    pub effect: Effect,
    /// The description in the event.
    pub description: Option<String>,
}

/// An action on an incident other than an event, by a person or by PagerDuty itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct ManualAction {
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

/// The kinds of [`ManualAction`].
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

/// Who did something to an incident.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Agent {
    /// A person, through the web app, the mobile app or the REST API.
    Person,
    /// An event of an integration.
    Integration,
    /// PagerDuty itself, for example by a timeout.
    Automation,
}

/// How an event changed its incident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Transition {
    pub(crate) effect: Effect,
    pub(crate) before: Option<IncidentState>,
    pub(crate) after: Option<IncidentState>,
}

/// All incidents, by integration key and incident key, and by API if each API has its own incidents.
#[derive(Debug, Default)]
pub(crate) struct Incidents {
    by_key: BTreeMap<(String, String, Option<EventsApiVersion>), Incident>,
    /// How many were ever opened.
    opened: u64,
}

impl Incidents {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.by_key.values()
    }

    pub(crate) fn get(&self, service_key: &str, incident_key: &str) -> Option<&Incident> {
        self.by_key.get(&self.key(service_key, incident_key))
    }

    /// The API to which an incident belongs, if each API has its own incidents.
    pub(crate) fn api_of(&self, service_key: &str, incident_key: &str) -> Option<EventsApiVersion> {
        self.key(service_key, incident_key).2
    }

    /// The key in `by_key` of an incident of either API: that of v1, if both have one.
    fn key(&self, service_key: &str, incident_key: &str) -> (String, String, Option<EventsApiVersion>) {
        let of_api = |api| (service_key.to_owned(), incident_key.to_owned(), api);
        let known = [Some(EventsApiVersion::V1), Some(EventsApiVersion::V2)].map(of_api);
        known.into_iter().find(|key| self.by_key.contains_key(key)).unwrap_or_else(|| of_api(None))
    }

    /// Applies `event` to the incident with `incident_key`, which is the event's own key or one generated for it. `of_api`
    /// is the event's API, if each API has its own incidents.
    pub(crate) fn apply(
        &mut self,
        of_api: Option<EventsApiVersion>,
        event: &ValidEvent,
        incident_key: &str,
        at: DateTime<Utc>,
    ) -> Transition {
        let key = (event.service_key.clone(), incident_key.to_owned(), of_api);
        let before = self.by_key.get(&key).map(|incident| incident.state);
        let (effect, after) = match (event.event_type, before) {
            (EventType::Trigger, None | Some(IncidentState::Resolved)) => {
                (Effect::Opened, Some(IncidentState::Triggered))
            }
            (EventType::Trigger, open) => (Effect::Logged, open),
            (EventType::Acknowledge, Some(IncidentState::Triggered)) => {
                (Effect::Acknowledged, Some(IncidentState::Acknowledged))
            }
            (EventType::Acknowledge, Some(IncidentState::Acknowledged)) => (Effect::AlreadyAcknowledged, before),
            (EventType::Resolve, Some(IncidentState::Triggered | IncidentState::Acknowledged)) => {
                (Effect::Resolved, Some(IncidentState::Resolved))
            }
            (EventType::Acknowledge | EventType::Resolve, None | Some(IncidentState::Resolved)) => {
                (Effect::Dropped, before)
            }
        };
        // A dropped event leaves no trace, as in PagerDuty.
        if let Some(state) = after.filter(|_| effect != Effect::Dropped) {
            let description = event.description.clone();
            let incident = self.by_key.entry(key).or_insert_with_key(|(service_key, incident_key, _)| Incident {
                service_key: service_key.clone(),
                incident_key: incident_key.clone(),
                number: 0,
                state,
                opened_at: at,
                resolved_at: None,
                opened: 0,
                description: String::new(),
                events: 0,
                log: VecDeque::new(),
            });
            incident.state = state;
            incident.events += 1;
            if effect == Effect::Opened {
                self.opened += 1;
                (incident.number, incident.opened_at, incident.resolved_at) = (self.opened, at, None);
                incident.opened += 1;
                incident.description = description.clone().unwrap_or_default();
            }
            if effect == Effect::Resolved {
                incident.resolved_at = Some(at);
            }
            if incident.log.len() == LOG_ENTRIES {
                incident.log.pop_front();
            }
            incident.log.push_back(IncidentLogEntry { at, event_type: event.event_type, effect, description });
        }
        Transition { effect, before, after }
    }

    /// Opens a resolved incident again, as a person may. Returns whether there was one.
    pub(crate) fn reopen(&mut self, service_key: &str, incident_key: &str, at: DateTime<Utc>) -> bool {
        let incident = self.by_key.get_mut(&self.key(service_key, incident_key));
        let Some(incident) = incident.filter(|incident| incident.state == IncidentState::Resolved) else {
            return false;
        };
        incident.state = IncidentState::Triggered;
        let description = Some("reopened".to_owned());
        incident.log.push_back(IncidentLogEntry {
            at,
            event_type: EventType::Trigger,
            effect: Effect::Logged,
            description,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: EventType, service_key: &str) -> ValidEvent {
        ValidEvent {
            event_type,
            service_key: service_key.to_owned(),
            incident_key: Some("42".to_owned()),
            description: Some("Disk full".to_owned()),
        }
    }

    #[test]
    fn an_incident_lives_and_comes_again() {
        use Effect::{Acknowledged, AlreadyAcknowledged, Dropped, Logged, Opened, Resolved};
        use EventType::{Acknowledge, Resolve, Trigger};
        let life = [
            (Resolve, Dropped, None),
            (Acknowledge, Dropped, None),
            (Trigger, Opened, Some(IncidentState::Triggered)),
            (Trigger, Logged, Some(IncidentState::Triggered)),
            (Acknowledge, Acknowledged, Some(IncidentState::Acknowledged)),
            (Acknowledge, AlreadyAcknowledged, Some(IncidentState::Acknowledged)),
            (Trigger, Logged, Some(IncidentState::Acknowledged)),
            (Resolve, Resolved, Some(IncidentState::Resolved)),
            (Resolve, Dropped, Some(IncidentState::Resolved)),
            (Acknowledge, Dropped, Some(IncidentState::Resolved)),
            (Trigger, Opened, Some(IncidentState::Triggered)),
            (Resolve, Resolved, Some(IncidentState::Resolved)),
        ];
        let mut incidents = Incidents::default();
        let mut before = None;
        for (step, (event_type, effect, after)) in life.into_iter().enumerate() {
            let transition = incidents.apply(None, &event(event_type, "K"), "42", DateTime::UNIX_EPOCH);
            assert_eq!(transition, Transition { effect, before, after }, "step {step}");
            before = after;
        }
        let incident = incidents.get("K", "42").unwrap();
        assert_eq!((incident.opened, incident.events), (2, 8));
    }

    #[test]
    fn the_same_incident_key_at_another_integration_is_another_incident() {
        let mut incidents = Incidents::default();
        incidents.apply(None, &event(EventType::Trigger, "K"), "42", DateTime::UNIX_EPOCH);
        let other = incidents.apply(None, &event(EventType::Resolve, "L"), "42", DateTime::UNIX_EPOCH);
        assert_eq!(other.effect, Effect::Dropped);
        assert_eq!(incidents.get("K", "42").unwrap().state, IncidentState::Triggered);
    }

    #[test]
    fn an_incidents_log_keeps_its_newest_lines_and_counts_them_all() {
        let mut incidents = Incidents::default();
        for second in 0..150 {
            let at = DateTime::from_timestamp(second, 0).unwrap();
            incidents.apply(None, &event(EventType::Trigger, "K"), "42", at);
        }
        let incident = incidents.get("K", "42").unwrap();
        assert_eq!((incident.events, incident.log.len()), (150, LOG_ENTRIES));
        assert_eq!(incident.log.back().unwrap().at.timestamp(), 149);
    }
}
