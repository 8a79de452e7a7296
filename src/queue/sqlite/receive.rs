//! What webhooks bring: events as they are, and events for wherever an incident is open.

use chrono::{DateTime, TimeDelta, Utc};

use super::statements::Statements;
use super::{accept, incidents};
use crate::intake::FollowUp;
use crate::pagerduty::EventType;
use crate::queue::fold::Place;
use crate::queue::incoming::{Incoming, News, Reception};
use crate::queue::{Accepted, Arrival, NewEvent};

/// How long Sentry may take to send an alert that was resolved before it came: it keeps no order between deliveries.
const OVERTAKING: TimeDelta = TimeDelta::minutes(1);

/// Has written what came in, in its order, folded into what waits already if it `folds`. Tells what became of each, and which events are new in line.
pub(super) async fn receive(
    statements: &mut Statements<'_>,
    incoming: Vec<Incoming>,
    folds: bool,
) -> sqlx::Result<(Vec<Reception>, Vec<Arrival>)> {
    let Some(newest) = incoming.iter().map(|incoming| incoming.received_at).max() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let since = newest - OVERTAKING;
    if incoming.iter().any(resolves_something) {
        incidents::forget_resolves(statements, since);
    }
    let mut pending = Pending { since, folds, events: Vec::new(), places: Vec::new(), arrivals: Vec::new() };
    let mut receptions = Vec::with_capacity(incoming.len());
    for (place, Incoming { news, received_at, .. }) in incoming.into_iter().enumerate() {
        receptions.push(Reception::Queued(Vec::new()));
        match news {
            News::Event { event, happened_at } => pending.add(place, event, happened_at),
            News::FollowUp(follow_up) => {
                // What came before it has to be seen by it.
                pending.write(statements, &mut receptions).await?;
                let FollowUp { incident_key, happened_at, .. } = &follow_up;
                match follow_up.event_type() {
                    EventType::Trigger => incidents::reopen(statements, incident_key, *happened_at),
                    EventType::Resolve => incidents::remember_resolve(statements, &follow_up, received_at),
                    EventType::Acknowledge => {}
                }
                let mut keys = incidents::keys_for(statements.connection().await?, &follow_up).await?;
                if keys.is_empty() {
                    keys.extend(follow_up.fallback.clone());
                }
                if keys.is_empty() {
                    receptions[place] = Reception::NothingOpen;
                }
                for key in keys {
                    pending.add(place, NewEvent::new(follow_up.event_for(key), received_at), *happened_at);
                }
            }
        }
    }
    pending.write(statements, &mut receptions).await?;
    Ok((receptions, pending.arrivals))
}

fn resolves_something(incoming: &Incoming) -> bool {
    matches!(&incoming.news, News::FollowUp(follow_up) if follow_up.event_type() == EventType::Resolve)
}

/// Events that are to be written together, each with when it happened and the place of what brought it.
struct Pending {
    since: DateTime<Utc>,
    folds: bool,
    events: Vec<(NewEvent, DateTime<Utc>)>,
    places: Vec<usize>,
    arrivals: Vec<Arrival>,
}

impl Pending {
    fn add(&mut self, place: usize, event: NewEvent, happened_at: DateTime<Utc>) {
        self.events.push((event, happened_at));
        self.places.push(place);
    }

    async fn write(&mut self, statements: &mut Statements<'_>, receptions: &mut [Reception]) -> sqlx::Result<()> {
        if self.events.is_empty() {
            return Ok(());
        }
        let arrived = accept::accept(statements, std::mem::take(&mut self.events), self.since, self.folds).await?;
        self.arrivals.extend(arrived.arrivals);
        let places = std::mem::take(&mut self.places);
        for Place { event, row, count } in arrived.places {
            if let Reception::Queued(queued) = &mut receptions[places[event]] {
                queued.push(Accepted { id: row, count });
            }
        }
        Ok(())
    }
}
