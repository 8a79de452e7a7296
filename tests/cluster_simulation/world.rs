//! A world: the database and PagerDuty, and what happens to the bridges.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sentry_pagerduty_bridge::pagerduty::{EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::leases::{Fence, LeaseName, LeaseTable};
use sentry_pagerduty_bridge::queue::{EventId, WaitingEvent};

use crate::bridge::Bridge;

pub(crate) const KEYS: usize = 3;
pub(crate) const RATE: u32 = 10;

/// The longest an attempt takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

const STEP: Duration = Duration::from_millis(250);

/// Until then something may go wrong, and alerts come.
const TROUBLE: Duration = Duration::from_secs(90);

/// And by then all has to be delivered: the backlog at the rate, and the time of a lease and its wait.
const END: Duration = Duration::from_secs(90 + 240);

/// An event in the database.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: EventId,
    pub(crate) key: usize,
    pub(crate) incident: usize,
    /// Others see it from then on: numbers are given before the commit.
    visible_at: Duration,
    pub(crate) waits: bool,
    pub(crate) attempts: Vec<DateTime<Utc>>,
}

/// A request to PagerDuty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) bridge: u128,
    pub(crate) key: usize,
    pub(crate) id: EventId,
    pub(crate) sent: Duration,
    pub(crate) received: Duration,
}

pub(crate) struct World {
    pub(crate) rng: StdRng,
    pub(crate) now: Duration,
    pub(crate) table: LeaseTable,
    pub(crate) events: Vec<Event>,
    pub(crate) requests: Vec<Request>,
    /// When PagerDuty answers nobody.
    outage: (Duration, Duration),
    bridges: Vec<Bridge>,
    arrivals: Vec<(Duration, usize, usize)>,
    started: u128,
}

pub(crate) fn service_key(number: usize) -> ServiceKey {
    ServiceKey::parse(&format!("{number:032}")).unwrap()
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut moment = || Duration::from_millis(rng.random_range(0..TROUBLE.as_millis() as u64 * 9 / 10));
        let outage = moment();
        let mut times: Vec<_> = (0..40).map(|_| moment()).collect();
        times.sort_unstable();
        let arrivals = times.into_iter().map(|at| (at, rng.random_range(0..KEYS), rng.random_range(0..3)));
        let mut world = Self {
            arrivals: arrivals.collect(),
            outage: (outage, outage + Duration::from_secs(5)),
            now: Duration::ZERO,
            table: LeaseTable::default(),
            events: Vec::new(),
            requests: Vec::new(),
            bridges: Vec::new(),
            started: 0,
            rng,
        };
        for _ in 0..world.rng.random_range(2..=3) {
            world.start();
        }
        world
    }

    fn start(&mut self) {
        self.started += 1;
        // Every bridge's clock shows something else, and only differences count.
        let ahead = Duration::from_secs(self.rng.random_range(100..10_000));
        self.bridges.push(Bridge::new(self.started, ahead));
    }

    pub(crate) fn run(mut self) -> Self {
        while self.now < END {
            self.arrive();
            if self.now < TROUBLE {
                self.have_trouble();
            }
            let mut bridges = std::mem::take(&mut self.bridges);
            for bridge in &mut bridges {
                bridge.step(&mut self);
            }
            bridges.retain(|bridge| !bridge.has_left());
            self.bridges = bridges;
            if self.now >= TROUBLE && self.bridges.is_empty() {
                self.start();
            }
            if self.now > TROUBLE && self.events.iter().all(|event| !event.waits) {
                break;
            }
            self.now += STEP;
        }
        self
    }

    fn arrive(&mut self) {
        while let Some((_, key, incident)) = self.arrivals.first().copied().filter(|(at, ..)| *at <= self.now) {
            self.arrivals.remove(0);
            let commit = Duration::from_millis(self.rng.random_range(0..1_000));
            // Within an incident, the order of the numbers is that of the commits.
            let same = self.events.iter().filter(|event| (event.key, event.incident) == (key, incident));
            let visible_at = same.map(|event| event.visible_at).max().unwrap_or_default().max(self.now + commit);
            let id = EventId::new(self.events.len() as i64 + 1);
            self.events.push(Event { id, key, incident, visible_at, waits: true, attempts: Vec::new() });
        }
    }

    fn have_trouble(&mut self) {
        let one_in = |rng: &mut StdRng, seconds: u32| rng.random_ratio(1, seconds * 4);
        for place in 0..self.bridges.len() {
            if one_in(&mut self.rng, 60) {
                let long = Duration::from_secs(self.rng.random_range(1..40));
                self.bridges[place].stopped_until = self.now + long;
            }
            if one_in(&mut self.rng, 60) {
                let long = Duration::from_secs(self.rng.random_range(1..40));
                self.bridges[place].cut_off_until = self.now + long;
            }
            if one_in(&mut self.rng, 90) {
                self.bridges[place].leave();
            }
        }
        if !self.bridges.is_empty() && one_in(&mut self.rng, 60) {
            let killed = self.rng.random_range(0..self.bridges.len());
            self.bridges.remove(killed);
        }
        if self.bridges.len() < 3 && one_in(&mut self.rng, 15) {
            self.start();
        }
    }

    /// The database's clock.
    pub(crate) fn utc(&self) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(20_000) + self.now
    }

    pub(crate) fn is_outage(&self) -> bool {
        (self.outage.0..self.outage.1).contains(&self.now)
    }

    /// The waiting events that are committed.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.waits && event.visible_at <= self.now)
    }

    pub(crate) fn page(&self, key: &ServiceKey) -> Vec<WaitingEvent> {
        let own = self.waiting().filter(|event| service_key(event.key) == *key);
        own.map(|event| WaitingEvent {
            id: event.id,
            incident_key: IncidentKey::parse(&event.incident.to_string()).unwrap(),
            event_type: EventType::Trigger,
            received_at: self.utc(),
            attempts: event.attempts.len() as u32,
            last_attempt_at: event.attempts.last().copied(),
            blamed: Duration::ZERO,
        })
        .collect()
    }

    /// Whether what carries this fence counts.
    pub(crate) fn allows(&self, key: &ServiceKey, fence: Fence) -> bool {
        self.table.allows(&LeaseName::Key(key.clone()), fence)
    }

    pub(crate) fn event(&mut self, id: EventId) -> &mut Event {
        let place = usize::try_from(id.get()).unwrap() - 1;
        &mut self.events[place]
    }

    pub(crate) fn assert_nothing_waits(&self) {
        let waiting: Vec<_> = self.events.iter().filter(|event| event.waits).collect();
        assert!(waiting.is_empty(), "still waiting at {:?}: {waiting:?}; {:#?}", self.now, self.bridges);
        let received = |event: &Event| self.requests.iter().any(|request| request.id == event.id);
        assert!(self.events.iter().all(received), "an event was settled that PagerDuty never received");
    }

    /// Once PagerDuty received an event of an incident, no earlier one follows.
    pub(crate) fn assert_order(&self) {
        let mut requests = self.requests.clone();
        requests.sort_by_key(|request| request.received);
        let mut newest: HashMap<(usize, usize), EventId> = HashMap::new();
        for request in requests {
            let event = &self.events[usize::try_from(request.id.get()).unwrap() - 1];
            let newest = newest.entry((event.key, event.incident)).or_insert(request.id);
            assert!(request.id >= *newest, "{request:?} came after {newest:?}");
            *newest = request.id;
        }
    }

    pub(crate) fn assert_rate(&self) {
        for key in 0..KEYS {
            let mut times: Vec<_> =
                self.requests.iter().filter(|request| request.key == key).map(|request| request.received).collect();
            times.sort_unstable();
            for (first, over) in times.iter().zip(times.iter().skip(RATE as usize)) {
                assert!(*over - *first >= Duration::from_mins(1), "too many of key {key} in the minute from {first:?}");
            }
        }
    }

    /// No two bridges have requests of a key on their way at the same time.
    pub(crate) fn assert_one_sender(&self) {
        for (place, one) in self.requests.iter().enumerate() {
            for other in
                self.requests[..place].iter().filter(|other| other.bridge != one.bridge && other.key == one.key)
            {
                let is_apart = one.sent >= other.received || other.sent >= one.received;
                assert!(is_apart, "two senders: {one:?} and {other:?}");
            }
        }
    }
}
