//! What events make of incidents. Pure: the time and made-up keys are arguments.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How many of an incident's newest log entries are remembered.
const LOG_ENTRIES: usize = 100;

/// What an event asks for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// Open an incident, or add to the open one.
    Trigger,
    /// Somebody looks at it.
    Acknowledge,
    /// It is over.
    Resolve,
}

impl EventType {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "trigger" => Some(Self::Trigger),
            "acknowledge" => Some(Self::Acknowledge),
            "resolve" => Some(Self::Resolve),
            _ => None,
        }
    }
}

/// A valid event, as far as incidents care.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: EventType,
    pub(crate) service_key: String,
    /// Only a trigger may lack it.
    pub(crate) incident_key: Option<String>,
    pub(crate) description: Option<String>,
}

/// Where an incident stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Open, and people are being called.
    Triggered,
    /// Open, and somebody looks at it.
    Acknowledged,
    /// Over.
    Resolved,
}

/// What an accepted event did.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A new incident: people are called.
    Opened,
    /// A line in the log of an open incident: nobody is called again.
    Logged,
    /// The incident is now acknowledged.
    Acknowledged,
    /// It already was.
    AlreadyAcknowledged,
    /// The incident is now resolved.
    Resolved,
    /// Nothing: there was no open incident to acknowledge or to resolve.
    Dropped,
}

/// Everything about one incident key at one integration. A new incident under an old key takes the old one's place and
/// counts in [`opened`](Self::opened).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// The integration key it came to.
    pub service_key: String,
    /// The name that events share.
    pub incident_key: String,
    /// Where it stands.
    pub state: State,
    /// How many incidents were opened under this key; 1 unless it was resolved in between.
    pub opened: u64,
    /// The description of the trigger that opened the present one: its title.
    pub description: String,
    /// How many events touched this key.
    pub events: u64,
    /// The newest of them, oldest first, at most 100.
    pub log: VecDeque<LogEntry>,
}

/// A line in an incident's log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogEntry {
    /// When it was applied.
    pub at: DateTime<Utc>,
    /// What was asked for.
    pub event_type: EventType,
    /// What came of it.
    pub effect: Effect,
    /// What the event said.
    pub description: Option<String>,
}

/// What one event did to one incident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Transition {
    pub(crate) effect: Effect,
    pub(crate) before: Option<State>,
    pub(crate) after: Option<State>,
}

/// All incidents.
#[derive(Debug, Default)]
pub(crate) struct Incidents(BTreeMap<(String, String), Incident>);

impl Incidents {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.0.values()
    }

    pub(crate) fn get(&self, service_key: &str, incident_key: &str) -> Option<&Incident> {
        self.0.get(&(service_key.to_owned(), incident_key.to_owned()))
    }

    /// Applies `event` to the incident `incident_key`, which is the event's own key or one made up for it.
    pub(crate) fn apply(&mut self, event: &Event, incident_key: &str, at: DateTime<Utc>) -> Transition {
        let name = (event.service_key.clone(), incident_key.to_owned());
        let before = self.0.get(&name).map(|incident| incident.state);
        let (effect, after) = match (event.kind, before) {
            (EventType::Trigger, None | Some(State::Resolved)) => (Effect::Opened, Some(State::Triggered)),
            (EventType::Trigger, open) => (Effect::Logged, open),
            (EventType::Acknowledge, Some(State::Triggered)) => (Effect::Acknowledged, Some(State::Acknowledged)),
            (EventType::Acknowledge, Some(State::Acknowledged)) => (Effect::AlreadyAcknowledged, before),
            (EventType::Resolve, Some(State::Triggered | State::Acknowledged)) => {
                (Effect::Resolved, Some(State::Resolved))
            }
            (EventType::Acknowledge | EventType::Resolve, None | Some(State::Resolved)) => (Effect::Dropped, before),
        };
        // A dropped event leaves no trace, as in PagerDuty.
        if let Some(state) = after.filter(|_| effect != Effect::Dropped) {
            let description = event.description.clone();
            let incident = self.0.entry(name).or_insert_with_key(|(service_key, incident_key)| Incident {
                service_key: service_key.clone(),
                incident_key: incident_key.clone(),
                state,
                opened: 0,
                description: String::new(),
                events: 0,
                log: VecDeque::new(),
            });
            incident.state = state;
            incident.events += 1;
            if effect == Effect::Opened {
                incident.opened += 1;
                incident.description = description.clone().unwrap_or_default();
            }
            if incident.log.len() == LOG_ENTRIES {
                incident.log.pop_front();
            }
            incident.log.push_back(LogEntry { at, event_type: event.kind, effect, description });
        }
        Transition { effect, before, after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventType, service_key: &str) -> Event {
        Event {
            kind,
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
            (Trigger, Opened, Some(State::Triggered)),
            (Trigger, Logged, Some(State::Triggered)),
            (Acknowledge, Acknowledged, Some(State::Acknowledged)),
            (Acknowledge, AlreadyAcknowledged, Some(State::Acknowledged)),
            (Trigger, Logged, Some(State::Acknowledged)),
            (Resolve, Resolved, Some(State::Resolved)),
            (Resolve, Dropped, Some(State::Resolved)),
            (Acknowledge, Dropped, Some(State::Resolved)),
            (Trigger, Opened, Some(State::Triggered)),
            (Resolve, Resolved, Some(State::Resolved)),
        ];
        let mut incidents = Incidents::default();
        let mut before = None;
        for (step, (event_type, effect, after)) in life.into_iter().enumerate() {
            let transition = incidents.apply(&event(event_type, "K"), "42", DateTime::UNIX_EPOCH);
            assert_eq!(transition, Transition { effect, before, after }, "step {step}");
            before = after;
        }
        let incident = incidents.get("K", "42").unwrap();
        assert_eq!((incident.opened, incident.events), (2, 8));
    }

    #[test]
    fn the_same_incident_key_at_another_integration_is_another_incident() {
        let mut incidents = Incidents::default();
        incidents.apply(&event(EventType::Trigger, "K"), "42", DateTime::UNIX_EPOCH);
        let other = incidents.apply(&event(EventType::Resolve, "L"), "42", DateTime::UNIX_EPOCH);
        assert_eq!(other.effect, Effect::Dropped);
        assert_eq!(incidents.get("K", "42").unwrap().state, State::Triggered);
    }

    #[test]
    fn an_incidents_log_keeps_its_newest_lines_and_counts_them_all() {
        let mut incidents = Incidents::default();
        for second in 0..150 {
            let at = DateTime::from_timestamp(second, 0).unwrap();
            incidents.apply(&event(EventType::Trigger, "K"), "42", at);
        }
        let incident = incidents.get("K", "42").unwrap();
        assert_eq!((incident.events, incident.log.len()), (150, LOG_ENTRIES));
        assert_eq!(incident.log.back().unwrap().at.timestamp(), 149);
    }
}
