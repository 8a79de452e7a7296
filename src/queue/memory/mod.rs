//! The queue in memory, implemented as simply as possible. Everything is lost when it is dropped. Engines are compared
//! with it, and the simulation runs the rules of the queue on it.
//!
//! - this file: operations and reads, without tasks and without waiting
//! - `store`: what a storage engine has to do
//! - `tests`: compare the engines with it

mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::decide::dedup_window::DedupWindow;
use super::decide::{self, Batch, Edit};
use super::event::with_counts_of;
use super::leases::{BridgeInfo, LeaseChanges, LeaseState, LeaseTable};
use super::store::{IncidentQueueKey, IntegrationIncident, Resolve, SharedIssue};
use super::{
    Answers, BeginRequest, EnqueueRequest, EventId, EventRecord, HeldId, RejectedId, ResolvedTriggers, SettleRequest,
    State, WaitingEvent,
};
use crate::envelope::DedupKey;
use crate::pagerduty::{EventType, IncidentKey, ServiceKey};

/// A queue in memory. Several bridges may share it: every operation is a transaction by itself.
#[derive(Debug, Default)]
pub struct MemoryQueue {
    events: BTreeMap<EventId, StoredEvent>,
    /// Each incident with the event that changed it last, and when.
    incidents: BTreeMap<IncidentQueueKey, (IntegrationIncident, EventId, DateTime<Utc>)>,
    shared_issues: BTreeMap<(IncidentKey, IncidentQueueKey), SharedIssue>,
    resolves: BTreeMap<IncidentKey, Resolve>,
    seen: BTreeMap<DedupKey, (IncidentKey, EventType)>,
    dedup_keys: BTreeMap<DedupKey, DateTime<Utc>>,
    rejected: BTreeSet<RejectedId>,
    held: BTreeSet<HeldId>,
    /// The attempts of discarded events, which the rate limiter needs after a restart.
    discarded: Vec<(ServiceKey, DateTime<Utc>, u32)>,
    leases: LeaseTable,
    last: i64,
    /// Numbers for the next new events, in their order.
    reserved: VecDeque<EventId>,
    last_rejected: i64,
    last_held: i64,
}

/// A stored event.
#[derive(Clone, Debug)]
struct StoredEvent {
    /// The record, with the body as it is stored.
    record: EventRecord,
    counts_at: Option<usize>,
    sentry_at: Option<DateTime<Utc>>,
    /// When it was last requeued.
    requeued_at: Option<DateTime<Utc>>,
}

/// Operations that are committed together, as the writer of a bridge does.
#[derive(Debug, Default)]
pub struct Operations {
    /// What webhooks enqueue.
    pub enqueues: Vec<EnqueueRequest>,
    /// Attempts that have ended.
    pub settles: Vec<SettleRequest>,
    /// Attempts that begin.
    pub begins: Vec<BeginRequest>,
    /// Whether nothing is folded into stored events, because they may be damaged.
    pub skips_folding: bool,
    /// Numbers that were taken by [`MemoryQueue::reserve`], for the new events in their order.
    pub reserved: Vec<EventId>,
}

impl MemoryQueue {
    /// Commits operations by the rules of the queue. The dedup window is empty each time.
    pub fn commit(&mut self, operations: &Operations) -> Answers {
        let Operations { enqueues, settles, begins, skips_folding, reserved } = operations;
        self.reserved = reserved.iter().copied().collect();
        let batch = Batch {
            enqueues: enqueues.iter().collect(),
            settles: settles.iter().collect(),
            begins: begins.iter().collect(),
            skips_folding: *skips_folding,
            ..Batch::default()
        };
        let known = self.known(&decide::dependencies(&batch));
        let decided = decide::decide(&batch, &known, &DedupWindow::default());
        let committed = self.write(&decided.plan);
        decided.answers(committed)
    }

    /// Reserves the number of an event that is committed later, as PostgreSQL does: other events may be committed
    /// before it.
    pub fn reserve(&mut self) -> EventId {
        self.last += 1;
        EventId::new(self.last)
    }

    /// Does what [`LeaseStore::exchange`](super::leases::LeaseStore::exchange) does, at `now` by the database's clock.
    pub fn exchange(
        &mut self,
        me: &BridgeInfo,
        changes: &LeaseChanges,
        duration: Duration,
        now: DateTime<Utc>,
    ) -> LeaseState {
        let waiting: Vec<_> = self.keys_waiting().into_iter().collect();
        self.leases.exchange(me, changes, duration, &waiting, now)
    }

    /// Requeues dead letters, as [`Editor::requeue`](super::Editor::requeue) does.
    pub fn requeue(&mut self, ids: &[EventId], at: DateTime<Utc>) -> Vec<EventId> {
        self.edit(Edit::Requeue { ids, at, resolved: ResolvedTriggers::Skip }).0
    }

    /// Deletes events, as [`Editor::discard`](super::Editor::discard) does.
    pub fn discard(&mut self, state: State, ids: &[EventId]) -> Vec<EventId> {
        self.edit(Edit::Discard { ids, state }).1
    }

    /// Returns what was requeued and what was discarded.
    fn edit(&mut self, edit: Edit<'_>) -> (Vec<EventId>, Vec<EventId>) {
        let batch = Batch { edit: Some(edit), ..Batch::default() };
        let known = self.known(&decide::dependencies(&batch));
        let plan = decide::decide(&batch, &known, &DedupWindow::default()).plan;
        self.write(&plan);
        (plan.requeued.iter().map(|(id, _)| *id).collect(), plan.discarded)
    }

    /// The events in a state, in the order of their numbers.
    #[must_use]
    pub fn ids(&self, state: State) -> Vec<EventId> {
        let events = self.events.iter().filter(|(_, event)| event.record.summary.state == state);
        events.map(|(id, _)| *id).collect()
    }

    /// Returns everything about one event, or `None` if it was discarded or never existed.
    #[must_use]
    pub fn get(&self, id: EventId) -> Option<EventRecord> {
        let StoredEvent { mut record, counts_at, .. } = self.events.get(&id)?.clone();
        if record.last_attempt_at.is_none() {
            record.body = with_counts_of(record.body, counts_at, record.summary.count, record.summary.first_seen);
        }
        Some(record)
    }

    /// The service keys with waiting events.
    #[must_use]
    pub fn keys_waiting(&self) -> BTreeSet<ServiceKey> {
        self.waiting_records().map(|record| record.summary.service_key.clone()).collect()
    }

    /// The first `limit` waiting events of `key` after `after`, in order.
    #[must_use]
    pub fn waiting(&self, key: &ServiceKey, after: Option<EventId>, limit: usize) -> Vec<WaitingEvent> {
        let of_key = self.waiting_records().filter(|EventRecord { summary, .. }| summary.service_key == *key);
        of_key
            .filter(|record| Some(record.summary.id) > after)
            .take(limit)
            .map(|EventRecord { summary, last_attempt_at, blamed, .. }| WaitingEvent {
                id: summary.id,
                service_key: summary.service_key.clone(),
                incident_key: summary.incident_key.clone(),
                event_type: summary.event_type,
                received_at: summary.received_at,
                attempts: summary.attempts,
                last_attempt_at: *last_attempt_at,
                blamed: *blamed,
            })
            .collect()
    }

    /// For every event that was attempted, including discarded ones: its service key, when its last attempt began, and
    /// how many attempts there were.
    #[must_use]
    pub fn attempts(&self) -> Vec<(ServiceKey, DateTime<Utc>, u32)> {
        let of_events = self.events.values().filter_map(|StoredEvent { record, .. }| {
            Some((record.summary.service_key.clone(), record.last_attempt_at?, record.summary.attempts))
        });
        self.discarded.iter().cloned().chain(of_events).collect()
    }

    fn waiting_records(&self) -> impl DoubleEndedIterator<Item = &EventRecord> {
        self.waiting_events().map(|event| &event.record)
    }

    fn waiting_events(&self) -> impl DoubleEndedIterator<Item = &StoredEvent> {
        self.events.values().filter(|event| event.record.summary.state == State::Waiting)
    }
}
