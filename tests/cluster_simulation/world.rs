//! A world: the database, PagerDuty, the bridges and their faults.
//!
//! The database is the queue in memory: the real rules decide over the real leases, and every commit is its own
//! transaction.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sentry_pagerduty_bridge::pagerduty::{EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::memory::{MemoryQueue, Operations};
use sentry_pagerduty_bridge::queue::{EventId, EventRecord, State};

use crate::bridge::Bridge;
use crate::runner::{enqueue, service_key};

pub(crate) const KEYS: usize = 3;
pub(crate) const RATE: u32 = 10;

/// Number of incidents of each key.
const INCIDENTS: usize = 3;

/// Number of alerts.
const ALERTS: usize = 45;

/// The longest duration of an attempt.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

const STEP: Duration = Duration::from_millis(250);

/// Alerts come and faults happen until this time.
const FAULTS_END: Duration = Duration::from_secs(90);

/// By this time everything has to be delivered: the backlog at the rate limit, and the end of a lease plus the wait after
/// it.
const END: Duration = Duration::from_secs(90 + 240);

/// An alert.
#[derive(Clone, Copy, Debug)]
struct Alert {
    key: usize,
    incident: usize,
    event_type: EventType,
}

/// An alert whose transaction has reserved the id of its event and is not committed yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    alert: Alert,
    reserved: EventId,
    committed_at: Duration,
}

/// A request to PagerDuty.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) bridge: u128,
    pub(crate) key: ServiceKey,
    pub(crate) incident: IncidentKey,
    pub(crate) id: EventId,
    pub(crate) body: Vec<u8>,
    pub(crate) sent: Duration,
    pub(crate) received: Duration,
}

pub(crate) struct World {
    pub(crate) rng: StdRng,
    pub(crate) now: Duration,
    pub(crate) queue: MemoryQueue,
    pub(crate) requests: Vec<Request>,
    /// From when to when PagerDuty does not answer.
    outage: (Duration, Duration),
    bridges: Vec<Bridge>,
    /// The alerts that will come, the latest first.
    arrivals: Vec<(Duration, Alert)>,
    pending: Vec<Pending>,
    started: u128,
}

fn any_alert(rng: &mut StdRng) -> Alert {
    let types =
        [EventType::Trigger, EventType::Trigger, EventType::Trigger, EventType::Acknowledge, EventType::Resolve];
    Alert {
        key: rng.random_range(0..KEYS),
        incident: rng.random_range(0..INCIDENTS),
        event_type: *types.choose(rng).unwrap(),
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut moment = || Duration::from_millis(rng.random_range(0..FAULTS_END.as_millis() as u64 * 9 / 10));
        let outage = moment();
        let mut times: Vec<_> = (0..ALERTS).map(|_| moment()).collect();
        times.sort_unstable_by(|one, other| other.cmp(one));
        let mut world = Self {
            arrivals: times.into_iter().map(|at| (at, any_alert(&mut rng))).collect(),
            outage: (outage, outage + Duration::from_secs(5)),
            now: Duration::ZERO,
            queue: MemoryQueue::default(),
            requests: Vec::new(),
            bridges: Vec::new(),
            pending: Vec::new(),
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
        // Every bridge has a different clock, because only differences of its times count.
        let ahead = Duration::from_secs(self.rng.random_range(100..10_000));
        self.bridges.push(Bridge::new(self.started, ahead));
    }

    pub(crate) fn run(mut self) -> Self {
        while self.now < END {
            self.arrive();
            self.commit();
            if !self.faults_are_over() {
                self.inject_faults();
            }
            let mut bridges = std::mem::take(&mut self.bridges);
            for bridge in &mut bridges {
                bridge.step(&mut self);
            }
            bridges.retain(|bridge| !bridge.has_left());
            self.bridges = bridges;
            if self.faults_are_over() && self.bridges.is_empty() {
                self.start();
            }
            if self.now > FAULTS_END && self.pending.is_empty() && self.queue.ids(State::Waiting).is_empty() {
                break;
            }
            self.now += STEP;
        }
        self
    }

    /// A transaction reserves an id while it holds the lock of its incident, so that the ids of an incident are in the
    /// order of its commits. Other incidents may be committed earlier with a higher id.
    fn arrive(&mut self) {
        while let Some((_, alert)) = self.arrivals.pop_if(|(at, _)| *at <= self.now) {
            let takes = Duration::from_millis(self.rng.random_range(0..1_000));
            let same = self.pending.iter().filter(|pending| pending.alert.incident == alert.incident);
            let locked_until = same.map(|pending| pending.committed_at).max().unwrap_or_default();
            let committed_at = locked_until.max(self.now + takes);
            self.pending.push(Pending { alert, reserved: self.queue.reserve(), committed_at });
        }
    }

    fn commit(&mut self) {
        let (mut due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.committed_at <= self.now);
        self.pending = later;
        due.sort_by_key(|pending| pending.committed_at);
        for Pending { alert: Alert { key, incident, event_type }, reserved, .. } in due {
            let enqueue = enqueue(reserved.get(), key, incident, event_type, self.utc());
            let operations = Operations { enqueues: vec![enqueue], reserved: vec![reserved], ..Operations::default() };
            self.queue.commit(&operations);
        }
    }

    fn inject_faults(&mut self) {
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

    /// The time of the database's clock.
    pub(crate) fn utc(&self) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(20_000) + self.now
    }

    /// Whether the faults are over.
    pub(crate) fn faults_are_over(&self) -> bool {
        self.now >= FAULTS_END
    }

    pub(crate) fn is_outage(&self) -> bool {
        (self.outage.0..self.outage.1).contains(&self.now)
    }

    fn delivered(&self) -> impl Iterator<Item = EventRecord> {
        self.queue.ids(State::Delivered).into_iter().filter_map(|id| self.queue.get(id))
    }

    pub(crate) fn assert_all_delivered(&self) {
        let waiting = self.queue.ids(State::Waiting);
        assert!(waiting.is_empty(), "still waiting at {:?}: {waiting:?}; {:#?}", self.now, self.bridges);
        let alerts: u32 = self.delivered().map(|record| record.summary.count).sum();
        assert_eq!(alerts as usize, ALERTS, "alerts are missing");
        for record in self.delivered() {
            let sent = self.requests.iter().filter(|request| request.id == record.summary.id);
            let bodies: Vec<_> = sent.map(|request| &request.body).collect();
            assert!(!bodies.is_empty(), "an event was settled that PagerDuty never received: {record:?}");
            assert!(bodies.iter().all(|body| **body == record.body), "other bytes were sent: {bodies:?}, {record:?}");
        }
    }

    /// Asserts that PagerDuty never received an event of an incident after a later one.
    pub(crate) fn assert_order(&self) {
        let mut requests: Vec<_> = self.requests.iter().collect();
        requests.sort_by_key(|request| request.received);
        let mut newest: HashMap<_, EventId> = HashMap::new();
        for request in requests {
            let newest = newest.entry((&request.key, &request.incident)).or_insert(request.id);
            assert!(request.id >= *newest, "{request:?} came after {newest:?}");
            *newest = request.id;
        }
    }

    pub(crate) fn assert_rate(&self) {
        for key in (0..KEYS).map(service_key) {
            let mut times: Vec<_> =
                self.requests.iter().filter(|request| request.key == key).map(|request| request.received).collect();
            times.sort_unstable();
            for (first, over) in times.iter().zip(times.iter().skip(RATE as usize)) {
                assert!(*over - *first >= Duration::from_mins(1), "too many of key {key} in the minute from {first:?}");
            }
        }
    }

    /// Asserts that no two bridges had requests for the same key in flight at the same time.
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
