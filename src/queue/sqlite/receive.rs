//! What webhooks bring: events as they are, and events for wherever an incident is open.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::SqliteConnection;

use super::{accept, incidents};
use crate::intake::FollowUp;
use crate::pagerduty::{EventType, IncidentKey};
use crate::queue::incoming::{Incoming, News, Reception};
use crate::queue::{Accepted, Arrival, NewEvent};

/// How long Sentry may take to send an alert that was resolved before it came: it keeps no order between deliveries.
const OVERTAKING: TimeDelta = TimeDelta::minutes(1);

/// Writes what came in, in its order. Tells what became of each, and which events are new in line.
pub(super) async fn receive(
    connection: &mut SqliteConnection,
    incoming: Vec<Incoming>,
) -> sqlx::Result<(Vec<Reception>, Vec<Arrival>)> {
    let Some(newest) = incoming.iter().map(|incoming| incoming.received_at).max() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let since = newest - OVERTAKING;
    let opened: HashSet<_> = incoming.iter().filter_map(opens).collect();
    let mut resolves = incidents::resolves_of(connection, &opened, since).await?;
    if incoming.iter().any(resolves_something) {
        incidents::forget_resolves(connection, since).await?;
    }
    let mut pending = Pending::default();
    let mut receptions = Vec::with_capacity(incoming.len());
    for (place, Incoming { news, received_at, .. }) in incoming.into_iter().enumerate() {
        receptions.push(Reception::Queued(Vec::new()));
        match news {
            News::Event { event, happened_at } => {
                let is_overtaken = event.is_trigger()
                    && is_overtaken(connection, &mut resolves, &event.incident_key, happened_at).await?;
                pending.add(place, event, is_overtaken);
            }
            News::FollowUp(follow_up) => {
                // What came before it has to be seen by it.
                pending.write(connection, &mut receptions).await?;
                let FollowUp { incident_key, happened_at, .. } = &follow_up;
                let is_overtaken = match follow_up.event_type() {
                    EventType::Trigger => is_overtaken(connection, &mut resolves, incident_key, *happened_at).await?,
                    EventType::Resolve => {
                        incidents::remember_resolve(connection, &follow_up, received_at).await?;
                        let resolved_at = resolves.entry(incident_key.clone()).or_insert(*happened_at);
                        *resolved_at = (*resolved_at).max(*happened_at);
                        false
                    }
                    EventType::Acknowledge => false,
                };
                let mut keys = incidents::keys_for(connection, &follow_up).await?;
                if keys.is_empty() {
                    keys.extend(follow_up.fallback.clone());
                }
                if keys.is_empty() {
                    receptions[place] = Reception::NothingOpen;
                }
                for key in keys {
                    pending.add(place, NewEvent::new(follow_up.event_for(key), received_at), is_overtaken);
                }
            }
        }
    }
    pending.write(connection, &mut receptions).await?;
    Ok((receptions, pending.arrivals))
}

/// The incident that a trigger opens.
fn opens(incoming: &Incoming) -> Option<&IncidentKey> {
    match &incoming.news {
        News::Event { event, .. } => event.is_trigger().then_some(&event.incident_key),
        News::FollowUp(follow_up) => (follow_up.event_type() == EventType::Trigger).then_some(&follow_up.incident_key),
    }
}

fn resolves_something(incoming: &Incoming) -> bool {
    matches!(&incoming.news, News::FollowUp(follow_up) if follow_up.event_type() == EventType::Resolve)
}

/// Whether Sentry resolved the incident after what opens it happened.
///
/// When it was before, the incident is open again, and closing it for another trigger that comes late would hide that:
/// the resolve is over.
async fn is_overtaken(
    connection: &mut SqliteConnection,
    resolves: &mut HashMap<IncidentKey, DateTime<Utc>>,
    incident_key: &IncidentKey,
    happened_at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let Some(resolved_at) = resolves.get(incident_key) else { return Ok(false) };
    if happened_at < *resolved_at {
        return Ok(true);
    }
    resolves.remove(incident_key);
    incidents::forget_resolve(connection, incident_key).await?;
    Ok(false)
}

/// Events that are to be written together, each with the place of what brought it.
#[derive(Default)]
struct Pending {
    events: Vec<NewEvent>,
    places: Vec<usize>,
    arrivals: Vec<Arrival>,
}

impl Pending {
    fn add(&mut self, place: usize, event: NewEvent, is_overtaken: bool) {
        let resolve = is_overtaken.then(|| event.resolved());
        for event in std::iter::once(event).chain(resolve) {
            self.events.push(event);
            self.places.push(place);
        }
    }

    async fn write(&mut self, connection: &mut SqliteConnection, receptions: &mut [Reception]) -> sqlx::Result<()> {
        if self.events.is_empty() {
            return Ok(());
        }
        let events = std::mem::take(&mut self.events);
        let heads: Vec<_> = events.iter().map(head).collect();
        let accepted = accept::accept(connection, events).await?;
        for ((place, head), accepted) in self.places.drain(..).zip(heads).zip(accepted) {
            if !accepted.is_folded() {
                self.arrivals.push(head(accepted));
            }
            if let Reception::Queued(queued) = &mut receptions[place] {
                queued.push(accepted);
            }
        }
        Ok(())
    }
}

/// The announcement of `event`, once it has a number.
fn head(event: &NewEvent) -> impl FnOnce(Accepted) -> Arrival + use<> {
    let NewEvent { service_key, incident_key, event_type, received_at, .. } = event;
    let (service_key, incident_key) = (service_key.clone(), incident_key.clone());
    let (event_type, received_at) = (*event_type, *received_at);
    move |accepted| Arrival { id: accepted.id, service_key, incident_key, event_type, received_at }
}
