//! All rules of the queue, as pure functions: from a batch and what the store has about it, they decide the rows to
//! write and the answers.
//!
//! - `dependencies`: what has to be known of the stored rows to decide a batch
//! - this file: events become rows of their own, or are folded into waiting ones
//! - `follow_up`: webhooks about incidents that may be open, and incidents that several issues share
//! - `attempts`: attempts that begin, and what happens to an event after an attempt
//! - `edit`: what people change: dead letters wait again, events and rejected webhooks are deleted
//! - `dedup_window`: the keys of the webhooks of the last minutes
//! - `times`: the order of triggers and resolves, by the times that Sentry gives
//!
//! A batch is decided in this order: changes by people, unrecorded attempts, webhooks, settled events, attempts that begin,
//! rejected and held webhooks. Each of these sees the effects of those before it. The plan holds what results from all of
//! them, table by table, so it is written in an order of its own.

mod attempts;
pub(super) mod dedup_window;
mod dependencies;
mod edit;
mod follow_up;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod times;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::event::{AttemptPayload, BeginRequest, Enqueued, EnqueuedEvent, EventId, SettleRequest};
use super::held::HeldWebhook;
use super::item::{RejectedId, RejectedWebhook};
use super::store::{Committed, EventWrite, FoldableTrigger, IntegrationIncident, Known, KnownIncident, Plan, Resolve};
use super::{Fence, QueueError};
use crate::envelope::{Dedup, DedupKey, EnqueueRequest, Envelope};
use crate::ingest::IgnoreReason;
use crate::pagerduty::{ApiSet, ApiVersion, EventType, IncidentKey, ServiceKey};
use dedup_window::{DedupWindow, dedup_keys, repeated};
pub(super) use dependencies::dependencies;
use dependencies::{IncidentQueueRef, fences, owned, queue_of};
pub(super) use edit::Edit;
use times::OvertakingWindow;

/// What one transaction does. It borrows the operations, so that they can be tried again when it fails.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says something else about the batch")]
pub(super) struct Batch<'b> {
    /// A requested change. It comes alone, or with the enqueues that were made from the rejected or held webhooks that
    /// it deletes.
    pub(super) edit: Option<Edit<'b>>,
    /// Attempts that began while nothing could be committed.
    pub(super) unrecorded: &'b [(EventId, DateTime<Utc>)],
    /// Waiting events whose attempts cannot be recorded, because they are damaged; one entry for each attempt. Nothing is
    /// folded into them: their bytes were sent.
    pub(super) unrecordable: &'b [EventId],
    pub(super) enqueues: Vec<&'b EnqueueRequest>,
    /// Whether the alerts belong to an earlier time: their webhooks were rejected or held then, or never came.
    pub(super) is_late: bool,
    /// Whether nothing is folded into stored events, because they may be damaged.
    pub(super) skips_folding: bool,
    /// Whether bridges share the store, so that others write to it, too.
    pub(super) is_shared_by_bridges: bool,
    pub(super) settles: Vec<&'b SettleRequest>,
    pub(super) begins: Vec<&'b BeginRequest>,
    pub(super) rejects: Vec<&'b RejectedWebhook>,
    pub(super) holds: Vec<&'b HeldWebhook>,
    pub(super) is_probe: bool,
}

/// The plan to write for a batch, and the answers to its operations, each kind in its order.
#[derive(Debug, Default)]
pub(super) struct Decided<'b> {
    pub(super) plan: Plan<'b>,
    pub(super) enqueued: Vec<Enqueued<usize>>,
    pub(super) settled: Vec<Result<(), QueueError>>,
    pub(super) begun: Vec<Result<AttemptPayload, QueueError>>,
    /// What to add to the dedup window once the plan is committed.
    pub(super) remembered: Vec<(&'b Dedup, DateTime<Utc>)>,
}

/// The answers to the operations of a committed batch, each kind in its order.
#[derive(Debug)]
pub struct Answers {
    /// What was enqueued.
    pub enqueued: Vec<Enqueued>,
    /// An error for each event that no longer waited.
    pub settled: Vec<Result<(), QueueError>>,
    /// What to send, or why the attempt may not begin.
    pub begun: Vec<Result<AttemptPayload, QueueError>>,
    /// The numbers of the rejected webhooks.
    pub rejected: Vec<RejectedId>,
}

impl Decided<'_> {
    /// The answers, now that the plan is committed.
    pub(super) fn answers(self, committed: Committed) -> Answers {
        let Committed { event_ids, rejected } = committed;
        let enqueued = self.enqueued.into_iter().map(|enqueued| enqueued.numbered(&event_ids)).collect();
        Answers { enqueued, settled: self.settled, begun: self.begun, rejected }
    }
}

/// Decides all of a batch.
pub(super) fn decide<'b>(batch: &'b Batch<'b>, known: &'b Known, window: &DedupWindow) -> Decided<'b> {
    let repeated = repeated(batch, known, window);
    let fresh =
        || batch.enqueues.iter().zip(&repeated).filter(|(_, repeated)| !**repeated).map(|(enqueue, _)| *enqueue);
    let newest = fresh().map(EnqueueRequest::received_at).max().unwrap_or_default();
    let times = if batch.is_late { OvertakingWindow::since(newest) } else { OvertakingWindow::around(newest) };
    let mut state = Decider::new(batch, known, times);
    if !batch.is_late && fresh().any(resolves_something) {
        state.plan.forget_resolves = Some(times);
    }
    let mut decided = Decided::default();
    if batch.edit.is_some_and(|edit| !state.edit(edit)) {
        return decided;
    }
    state.record(batch.unrecorded);
    for (enqueue, is_repeated) in batch.enqueues.iter().zip(&repeated) {
        let dedup = enqueue.dedup();
        if !is_repeated && !batch.is_late && !dedup.recorded_keys.is_empty() {
            decided.remembered.push((dedup, enqueue.received_at()));
        }
        decided.enqueued.push(if *is_repeated {
            Enqueued::Ignored(IgnoreReason::Repeated)
        } else {
            state.enqueue(enqueue, batch.is_late)
        });
    }
    decided.settled = batch.settles.iter().map(|settle| state.settle(settle)).collect();
    decided.begun = batch.begins.iter().map(|begin| state.begin(begin)).collect();
    decided.plan = state.into_plan();
    decided.plan.is_probe = batch.is_probe;
    if batch.is_shared_by_bridges {
        decided.plan.dedup_keys = dedup_keys(&decided.remembered);
    }
    decided.plan.rejected.clone_from(&batch.rejects);
    decided.plan.held.clone_from(&batch.holds);
    decided
}

fn resolves_something(enqueue: &EnqueueRequest) -> bool {
    matches!(enqueue, EnqueueRequest::FollowUp(follow_up) if follow_up.event_type() == EventType::Resolve)
}

/// Applies to `incidents` what a waiting event does to its incident once it is delivered.
pub(super) fn apply_waiting_event<K: Ord>(
    incidents: &mut BTreeMap<K, IntegrationIncident>,
    key: K,
    event_type: EventType,
    api: ApiVersion,
    sentry_at: Option<DateTime<Utc>>,
) {
    match event_type {
        EventType::Trigger => {
            let incident = incidents.entry(key).or_default();
            let before = if incident.is_open { incident.apis } else { ApiSet::default() };
            incident.apis = before.with(api);
            incident.is_open = true;
            incident.triggered_at = incident.triggered_at.max(sentry_at);
        }
        // A resolve of an unknown incident does not make it known.
        EventType::Resolve => drop(incidents.get_mut(&key).map(|incident| incident.is_open = false)),
        EventType::Acknowledge => {}
    }
}

impl KnownIncident {
    /// The integrations where the incident was opened, with its state there once the waiting events are delivered.
    pub(super) fn after_delivery(&self) -> BTreeMap<&ServiceKey, IntegrationIncident> {
        let mut incidents: BTreeMap<_, _> = self.delivered.iter().map(|(key, incident)| (key, *incident)).collect();
        for row in &self.waiting {
            apply_waiting_event(&mut incidents, &row.service_key, row.event_type, row.api, row.sentry_at);
        }
        incidents
    }
}

/// The trigger at the end of an incident queue, into which alerts can be folded.
#[derive(Clone, Copy, Debug)]
enum FoldTarget {
    Stored(FoldableTrigger),
    Row(usize),
}

/// The state while a batch is decided.
struct Decider<'b> {
    known: &'b Known,
    unrecordable: &'b [EventId],
    /// The fence under which each event is begun or settled.
    fences: BTreeMap<EventId, Fence>,
    times: OvertakingWindow,
    fold_targets: HashMap<IncidentQueueRef<'b>, FoldTarget>,
    incidents: HashMap<&'b IncidentKey, BTreeMap<&'b ServiceKey, IntegrationIncident>>,
    shared_issues: follow_up::SharedIssues<'b>,
    /// The resolves that this batch changes; `None` for one that is no longer kept.
    resolves: BTreeMap<&'b IncidentKey, Option<Resolve>>,
    /// The seen webhooks of `known` that this batch forgets.
    forgotten: HashSet<&'b DedupKey>,
    /// The rows that replace stored events.
    replaced: HashMap<EventId, usize>,
    changes: attempts::EventChanges<'b>,
    plan: Plan<'b>,
}

impl<'b> Decider<'b> {
    fn new(batch: &'b Batch<'b>, known: &'b Known, times: OvertakingWindow) -> Self {
        let mut fold_targets = HashMap::new();
        if !batch.skips_folding {
            let unrecorded = batch.unrecorded.iter().map(|(id, _)| *id);
            let attempted: HashSet<_> = unrecorded.chain(batch.unrecordable.iter().copied()).collect();
            let stored =
                known.foldable.iter().map(|(queue, trigger)| ((&queue.incident_key, &queue.service_key), *trigger));
            fold_targets.extend(
                stored
                    .filter(|(_, trigger)| !attempted.contains(&trigger.id))
                    .map(|(q, trigger)| (q, FoldTarget::Stored(trigger))),
            );
            for (incident_key, incident) in &known.incidents {
                for row in &incident.waiting {
                    let queue = (incident_key, &row.service_key);
                    match row.foldable.filter(|trigger| !attempted.contains(&trigger.id)) {
                        Some(trigger) => fold_targets.insert(queue, FoldTarget::Stored(trigger)),
                        None => fold_targets.remove(&queue),
                    };
                }
            }
        }
        let incidents = batch.enqueues.iter().filter_map(|enqueue| match enqueue {
            EnqueueRequest::FollowUp(follow_up) => Some(&follow_up.incident_key),
            EnqueueRequest::Event { .. } => None,
        });
        let stored = |key| known.incidents.get(key).map(KnownIncident::after_delivery).unwrap_or_default();
        // Incidents that issues share were loaded because of those issues.
        let incidents = incidents.chain(known.incidents.keys()).map(|key| (key, stored(key))).collect();
        Self {
            known,
            unrecordable: batch.unrecordable,
            fences: fences(batch),
            times,
            fold_targets,
            incidents,
            shared_issues: follow_up::SharedIssues::new(known),
            resolves: BTreeMap::new(),
            forgotten: HashSet::new(),
            replaced: HashMap::new(),
            changes: attempts::EventChanges::default(),
            plan: Plan::default(),
        }
    }

    fn enqueue(&mut self, enqueue: &'b EnqueueRequest, is_late: bool) -> Enqueued<usize> {
        if is_late {
            let dedup = enqueue.dedup();
            // Another rejected webhook may have become the same event before.
            if dedup.lookup_keys.iter().any(|key| self.was_seen(key)) {
                return Enqueued::Ignored(IgnoreReason::Repeated);
            }
            let (incident_key, event_type) = (enqueue.incident_key(), enqueue.event_type());
            self.plan.seen.extend(dedup.recorded_keys.iter().map(|key| (key, incident_key, event_type)));
        }
        match enqueue {
            EnqueueRequest::Event { envelope, sentry_at, .. } => {
                let mut events = Vec::with_capacity(1);
                let issue_key = envelope.issue_key.as_ref();
                self.enqueue_envelope(queue_of(envelope), issue_key, Cow::Borrowed(envelope), *sentry_at, &mut events);
                Enqueued::Queued(events)
            }
            EnqueueRequest::FollowUp(follow_up) => self.follow_up(follow_up, is_late),
        }
    }

    /// Queues an event. A trigger that a resolve has overtaken is followed by a resolve of its own, unless other issues
    /// keep the incident open. For a trigger whose issue shares the incident with others, `issue_key` is the key of
    /// that issue.
    fn enqueue_envelope(
        &mut self,
        queue: IncidentQueueRef<'b>,
        issue_key: Option<&'b IncidentKey>,
        envelope: Cow<'b, Envelope>,
        sentry_at: Option<DateTime<Utc>>,
        events: &mut Vec<EnqueuedEvent<usize>>,
    ) {
        let is_overtaken = self.is_overtaken(issue_key.unwrap_or(queue.0), envelope.is_trigger(), sentry_at);
        if let Some(issue_key) = issue_key {
            // An issue is recorded even if it is resolved already, so that it can be opened again there.
            self.shared_issues.open(issue_key, queue, envelope.received_at, sentry_at);
            if is_overtaken {
                self.shared_issues.close(issue_key, queue);
            }
        }
        let stays_open = issue_key.is_some() && self.shared_issues.keep_open(queue);
        let resolve = (is_overtaken && !stays_open).then(|| envelope.following_resolve());
        let trigger = self.place(queue, envelope, sentry_at);
        events.push(trigger);
        if let Some(resolve) = resolve {
            self.plan.rows[trigger.id].resolved_at = Some(self.times.now);
            events.push(self.place(queue, Cow::Owned(resolve), sentry_at));
        }
    }

    /// Gives an event a row of its own, or folds a trigger into the one at the end of its queue.
    ///
    /// Folding changes neither the order nor what PagerDuty is sent about the incident, and the queue grows with the
    /// number of incidents instead of the number of alerts.
    fn place(
        &mut self,
        queue: IncidentQueueRef<'b>,
        envelope: Cow<'b, Envelope>,
        sentry_at: Option<DateTime<Utc>>,
    ) -> EnqueuedEvent<usize> {
        let (event_type, api, is_trigger) = (envelope.event_type, envelope.api, envelope.is_trigger());
        let rows = &mut self.plan.rows;
        let row = match self.fold_targets.remove(&queue).filter(|_| is_trigger) {
            Some(FoldTarget::Row(row)) => {
                rows[row].fold(envelope, sentry_at);
                row
            }
            Some(FoldTarget::Stored(trigger)) => {
                self.replaced.insert(trigger.id, rows.len());
                rows.push(EventWrite::replacing(trigger, envelope, sentry_at));
                rows.len() - 1
            }
            None => {
                rows.push(EventWrite::new(envelope, sentry_at));
                rows.len() - 1
            }
        };
        let (count, row_sentry_at) = (rows[row].count, rows[row].sentry_at);
        if is_trigger {
            self.fold_targets.insert(queue, FoldTarget::Row(row));
        }
        if let Some(incidents) = self.incidents.get_mut(queue.0) {
            apply_waiting_event(incidents, queue.1, event_type, api, row_sentry_at);
        }
        EnqueuedEvent { id: row, count, event_type }
    }

    /// The last resolve of an incident, if it still counts.
    fn resolve_of(&self, incident_key: &IncidentKey) -> Option<Resolve> {
        let stored = || {
            let stored = self.known.resolves.get(incident_key).copied();
            stored.filter(|resolve| self.plan.forget_resolves.is_none_or(|times| times.contains(resolve.received_at)))
        };
        self.resolves.get(incident_key).copied().unwrap_or_else(stored)
    }

    /// Whether an event is a trigger that belongs before a resolve that was received earlier.
    fn is_overtaken(
        &mut self,
        incident_key: &'b IncidentKey,
        is_trigger: bool,
        sentry_at: Option<DateTime<Utc>>,
    ) -> bool {
        let resolve = self.resolve_of(incident_key).filter(|resolve| resolve.received_at >= self.times.since);
        let Some(resolve) = resolve else { return false };
        if resolve.received_at > self.times.until {
            // The resolve was received before the clock was set back.
            self.resolves.insert(incident_key, None);
            return false;
        }
        if !is_trigger || times::is_overtaken(sentry_at, resolve.sentry_at) {
            return is_trigger;
        }
        // The incident is open again, and closing it because of another trigger that arrives late would hide that.
        self.resolves.insert(incident_key, None);
        false
    }

    fn into_plan(mut self) -> Plan<'b> {
        self.changes.write(&mut self.plan);
        self.plan.resolves = self.resolves.into_iter().collect();
        self.plan.shared_issues = self.shared_issues.into_changes();
        self.plan
    }
}

impl<'b> EventWrite<'b> {
    fn new(envelope: Cow<'b, Envelope>, sentry_at: Option<DateTime<Utc>>) -> Self {
        let first_seen = envelope.received_at;
        Self { replaces: None, envelope, count: 1, first_seen, sentry_at, resolved_at: None }
    }

    fn replacing(trigger: FoldableTrigger, envelope: Cow<'b, Envelope>, sentry_at: Option<DateTime<Utc>>) -> Self {
        Self {
            replaces: Some(trigger.id),
            envelope,
            count: trigger.count.saturating_add(1),
            first_seen: trigger.first_seen,
            sentry_at: trigger.sentry_at.max(sentry_at),
            resolved_at: None,
        }
    }

    fn fold(&mut self, envelope: Cow<'b, Envelope>, sentry_at: Option<DateTime<Utc>>) {
        self.envelope = envelope;
        self.count = self.count.saturating_add(1);
        self.sentry_at = self.sentry_at.max(sentry_at);
        self.resolved_at = None;
    }
}
