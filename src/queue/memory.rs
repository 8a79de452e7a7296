//! The queue in memory: what a store has to do, as simply as it can be said. Tests compare engines with it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::envelope::with_counts_of;
use super::store::{
    Attemptable, Committed, Editable, Incident, IncidentChange, IncidentQueue, KEEP_DISCARDED_ATTEMPTS, Known,
    KnownIncident, Plan, Prune, Resolve, Row, Seen, Settling, Store, Tail, WaitingRow, Wanted,
};
use super::{CanaryChange, Envelope, EventId, OutageNotice, QueueError, RejectedId, State};
use crate::ingest::DedupKey;
use crate::metrics::PersistedMetrics;
use crate::pagerduty::{EventType, IncidentKey, ServiceKey};

/// A stored event.
#[derive(Clone, Debug)]
struct Event {
    state: State,
    envelope: Envelope,
    count: u32,
    first_seen: DateTime<Utc>,
    sentry_at: Option<DateTime<Utc>>,
    resolved_at: Option<DateTime<Utc>>,
    attempts: u32,
    last_attempt_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    blamed_ms: i64,
    reason: Option<String>,
    finished_at: Option<DateTime<Utc>>,
}

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub(super) struct MemoryStore {
    events: BTreeMap<EventId, Event>,
    /// Each with the event that changed it last, and when.
    incidents: BTreeMap<IncidentQueue, (Incident, EventId, DateTime<Utc>)>,
    resolves: BTreeMap<IncidentKey, Resolve>,
    seen: Vec<(DedupKey, Seen)>,
    said: BTreeMap<DedupKey, DateTime<Utc>>,
    rejected: BTreeSet<RejectedId>,
    /// What the rate limiter has to know of discarded events after a restart.
    discarded: Vec<(ServiceKey, DateTime<Utc>, u32)>,
    last: i64,
    last_rejected: i64,
}

impl Event {
    fn queue(&self) -> IncidentQueue {
        let Envelope { incident_key, service_key, .. } = &self.envelope;
        IncidentQueue { incident_key: incident_key.clone(), service_key: service_key.clone() }
    }

    /// The body as it is sent.
    fn sent(&self) -> Vec<u8> {
        let Envelope { body, counts_at, .. } = &self.envelope;
        let count = if self.last_attempt_at.is_none() { self.count } else { 1 };
        with_counts_of(body.clone(), *counts_at, count, self.first_seen)
    }

    fn waits(&self) -> bool {
        self.state == State::Waiting
    }

    fn tail(&self, id: EventId) -> Option<Tail> {
        let is_fresh = self.waits() && self.envelope.is_trigger() && self.last_attempt_at.is_none();
        is_fresh.then_some(Tail { id, count: self.count, first_seen: self.first_seen, sentry_at: self.sentry_at })
    }
}

impl MemoryStore {
    /// How many events are in a state.
    pub(super) fn number(&self, state: State) -> usize {
        self.events.values().filter(|event| event.state == state).count()
    }

    pub(super) fn waiting(&self) -> Vec<EventId> {
        self.events.iter().filter(|(_, event)| event.waits()).map(|(id, _)| *id).collect()
    }

    fn known(&self, wanted: &Wanted) -> Known {
        let waiting = || self.events.iter().filter(|(_, event)| event.waits()).map(|(id, event)| (*id, event));
        let mut known = Known::default();
        for queue in wanted.queues.iter().filter(|_| !wanted.unfolded) {
            let end = waiting().rfind(|(_, event)| event.queue() == *queue);
            known.tails.extend(end.and_then(|(id, event)| Some((queue.clone(), event.tail(id)?))));
        }
        let incidents: BTreeSet<_> =
            wanted.queues.iter().map(|queue| &queue.incident_key).chain(&wanted.incidents).collect();
        let resolves = incidents.into_iter().filter_map(|key| Some((key.clone(), *self.resolves.get(key)?)));
        known.resolves.extend(resolves);
        for key in &wanted.incidents {
            let accepted = self.incidents.iter().filter(|(queue, _)| queue.incident_key == *key);
            let incident = KnownIncident {
                accepted: accepted.map(|(queue, (incident, ..))| (queue.service_key.clone(), *incident)).collect(),
                waiting: waiting()
                    .filter(|(_, event)| event.envelope.incident_key == *key)
                    .map(|(id, event)| WaitingRow {
                        service_key: event.envelope.service_key.clone(),
                        event_type: event.envelope.event_type,
                        sentry_at: event.sentry_at,
                        tail: event.tail(id),
                    })
                    .collect(),
            };
            if incident != KnownIncident::default() {
                known.incidents.insert(key.clone(), incident);
            }
        }
        known.seen.extend(self.seen.iter().filter(|(key, _)| wanted.seen.contains(key)).cloned());
        known.said.extend(wanted.said.iter().filter_map(|key| Some((key.clone(), *self.said.get(key)?))));
        for (id, event) in waiting().filter(|(id, _)| wanted.settling.contains(id)) {
            let settling = Settling {
                queue: event.queue(),
                event_type: event.envelope.event_type,
                sentry_at: event.sentry_at,
                was_in_doubt: event.reason.is_some(),
                is_known: self.incidents.contains_key(&event.queue()),
            };
            known.settling.insert(id, settling);
        }
        for id in &wanted.editing {
            known.editing.extend(self.editable(*id).map(|event| (*id, event)));
        }
        known.rejected.extend(wanted.rejected.iter().filter(|id| self.rejected.contains(id)));
        for (id, past) in &wanted.beginning {
            known.beginning.extend(self.attemptable(*id, past, true).map(|event| (*id, event)));
        }
        for id in &wanted.unrecorded {
            known.beginning.extend(self.attemptable(*id, &[], false).map(|event| (*id, event)));
        }
        known
    }

    fn editable(&self, id: EventId) -> Option<Editable> {
        let event = self.events.get(&id)?;
        let queue = event.queue();
        let triggers =
            self.events.range(id..).skip(1).filter(|(_, later)| later.waits() && later.envelope.is_trigger());
        let opened = self.incidents.get(&queue).filter(|(incident, ..)| incident.is_open);
        Some(Editable {
            state: event.state,
            event_type: Some(event.envelope.event_type),
            sentry_at: event.sentry_at,
            attempts: event.attempts,
            last_attempt_at: event.last_attempt_at,
            finished_at: event.finished_at,
            resolved_at: event.resolved_at,
            trigger_waits: triggers.into_iter().any(|(_, later)| later.queue() == queue),
            opened: opened.map(|(_, opener, at)| (Some(*opener), *at)),
            queue: Some(queue),
        })
    }

    fn attemptable(&self, id: EventId, past: &[EventId], begins: bool) -> Option<Attemptable> {
        let event = self.events.get(&id).filter(|event| event.waits())?;
        let is_earlier = |(other, earlier): &(&EventId, &Event)| {
            **other < id && earlier.waits() && earlier.queue() == event.queue() && !past.contains(other)
        };
        let is_first = event.last_attempt_at.is_none();
        let is_needed = begins || event.count > 1 && is_first;
        Some(Attemptable {
            earlier: self.events.iter().find(is_earlier).map(|(earlier, _)| *earlier),
            is_first,
            body: is_needed.then(|| event.envelope.body.clone()),
            counts_at: event.envelope.counts_at,
            count: event.count,
            first_seen: event.first_seen,
            received_at: event.envelope.received_at,
        })
    }

    fn write(&mut self, row: &Row<'_>) -> EventId {
        let id = row.replaces.unwrap_or_else(|| {
            self.last += 1;
            EventId::new(self.last)
        });
        let before = self.events.get(&id);
        let event = Event {
            state: State::Waiting,
            envelope: row.envelope.clone().into_owned(),
            count: row.count,
            first_seen: row.first_seen,
            sentry_at: row.sentry_at,
            resolved_at: row.resolved_at,
            attempts: before.map_or(0, |event| event.attempts),
            last_attempt_at: before.and_then(|event| event.last_attempt_at),
            next_attempt_at: before.and_then(|event| event.next_attempt_at),
            blamed_ms: before.map_or(0, |event| event.blamed_ms),
            reason: before.and_then(|event| event.reason.clone()),
            finished_at: None,
        };
        self.events.insert(id, event);
        id
    }

    fn edit(&mut self, plan: &Plan<'_>) {
        for (id, _) in &plan.revived {
            if let Some(event) = self.events.get_mut(id) {
                event.state = State::Waiting;
                event.blamed_ms = 0;
                (event.reason, event.finished_at, event.next_attempt_at) = (None, None, None);
            }
        }
        self.events.retain(|id, _| !plan.discarded.contains(id));
        let attempts = plan.discarded_attempts.iter();
        self.discarded
            .extend(attempts.map(|(service_key, last_at, attempts)| ((*service_key).clone(), *last_at, *attempts)));
        let latest = self.discarded.iter().map(|(_, last_at, _)| *last_at).max();
        self.discarded
            .retain(|(_, last_at, _)| latest.is_none_or(|latest| *last_at >= latest - KEEP_DISCARDED_ATTEMPTS));
        self.rejected.retain(|id| !plan.forget_rejected.contains(id));
    }

    fn change(&mut self, change: &IncidentChange<'_>) {
        for event in self.events.values_mut().filter(|event| event.envelope.is_trigger()) {
            match *change {
                IncidentChange::Resolved { incident_key, received_at, sent_at, now } => {
                    let is_resolved = super::decide::times::is_resolved(event.sentry_at, sent_at, now);
                    if event.envelope.incident_key == *incident_key && event.state != State::Delivered && is_resolved {
                        event.resolved_at = Some(received_at);
                    }
                }
                IncidentChange::Reopened(incident_key) => {
                    if event.envelope.incident_key == *incident_key && event.state == State::Dead {
                        event.resolved_at = None;
                    }
                }
            }
        }
    }
}

impl Store for MemoryStore {
    const IS_SHARED: bool = true;

    async fn load(&mut self, wanted: &Wanted) -> Result<Known, QueueError> {
        Ok(self.known(wanted))
    }

    async fn apply(&mut self, plan: &Plan<'_>) -> Result<Committed, QueueError> {
        self.edit(plan);
        for attempted in &plan.attempts {
            if let Some(event) = self.events.get_mut(&attempted.id) {
                event.attempts += attempted.attempts;
                event.last_attempt_at = Some(attempted.last_at);
            }
        }
        for (id, body) in &plan.bodies {
            if let Some(event) = self.events.get_mut(id) {
                (event.envelope.body, event.envelope.counts_at) = (body.clone(), None);
            }
        }
        if let Some(times) = plan.forget_resolves {
            self.resolves.retain(|_, resolve| (times.since..=times.until).contains(&resolve.received_at));
        }
        plan.changes.iter().for_each(|change| self.change(change));
        let rows = plan.rows.iter().map(|row| self.write(row)).collect();
        for (incident_key, resolve) in &plan.resolves {
            match resolve {
                Some(resolve) => drop(self.resolves.insert((*incident_key).clone(), *resolve)),
                None => drop(self.resolves.remove(incident_key)),
            }
        }
        let is_forgotten =
            |seen: &Seen| seen.event_type == EventType::Resolve && plan.forget_seen.contains(&&seen.incident_key);
        self.seen.retain(|(_, seen)| !is_forgotten(seen));
        for (key, incident_key, event_type) in &plan.seen {
            let seen = Seen { incident_key: (*incident_key).clone(), event_type: *event_type };
            if self.seen.iter().all(|(known, _)| known != *key) {
                self.seen.push(((*key).clone(), seen));
            }
        }
        self.said.extend(plan.said.iter().map(|(key, at)| ((*key).clone(), *at)));
        for settled in &plan.settled {
            if let Some(event) = self.events.get_mut(&settled.id) {
                event.state = settled.state;
                event.reason = settled.reason.map(str::to_owned);
                event.finished_at = settled.finished_at;
                event.next_attempt_at = settled.next_attempt_at;
                event.blamed_ms = settled.blamed_ms.unwrap_or(event.blamed_ms);
            }
        }
        for update in &plan.incidents {
            let before = self.incidents.get(update.queue).and_then(|(incident, ..)| incident.triggered_at);
            let incident = Incident { is_open: update.is_open, triggered_at: before.max(update.sentry_at) };
            self.incidents.insert(update.queue.clone(), (incident, update.event_id, update.changed_at));
        }
        let rejected = plan.rejected.iter().map(|_| {
            self.last_rejected += 1;
            RejectedId::new(self.last_rejected)
        });
        let rejected: Vec<_> = rejected.collect();
        self.rejected.extend(&rejected);
        Ok(Committed { rows, rejected })
    }

    async fn peek(&self, wanted: &Wanted) -> Result<Known, QueueError> {
        Ok(self.known(wanted))
    }

    async fn prune(&mut self, _prune: Prune) -> Result<u64, QueueError> {
        let before = self.events.len();
        self.events.retain(|_, event| event.state != State::Delivered);
        Ok((before - self.events.len()) as u64)
    }

    async fn persist_metrics(&mut self, _metrics: &PersistedMetrics) -> Result<(), QueueError> {
        Ok(())
    }

    async fn write_canary(&mut self, _change: &CanaryChange) -> Result<Option<DateTime<Utc>>, QueueError> {
        Ok(None)
    }

    async fn write_outage_notice(&mut self, _notice: OutageNotice) -> Result<(), QueueError> {
        Ok(())
    }

    async fn shrink(&mut self, _pages: u32) -> Result<u64, QueueError> {
        Ok(0)
    }

    async fn check(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn close(self) -> Result<(), QueueError> {
        Ok(())
    }
}

mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{RngExt, SeedableRng};
    use temporary_postgres::Cluster;

    use super::*;
    use crate::config::{DatabaseConfig, DatabaseUrl, PostgresUrl};
    use crate::ingest::dedup;
    use crate::queue::decide::dedup_window::DedupWindow;
    use crate::queue::decide::tests::{OTHER, at, enqueue, key};
    use crate::queue::decide::{Batch, Edit, Settle, decide, wanted};
    use crate::queue::postgres::PostgresEngine;
    use crate::queue::sqlite::Engine;
    use crate::queue::store::Begin;
    use crate::queue::{Content, Disposition, Enqueue, Reader, Rejected};

    /// What webhooks of a few incidents may bring, some of it late by Sentry's clock.
    fn any_enqueue(rng: &mut StdRng, second: i64) -> Enqueue {
        let kind = ["t", "t", "t", "t", "r", "A", "R", "R", "U"].choose(rng).unwrap();
        let incident = rng.random_range(1..=3);
        let sent = second - rng.random_range(0..4);
        let mut enqueue = enqueue(&format!("{kind}{incident}@{sent}"), second);
        if let Content::Event { envelope, happened_at } = &mut enqueue.content {
            if rng.random_bool(0.4) {
                envelope.service_key = key(OTHER);
            }
            happened_at.take_if(|_| rng.random_bool(0.2));
        }
        enqueue.dedup.renews = rng.random_bool(0.1);
        if rng.random_bool(0.3) {
            let said = dedup::key_of(&format!("{incident} {}", rng.random_range(0..3)));
            enqueue.dedup.seen_if.push(said.clone());
            enqueue.dedup.records.push(said);
        }
        enqueue
    }

    fn any_disposition(rng: &mut StdRng, second: i64) -> Disposition {
        match rng.random_range(0..4) {
            0 => Disposition::Dead { reason: "400".to_owned() },
            1 => Disposition::Retry {
                reason: "503".to_owned(),
                next_attempt_at: at(second + 9),
                blamed: Duration::from_secs(1),
            },
            _ => Disposition::Delivered { note: None },
        }
    }

    fn any_edit<'e>(rng: &mut StdRng, ids: &'e [EventId], second: i64) -> Edit<'e> {
        let rejected = RejectedId::new(rng.random_range(1..=8));
        match rng.random_range(0..6) {
            0 | 1 => Edit::Revive { ids, at: at(second), even_resolved: rng.random_bool(0.3) },
            2 => Edit::Discard { ids, state: State::Waiting },
            3 => Edit::Discard { ids, state: State::Dead },
            4 => Edit::DiscardRejected(rejected),
            _ => Edit::RejectAgain(rejected, "no issue"),
        }
    }

    /// What the rate limiter would learn after a restart, whatever has become of the events.
    fn attempts(memory: &MemoryStore) -> Vec<(ServiceKey, DateTime<Utc>, u32)> {
        let of_events = memory
            .events
            .values()
            .filter_map(|event| Some((event.envelope.service_key.clone(), event.last_attempt_at?, event.attempts)));
        let mut attempts: Vec<_> = memory.discarded.iter().cloned().chain(of_events).collect();
        attempts.sort_unstable_by_key(|(key, at, number)| (*at, key.expose().to_owned(), *number));
        attempts
    }

    #[tokio::test]
    async fn sqlite_loads_and_applies_what_the_store_in_memory_does() {
        let (mut discarded, mut revived) = (0, 0);
        for seed in 0..24 {
            let directory = tempfile::tempdir().unwrap();
            let sqlite = Engine::open(&directory.path().join("bridge.db")).await.unwrap();
            let reader = Reader::of(sqlite.reads());
            let edited = compare(seed, sqlite, &reader).await;
            (discarded, revived) = (discarded + edited.0, revived + edited.1);
        }
        assert!(discarded > 24 && revived > 12, "{discarded} attempted events were discarded, {revived} were revived");
    }

    #[tokio::test]
    async fn postgresql_loads_and_applies_what_the_store_in_memory_does() {
        let (mut discarded, mut revived) = (0, 0);
        for seed in 0..12 {
            let url = Cluster::shared().database().unwrap();
            let timeout = Duration::from_secs(30);
            let config = DatabaseConfig { timeout, ..DatabaseUrl::parse(&url).unwrap().into() };
            let postgres = PostgresEngine::open(&config, &PostgresUrl::parse(&url).unwrap()).await.unwrap();
            let reader = Reader::of(postgres.reads());
            let edited = compare(seed, postgres, &reader).await;
            (discarded, revived) = (discarded + edited.0, revived + edited.1);
        }
        assert!(discarded > 12 && revived > 6, "{discarded} attempted events were discarded, {revived} were revived");
    }

    /// Gives an engine and the store in memory the same drawn batches, and compares what they have. Returns how many attempted
    /// events were discarded, and how many dead letters were revived.
    async fn compare<S: Store>(seed: u64, mut engine: S, reader: &Reader) -> (usize, usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut memory = MemoryStore::default();
        let (mut second, mut revived) = (1_000, 0);
        for batch in 0..40 {
            second += rng.random_range(0..40);
            let enqueues: Vec<_> = (0..rng.random_range(0..6)).map(|_| any_enqueue(&mut rng, second)).collect();
            let waiting = memory.waiting();
            let some = |rng: &mut StdRng| waiting.iter().copied().filter(|_| rng.random_bool(0.3)).collect::<Vec<_>>();
            let settle =
                |id| Settle { id, disposition: any_disposition(&mut rng, second), at: at(second), fence: None };
            let ids = some(&mut StdRng::seed_from_u64(seed + batch));
            let settles: Vec<_> = ids.into_iter().map(settle).collect();
            let begins =
                some(&mut rng).into_iter().map(|id| Begin { id, at: at(second), past: some(&mut rng), fence: None });
            let begins: Vec<_> = begins.collect();
            let unrecorded: Vec<_> =
                waiting.iter().filter(|_| rng.random_bool(0.05)).map(|id| (*id, at(second))).collect();
            let (webhook, changed) = (Rejected { received_at: at(second), ..Rejected::default() }, some(&mut rng));
            let everything: Vec<_> = memory.events.keys().copied().filter(|_| rng.random_bool(0.2)).collect();
            let changed = if rng.random_bool(0.5) { changed } else { everything };
            let edit = any_edit(&mut rng, &changed, second);
            let batch = if rng.random_bool(0.3) {
                let enqueues = if let Edit::DiscardRejected(_) = edit { enqueues.iter().collect() } else { Vec::new() };
                Batch { edit: Some(edit), enqueues, is_late: true, is_shared: S::IS_SHARED, ..Batch::default() }
            } else {
                Batch {
                    rejects: Vec::from_iter(rng.random_bool(0.2).then_some(&webhook)),
                    unrecorded: &unrecorded,
                    enqueues: enqueues.iter().collect(),
                    is_late: rng.random_bool(0.1),
                    unfolded: rng.random_bool(0.1),
                    is_shared: S::IS_SHARED,
                    settles: settles.iter().collect(),
                    begins: begins.iter().collect(),
                    ..Batch::default()
                }
            };
            let wanted = wanted(&batch);
            let (expected, known) = (memory.load(&wanted).await.unwrap(), engine.load(&wanted).await.unwrap());
            assert_eq!(known, expected, "world {seed}");
            let decision = decide(&batch, &known, &DedupWindow::default());
            revived += decision.plan.revived.len();
            let expected = memory.apply(&decision.plan).await.unwrap();
            let committed = engine.apply(&decision.plan).await.unwrap();
            assert_eq!((committed.rows, committed.rejected), (expected.rows, expected.rejected), "world {seed}");
        }
        let mut found = reader.attempts_since(at(0), at(second), 10_000).await.unwrap();
        found.sort_unstable_by_key(|(key, at, number)| (*at, key.expose().to_owned(), *number));
        assert_eq!(found, attempts(&memory), "world {seed}");
        for (id, event) in &memory.events {
            let record = reader.get(*id).await.unwrap().unwrap();
            let found = (record.state, record.count, record.reason, record.attempts, record.blamed);
            let blamed = Duration::from_millis(event.blamed_ms.unsigned_abs());
            let expected = (event.state, event.count, event.reason.clone(), event.attempts, blamed);
            assert_eq!(found, expected, "event {id} of world {seed}");
            let found = (record.last_attempt_at, record.resolved_at, record.finished_at, record.next_attempt_at);
            let expected = (event.last_attempt_at, event.resolved_at, event.finished_at, event.next_attempt_at);
            assert_eq!(found, expected, "event {id} of world {seed}");
            assert_eq!(record.body, event.sent(), "event {id} of world {seed}");
        }
        for state in [State::Waiting, State::Dead, State::Delivered] {
            assert!(memory.number(state) > 0, "world {seed} has nothing that is {state}");
        }
        reader.close().await;
        engine.close().await.unwrap();
        (memory.discarded.len(), revived)
    }
}
