//! What webhooks bring: events as they are, and events for wherever an incident is open.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::SqliteConnection;

use super::{accept, incidents};
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
    let mut resolves = incidents::resolves_since(connection, newest - OVERTAKING).await?;
    let mut pending = Pending::default();
    let mut receptions = Vec::with_capacity(incoming.len());
    for (place, Incoming { news, received_at, .. }) in incoming.into_iter().enumerate() {
        receptions.push(Reception::Queued(Vec::new()));
        match news {
            News::Event { event, happened_at } => {
                let is_overtaken = event.is_trigger() && is_overtaken(&resolves, &event.incident_key, happened_at);
                let resolve = is_overtaken.then(|| event.resolved());
                pending.add(place, event);
                if let Some(resolve) = resolve {
                    pending.add(place, resolve);
                }
            }
            News::FollowUp(follow_up) => {
                // What came before it has to be seen by it.
                pending.write(connection, &mut receptions).await?;
                if follow_up.event_type() == EventType::Resolve {
                    incidents::remember_resolve(connection, &follow_up, received_at).await?;
                    resolves.insert(follow_up.incident_key.clone(), follow_up.happened_at);
                }
                let mut keys = incidents::keys_for(connection, &follow_up).await?;
                if keys.is_empty() {
                    keys.extend(follow_up.fallback.clone());
                }
                if keys.is_empty() {
                    receptions[place] = Reception::NothingOpen;
                }
                for key in keys {
                    pending.add(place, NewEvent::new(follow_up.event_for(key), received_at));
                }
            }
        }
    }
    pending.write(connection, &mut receptions).await?;
    Ok((receptions, pending.arrivals))
}

/// Whether Sentry resolved the incident after the event that opens it happened.
fn is_overtaken(
    resolves: &HashMap<IncidentKey, DateTime<Utc>>,
    incident_key: &IncidentKey,
    happened_at: DateTime<Utc>,
) -> bool {
    resolves.get(incident_key).is_some_and(|resolved_at| happened_at < *resolved_at)
}

/// Events that are to be written together, each with the place of what brought it.
#[derive(Default)]
struct Pending {
    events: Vec<NewEvent>,
    places: Vec<usize>,
    arrivals: Vec<Arrival>,
}

impl Pending {
    fn add(&mut self, place: usize, event: NewEvent) {
        self.events.push(event);
        self.places.push(place);
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
