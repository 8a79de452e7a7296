//! Tests of the scheduler's rules, one by one; `tests/simulation` tests them together in random worlds.

#![allow(clippy::unchecked_time_subtraction, reason = "a test may panic")]

mod capacity;
mod circuit_breaker;
mod leases;
mod order;
mod poison;
mod prefetch;
mod view;

use std::time::Duration;

use super::*;
use crate::pagerduty::outcome::FailureCause;
use crate::pagerduty::{EventType, IncidentKey};

/// A scheduler and what drives it.
struct Bench {
    scheduler: Scheduler,
    now: Moment,
    /// At 1, jitter does not shorten any wait.
    chance: f64,
    /// The page that was requested, by the id after which it begins.
    load: Option<i64>,
}

fn limits() -> DeliveryLimits {
    DeliveryLimits { rate: 100, give_up_after: minutes(10), in_flight: 32, in_flight_per_key: 8, prefetch: 100 }
}

impl Bench {
    fn new(limits: DeliveryLimits) -> Self {
        Self { scheduler: Scheduler::new(limits), now: minutes(10), chance: 1.0, load: None }
    }

    /// Event `id` of `incident` was committed for key 0.
    fn arrives(&mut self, id: i64, incident: &str) {
        self.arrives_for(0, id, incident);
    }

    fn arrives_for(&mut self, key: usize, id: i64, incident: &str) {
        let service_key = service_key(key);
        self.scheduler.arrived(&WaitingEvent { service_key, ..waiting(id, incident) });
    }

    /// Returns the events that are sent now.
    fn sends(&mut self) -> Vec<i64> {
        let mut ids = Vec::new();
        loop {
            assert!(ids.len() < 1000, "it never stops");
            match self.scheduler.next(self.now) {
                Next::Send { id, .. } => ids.push(id.get()),
                Next::Load { after, .. } => self.load = Some(after.map_or(0, EventId::get)),
                Next::Wait(_) => return ids,
            }
        }
    }

    /// Returns how long the scheduler waits when there is nothing to do now; `None`: until something happens.
    fn waits(&mut self) -> Option<Duration> {
        match self.scheduler.next(self.now) {
            Next::Wait(moment) => moment.map(|moment| moment - self.now),
            other => panic!("there is something to do: {other:?}"),
        }
    }

    /// Lets time pass until something is due.
    fn wakes(&mut self) {
        let wait = self.waits();
        self.now += wait.expect("nothing is due");
    }

    fn answered(&mut self, id: i64, outcome: &Outcome) -> Disposition<Moment> {
        self.answered_for(0, id, outcome)
    }

    fn answered_for(&mut self, key: usize, id: i64, outcome: &Outcome) -> Disposition<Moment> {
        self.scheduler.answered(&service_key(key), EventId::new(id), outcome, self.now, self.chance)
    }

    fn settled(&mut self, id: i64, disposition: &Disposition<Moment>) {
        self.scheduler.settled(&service_key(0), EventId::new(id), disposition);
    }

    /// PagerDuty answers, and the disposition is committed.
    fn ends(&mut self, id: i64, outcome: &Outcome) -> Disposition<Moment> {
        self.ends_for(0, id, outcome)
    }

    fn ends_for(&mut self, key: usize, id: i64, outcome: &Outcome) -> Disposition<Moment> {
        let disposition = self.answered_for(key, id, outcome);
        self.scheduler.settled(&service_key(key), EventId::new(id), &disposition);
        disposition
    }

    /// A second later, an event of its own incident arrives, is sent at once and is delivered.
    fn passes(&mut self, id: i64) {
        self.now += seconds(1);
        self.arrives(id, &id.to_string());
        assert_eq!(self.sends(), [id]);
        self.ends(id, &delivered());
    }

    /// Returns the page that is requested, by the id after which it begins.
    fn loads(&mut self) -> Option<i64> {
        if let Next::Load { after, .. } = self.scheduler.next(self.now) {
            self.load = Some(after.map_or(0, EventId::get));
        }
        self.load.take()
    }

    fn loaded(&mut self, events: &[WaitingEvent], is_last: bool) {
        let end = events.last().map(|event| event.id);
        let page = Page { events: events.to_vec(), end, is_last, ..Page::default() };
        self.scheduler.loaded(&service_key(0), &page);
    }
}

fn service_key(number: usize) -> ServiceKey {
    ServiceKey::parse(&format!("{number:032}")).unwrap()
}

fn waiting(id: i64, incident: &str) -> WaitingEvent {
    WaitingEvent {
        id: EventId::new(id),
        service_key: service_key(0),
        incident_key: IncidentKey::parse(incident).unwrap(),
        event_type: EventType::Trigger,
        received_at: chrono::DateTime::UNIX_EPOCH,
        attempts: 0,
        last_attempt_at: None,
        blamed: Duration::ZERO,
    }
}

fn delivered() -> Outcome {
    Outcome::Delivered { note: None }
}

fn refused() -> Outcome {
    Outcome::Refused { reason: "answered 400".to_owned() }
}

fn error() -> Outcome {
    Outcome::Transient { reason: "answered 500".to_owned(), cause: FailureCause::ServerError, retry_after: None }
}

fn unreachable() -> Outcome {
    Outcome::Transient { reason: "no connection".to_owned(), cause: FailureCause::NetworkError, retry_after: None }
}

fn dropped() -> Outcome {
    Outcome::Dropped { reason: "the connection ended".to_owned() }
}

fn untrusted() -> Outcome {
    Outcome::Untrusted { reason: "TLS: expired".to_owned() }
}

fn throttled(retry_after: Option<Duration>) -> Outcome {
    Outcome::Throttled { reason: "answered 403".to_owned(), retry_after }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}
