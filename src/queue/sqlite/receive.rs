//! What webhooks bring: events as they are, and events for wherever an incident is open.

use chrono::{DateTime, Utc};

use super::incidents::Recipients;
use super::statements::Statements;
use super::{accept, incidents, seen};
use crate::ingest::FollowUp;
use crate::pagerduty::{Destination, EventType, render};
use crate::queue::decide::Window;
use crate::queue::fold::Place;
use crate::queue::incoming::{Incoming, News, Reception};
use crate::queue::writer::Folding;
use crate::queue::{Accepted, Arrival, NewEvent};

/// Whether what is received has just come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Coming {
    /// It came now.
    Now,
    /// It came at some time and was rejected then.
    Again,
}

/// Has written what came in, in its order, folded into what waits as `folding` says. Tells what became of each,
/// and which events are new in line.
pub(super) async fn receive(
    statements: &mut Statements<'_>,
    incoming: Vec<Incoming>,
    coming: Coming,
    folding: Folding,
) -> sqlx::Result<(Vec<Reception>, Vec<Arrival>)> {
    let Some(newest) = incoming.iter().map(|incoming| incoming.received_at).max() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let window = match coming {
        Coming::Now => Window::around(newest),
        Coming::Again => Window::since(newest),
    };
    if coming == Coming::Now && incoming.iter().any(resolves_something) {
        incidents::forget_resolves(statements, window);
    }
    let mut pending = Pending { window, folding, events: Vec::new(), places: Vec::new(), arrivals: Vec::new() };
    let mut receptions = Vec::with_capacity(incoming.len());
    for (place, Incoming { news, received_at, .. }) in incoming.into_iter().enumerate() {
        receptions.push(Reception::Queued(Vec::new()));
        match news {
            News::Event { event, happened_at } => pending.add(place, event, happened_at),
            News::FollowUp(follow_up) => {
                // What came before it has to be seen by it.
                pending.write(statements, &mut receptions).await?;
                if is_replayed(statements, &follow_up).await? {
                    receptions[place] = Reception::Replayed;
                    continue;
                }
                let connection = statements.connection().await?;
                let now = if coming == Coming::Now { received_at } else { window.until };
                let Recipients { mut keys, is_outdated } = incidents::recipients(connection, &follow_up, now).await?;
                match follow_up.event_type() {
                    EventType::Trigger => incidents::reopen(statements, &follow_up),
                    EventType::Resolve => {
                        incidents::mark_resolved(statements, &follow_up, received_at, now);
                        // Where the incident is open again already, it would close what comes late and hide that.
                        if !is_outdated {
                            incidents::remember_resolve(statements, &follow_up, received_at);
                        }
                    }
                    EventType::Acknowledge => {}
                }
                if keys.is_empty() && !is_outdated {
                    keys.extend(follow_up.fallback.clone());
                }
                if keys.is_empty() {
                    receptions[place] = if is_outdated { Reception::Outdated } else { Reception::NothingOpen };
                }
                for key in keys {
                    let event = follow_up.event_for(Destination::v1(key));
                    let event = NewEvent::new(&event, render(&event), received_at);
                    pending.add(place, event, follow_up.happened_at);
                }
            }
        }
    }
    pending.write(statements, &mut receptions).await?;
    Ok((receptions, pending.arrivals))
}

/// Whether it is a copy of a resolve that was received before. Remembers it otherwise.
async fn is_replayed(statements: &mut Statements<'_>, follow_up: &FollowUp) -> sqlx::Result<bool> {
    let Some(key) = &follow_up.dedup.once else { return Ok(false) };
    let (incident_key, event_type) = (&follow_up.incident_key, follow_up.event_type());
    let connection = statements.connection().await?;
    if seen::knows(connection, key).await? {
        // A trigger is never dropped for it: a copy of one closes nothing.
        return Ok(event_type == EventType::Resolve);
    }
    seen::remember(connection, key, incident_key, event_type).await?;
    if follow_up.dedup.renews {
        seen::forget_resolves(connection, incident_key).await?;
    }
    Ok(false)
}

fn resolves_something(incoming: &Incoming) -> bool {
    matches!(&incoming.news, News::FollowUp(follow_up) if follow_up.event_type() == EventType::Resolve)
}

/// Events that are to be written together, each with when it happened and the place of what brought it.
struct Pending {
    window: Window,
    folding: Folding,
    events: Vec<(NewEvent, Option<DateTime<Utc>>)>,
    places: Vec<usize>,
    arrivals: Vec<Arrival>,
}

impl Pending {
    fn add(&mut self, place: usize, event: NewEvent, happened_at: Option<DateTime<Utc>>) {
        self.events.push((event, happened_at));
        self.places.push(place);
    }

    async fn write(&mut self, statements: &mut Statements<'_>, receptions: &mut [Reception]) -> sqlx::Result<()> {
        if self.events.is_empty() {
            return Ok(());
        }
        let arrived = accept::accept(statements, std::mem::take(&mut self.events), self.window, &self.folding).await?;
        self.arrivals.extend(arrived.arrivals);
        let places = std::mem::take(&mut self.places);
        for (Place { event, row, count }, event_type) in arrived.places {
            if let Reception::Queued(queued) = &mut receptions[places[event]] {
                queued.push(Accepted { id: row, count, event_type });
            }
        }
        Ok(())
    }
}
