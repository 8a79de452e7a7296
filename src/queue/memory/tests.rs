//! Tests that each engine does what the store in memory does.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use temporary_postgres::PostgresCluster;

use super::*;
use crate::config::{DatabaseConfig, DatabaseUrl, PostgresUrl};
use crate::envelope::dedup::key_of;
use crate::pagerduty::{ApiVersion, KeyApis};
use crate::queue::decide::dedup_window::DedupWindow;
use crate::queue::decide::tests::{OTHER, at, enqueue, key};
use crate::queue::decide::{Batch, Edit, decide, dependencies};
use crate::queue::leases::{BridgeId, Fence, LeaseName, LeaseStore};
use crate::queue::postgres::{PostgresEngine, PostgresLeases};
use crate::queue::sqlite::SqliteEngine;
use crate::queue::store::Store;
use crate::queue::{Disposition, HeldSender, HeldWebhook, Reader, RejectedWebhook, ResolvedTriggers};

/// A random enqueue for one of a few incidents, some of them late by Sentry's clock.
fn any_enqueue(rng: &mut StdRng, second: i64) -> EnqueueRequest {
    let kind = ["t", "t", "t", "t", "r", "A", "R", "R", "U"].choose(rng).unwrap();
    let incident = rng.random_range(1..=3);
    let sent = second - rng.random_range(0..4);
    let mut enqueue = enqueue(&format!("{kind}{incident}@{sent}"), second);
    let api = if rng.random_bool(0.3) { ApiVersion::V2 } else { ApiVersion::V1 };
    if let EnqueueRequest::FollowUp(follow_up) = &mut enqueue {
        follow_up.apis = KeyApis::new(api, BTreeMap::new());
        if kind.starts_with('U') && rng.random_bool(0.3) {
            follow_up.shared_key = IncidentKey::parse("rule/1");
            follow_up.fallback = Some(key(OTHER));
        }
    }
    if let EnqueueRequest::Event { envelope, sentry_at, .. } = &mut enqueue {
        envelope.api = api;
        if kind.starts_with('t') && rng.random_bool(0.4) {
            let shared = IncidentKey::parse(&format!("rule/{}", rng.random_range(1..=2))).unwrap();
            envelope.issue_key = Some(std::mem::replace(&mut envelope.incident_key, shared));
        }
        if rng.random_bool(0.4) {
            envelope.service_key = key(OTHER);
        }
        sentry_at.take_if(|_| rng.random_bool(0.2));
    }
    let dedup = match &mut enqueue {
        EnqueueRequest::Event { dedup, .. } => dedup,
        EnqueueRequest::FollowUp(follow_up) => &mut follow_up.dedup,
    };
    dedup.allows_identical_resolve = rng.random_bool(0.1);
    if rng.random_bool(0.3) {
        let key = key_of(&format!("{incident} {}", rng.random_range(0..3)));
        dedup.lookup_keys.push(key.clone());
        dedup.recorded_keys.push(key);
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

fn any_edit<'e>(rng: &mut StdRng, ids: &'e [EventId], held: &'e [HeldId], second: i64) -> Edit<'e> {
    let rejected = RejectedId::new(rng.random_range(1..=8));
    match rng.random_range(0..9) {
        0..=2 => {
            let resolved = if rng.random_bool(0.3) { ResolvedTriggers::Requeue } else { ResolvedTriggers::Skip };
            Edit::Requeue { ids, at: at(second), resolved }
        }
        3 => Edit::Discard { ids, state: State::Waiting },
        4 => Edit::Discard { ids, state: State::Dead },
        5 => Edit::DiscardRejected(rejected),
        6 | 7 => Edit::DiscardHeld(held),
        _ => Edit::RejectAgain(rejected, "no issue"),
    }
}

fn any_held(rng: &mut StdRng, second: i64) -> Vec<HeldWebhook> {
    let held = |_| HeldWebhook {
        received_at: at(second),
        sender: HeldSender::Token,
        signature: [7; 32],
        resource: None,
        idempotency_key: None,
        sent_at: None,
        body: b"{}".to_vec(),
    };
    (0..rng.random_range(0..3)).map(held).collect()
}

/// The leases of an engine that bridges share, and of the queue in memory.
struct Leases {
    store: PostgresLeases,
    state: LeaseState,
}

impl Leases {
    /// Changes the owners of some leases, in the same way in both.
    async fn change_hands(&mut self, rng: &mut StdRng, memory: &mut MemoryQueue, second: i64) {
        let me = BridgeInfo {
            id: BridgeId::new(rng.random_range(1..=2)),
            name: String::new(),
            version: String::new(),
            fingerprint: String::new(),
            is_leaving: false,
            reaches_pagerduty: true,
        };
        let mut changes = LeaseChanges { create: vec![], ..LeaseChanges::default() };
        changes.create.extend(self.state.unleased.iter().cloned().map(LeaseName::Key));
        for row in &self.state.leases {
            let asked = (row.name.clone(), row.number);
            match rng.random_range(0..6) {
                0 => changes.take.push(asked),
                1 => changes.release.push(asked),
                2 => changes.end.push(asked),
                _ => changes.renew.push(asked),
            }
        }
        // None of them ends by itself meanwhile.
        let duration = Duration::from_hours(1);
        self.state = memory.exchange(&me, &changes, duration, at(second));
        let found = self.store.exchange(&me, &changes, duration).await.unwrap();
        let rows = |state: &LeaseState| {
            let rows = state.leases.iter().map(|row| (row.name.clone(), row.owner, row.number));
            (rows.collect::<Vec<_>>(), state.unleased.clone())
        };
        assert_eq!(rows(&found), rows(&self.state), "{changes:?}");
    }

    /// A fence for an event, mostly that of its lease.
    fn fence(&self, rng: &mut StdRng, memory: &MemoryQueue, id: EventId) -> Option<Fence> {
        let key = memory.get(id)?.summary.service_key;
        let row = self.state.leases.iter().find(|row| row.name.key() == Some(&key));
        let (owner, number) = row.map_or((None, 1), |row| (row.owner, row.number));
        let number = if rng.random_bool(0.1) { number - 1 } else { number };
        Some(Fence { owner: owner.unwrap_or(BridgeId::new(1)), number })
    }
}

/// The attempts that the rate limiter would load after a restart, in an order that can be compared.
fn sorted(mut attempts: Vec<(ServiceKey, DateTime<Utc>, u32)>) -> Vec<(ServiceKey, DateTime<Utc>, u32)> {
    attempts.sort_unstable_by_key(|(key, at, number)| (*at, key.expose().to_owned(), *number));
    attempts
}

#[tokio::test]
async fn sqlite_loads_and_applies_what_the_store_in_memory_does() {
    let mut all = Drawn::default();
    for seed in 0..32 {
        let directory = tempfile::tempdir().unwrap();
        let sqlite = SqliteEngine::open(&directory.path().join("bridge.db")).await.unwrap();
        let reader = Reader::of(sqlite.reads());
        all.add(&compare(seed, sqlite, &reader, None).await);
    }
    let Drawn { discarded, requeued, admitted, fenced, resolved } = all;
    assert!(discarded > 24 && requeued > 24 && admitted > 24 && fenced == 0 && resolved > 24, "{all:?}");
}

#[tokio::test]
async fn postgresql_loads_and_applies_what_the_store_in_memory_does() {
    let mut all = Drawn::default();
    for seed in 0..12 {
        let url = PostgresCluster::shared().database().unwrap();
        let timeout = Duration::from_secs(30);
        let config = DatabaseConfig { timeout, ..DatabaseUrl::parse(&url).unwrap().into() };
        let postgres = PostgresEngine::open(&config, &PostgresUrl::parse(&url).unwrap()).await.unwrap();
        let reader = Reader::of(postgres.reads());
        let leases =
            Leases { store: PostgresLeases::new(postgres.another()), state: LeaseTable::default().state(&[], at(0)) };
        all.add(&compare(seed, postgres, &reader, Some(leases)).await);
    }
    let Drawn { discarded, requeued, admitted, fenced, resolved } = all;
    assert!(discarded > 12 && requeued > 6 && admitted > 12 && fenced > 120 && resolved > 6, "{all:?}");
}

/// What happened in the random worlds, to check that nothing is left out by chance.
#[derive(Clone, Copy, Debug, Default)]
struct Drawn {
    /// Attempted events that were discarded.
    discarded: usize,
    /// Dead letters that were requeued.
    requeued: usize,
    /// Held webhooks that were admitted.
    admitted: usize,
    /// Beginnings and settlements whose fence no longer counts.
    fenced: usize,
    /// Issues that were resolved in a shared incident.
    resolved: usize,
}

impl Drawn {
    fn add(&mut self, other: &Self) {
        self.discarded += other.discarded;
        self.requeued += other.requeued;
        self.admitted += other.admitted;
        self.fenced += other.fenced;
        self.resolved += other.resolved;
    }
}

/// Gives an engine and the queue in memory the same random batches, and compares their contents.
async fn compare<S: Store>(seed: u64, mut engine: S, reader: &Reader, mut leases: Option<Leases>) -> Drawn {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut memory = MemoryQueue::default();
    let (mut second, mut drawn) = (1_000, Drawn::default());
    for batch in 0..40 {
        second += rng.random_range(0..40);
        let enqueues: Vec<_> = (0..rng.random_range(0..6)).map(|_| any_enqueue(&mut rng, second)).collect();
        if let Some(leases) = &mut leases {
            leases.change_hands(&mut rng, &mut memory, second).await;
        }
        let fence = |rng: &mut StdRng, id| leases.as_ref().and_then(|leases| leases.fence(rng, &memory, id));
        let waiting = memory.ids(State::Waiting);
        let some = |rng: &mut StdRng| waiting.iter().copied().filter(|_| rng.random_bool(0.3)).collect::<Vec<_>>();
        let settle = |id| {
            let (disposition, fence) = (any_disposition(&mut rng, second), fence(&mut rng, id));
            SettleRequest { id, disposition, at: at(second), fence }
        };
        let ids = some(&mut StdRng::seed_from_u64(seed + batch));
        let settles: Vec<_> = ids.into_iter().map(settle).collect();
        let begins = some(&mut rng).into_iter().map(|id| {
            let (skipped, fence) = (some(&mut rng), fence(&mut rng, id));
            BeginRequest { id, at: at(second), skipped, fence }
        });
        let begins: Vec<_> = begins.collect();
        let unrecorded: Vec<_> = waiting.iter().filter(|_| rng.random_bool(0.05)).map(|id| (*id, at(second))).collect();
        let (webhook, changed) =
            (RejectedWebhook { received_at: at(second), ..RejectedWebhook::default() }, some(&mut rng));
        let everything: Vec<_> = memory.events.keys().copied().filter(|_| rng.random_bool(0.2)).collect();
        let changed = if rng.random_bool(0.5) { changed } else { everything };
        let held = any_held(&mut rng, second);
        // Some of these are held, some are already deleted, and some do not exist yet.
        let (from, number) = (rng.random_range(1..=10), rng.random_range(1..=2));
        let admitted: Vec<_> = (from..).take(number).map(HeldId::new).collect();
        let edit = any_edit(&mut rng, &changed, &admitted, second);
        let batch = if rng.random_bool(0.4) {
            let is_admitted = matches!(edit, Edit::DiscardRejected(_) | Edit::DiscardHeld(_));
            let enqueues = if is_admitted { enqueues.iter().collect() } else { Vec::new() };
            Batch {
                edit: Some(edit),
                enqueues,
                is_late: true,
                is_shared_by_bridges: S::IS_SHARED_BY_BRIDGES,
                ..Batch::default()
            }
        } else {
            Batch {
                holds: held.iter().collect(),
                rejects: Vec::from_iter(rng.random_bool(0.2).then_some(&webhook)),
                unrecorded: &unrecorded,
                enqueues: enqueues.iter().collect(),
                is_late: rng.random_bool(0.1),
                skips_folding: rng.random_bool(0.1),
                is_shared_by_bridges: S::IS_SHARED_BY_BRIDGES,
                settles: settles.iter().collect(),
                begins: begins.iter().collect(),
                ..Batch::default()
            }
        };
        let wanted = dependencies(&batch);
        let (expected, known) = (memory.load(&wanted).await.unwrap(), engine.load(&wanted).await.unwrap());
        assert_eq!(known, expected, "world {seed}");
        drawn.fenced += known.fenced.len();
        let decided = decide(&batch, &known, &DedupWindow::default());
        drawn.requeued += decided.plan.requeued.len();
        drawn.admitted += decided.plan.forget_held.len();
        let expected = memory.apply(&decided.plan).await.unwrap();
        let committed = engine.apply(&decided.plan).await.unwrap();
        assert_eq!((committed.event_ids, committed.rejected), (expected.event_ids, expected.rejected), "world {seed}");
    }
    let attempts = reader.attempts_since(at(0), at(second), 10_000).await.unwrap();
    assert_eq!(sorted(attempts), sorted(memory.attempts()), "world {seed}");
    for id in memory.events.keys() {
        assert_eq!(reader.get(*id).await.unwrap(), memory.get(*id), "event {id} of world {seed}");
    }
    let keys = reader.waiting_keys().await.unwrap().keys;
    assert_eq!(keys, Vec::from_iter(memory.keys_waiting()), "world {seed}");
    for key in keys {
        let after = memory.ids(State::Waiting).get(2).copied();
        let expected = memory.waiting(&key, after, 3);
        assert_eq!(reader.page(&key, after, 3).await.unwrap().events, expected, "world {seed}");
    }
    for state in [State::Waiting, State::Dead, State::Delivered] {
        assert!(!memory.ids(state).is_empty(), "world {seed} has nothing that is {state}");
    }
    drawn.resolved = memory.shared_issues.values().filter(|member| !member.is_open).count();
    drawn.discarded = memory.discarded.len();
    let held: Vec<_> = reader.held_summaries().await.unwrap().into_iter().map(|held| held.id).collect();
    assert_eq!(held, memory.held.iter().copied().collect::<Vec<_>>(), "world {seed}");
    reader.close().await;
    engine.close().await.unwrap();
    drawn
}
