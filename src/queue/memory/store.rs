//! What a storage engine has to do.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{MemoryQueue, StoredEvent};
use crate::metrics::PersistedMetrics;
use crate::pagerduty::{ApiSet, EventType, IncidentKey, ServiceKey};
use crate::queue::decide::times;
use crate::queue::external::SentryNotes;
use crate::queue::leases::{Fence, LeaseName};
use crate::queue::store::{
    Committed, Dependencies, EventToBegin, EventToEdit, EventToSettle, EventWrite, FoldableTrigger, IncidentEvent,
    IncidentQueueKey, IntegrationIncident, KEEP_DISCARDED_ATTEMPTS, Known, KnownIncident, Plan, Prune, Store,
    TriggerMark,
};
use crate::queue::{
    CanaryChange, EventId, EventRecord, EventSummary, HeldId, IssueUpdateChange, OutageNotice, Proof, QueueError,
    RejectedId, State,
};

impl StoredEvent {
    fn id(&self) -> EventId {
        self.record.summary.id
    }

    fn queue(&self) -> IncidentQueueKey {
        let EventSummary { incident_key, service_key, .. } = &self.record.summary;
        IncidentQueueKey { incident_key: incident_key.clone(), service_key: service_key.clone() }
    }

    fn is_of(&self, queue: &IncidentQueueKey) -> bool {
        let EventSummary { incident_key, service_key, .. } = &self.record.summary;
        *incident_key == queue.incident_key && *service_key == queue.service_key
    }

    fn is_trigger(&self) -> bool {
        self.record.summary.event_type == EventType::Trigger
    }

    fn waits(&self) -> bool {
        self.record.summary.state == State::Waiting
    }

    /// How many attempts began since it was enqueued or last requeued, as far as engines know.
    fn attempts(&self) -> u32 {
        match self.requeued_at {
            None => self.record.summary.attempts,
            Some(requeued_at) => self.record.last_attempt_at.is_some_and(|at| at >= requeued_at).into(),
        }
    }

    fn foldable(&self) -> Option<FoldableTrigger> {
        let is_fresh = self.waits() && self.is_trigger() && self.record.last_attempt_at.is_none();
        let EventSummary { id, count, first_seen, .. } = self.record.summary;
        is_fresh.then_some(FoldableTrigger { id, count, first_seen, sentry_at: self.sentry_at })
    }
}

impl MemoryQueue {
    pub(super) fn known(&self, dependencies: &Dependencies) -> Known {
        let mut known = Known::default();
        let fenced = dependencies.fences.iter().filter(|(id, fence)| self.is_fenced(**id, **fence));
        known.fenced.extend(fenced.map(|(id, _)| *id));
        for queue in dependencies.queues.iter().filter(|_| !dependencies.skips_folding) {
            let end = self.waiting_events().rfind(|event| event.is_of(queue));
            known.foldable.extend(end.and_then(|event| Some((queue.clone(), event.foldable()?))));
        }
        let shared_issues =
            self.shared_issues.iter().filter(|((issue_key, _), _)| dependencies.issues.contains(issue_key));
        known.shared_issues.extend(shared_issues.map(|(member, state)| (member.clone(), *state)));
        let queues: BTreeSet<_> =
            dependencies.shared_incidents.iter().chain(known.shared_issues.keys().map(|(_, queue)| queue)).collect();
        let is_open_otherwise = |queue: &IncidentQueueKey| {
            let others =
                self.shared_issues.iter().filter(|((issue_key, _), _)| !dependencies.issues.contains(issue_key));
            others.into_iter().any(|((_, other), member)| other == queue && member.is_open)
        };
        known.open_otherwise = queues.into_iter().filter(|queue| is_open_otherwise(queue)).cloned().collect();
        let shared = known.shared_issues.keys().map(|(_, queue)| &queue.incident_key);
        let all: BTreeSet<_> = dependencies.incidents.iter().chain(shared).cloned().collect();
        let queues = dependencies.queues.iter().map(|queue| &queue.incident_key);
        let incidents: BTreeSet<_> = queues.chain(&dependencies.incidents).chain(&dependencies.issues).collect();
        let resolves = incidents.into_iter().filter_map(|key| Some((key.clone(), *self.resolves.get(key)?)));
        known.resolves.extend(resolves);
        for key in &all {
            let delivered = self.incidents.iter().filter(|(queue, _)| queue.incident_key == *key);
            let incident = KnownIncident {
                delivered: delivered.map(|(queue, (incident, ..))| (queue.service_key.clone(), *incident)).collect(),
                waiting: self
                    .waiting_events()
                    .filter(|event| event.record.summary.incident_key == *key)
                    .map(|event| IncidentEvent {
                        service_key: event.record.summary.service_key.clone(),
                        api: event.record.api,
                        event_type: event.record.summary.event_type,
                        sentry_at: event.sentry_at,
                        foldable: event.foldable(),
                    })
                    .collect(),
            };
            if incident != KnownIncident::default() {
                known.incidents.insert(key.clone(), incident);
            }
        }
        known.seen.extend(dependencies.seen.iter().filter_map(|key| Some((key.clone(), self.seen.get(key)?.clone()))));
        known
            .dedup_keys
            .extend(dependencies.dedup_keys.iter().filter_map(|key| Some((key.clone(), *self.dedup_keys.get(key)?))));
        for event in dependencies.to_settle.iter().filter_map(|id| self.events.get(id)).filter(|event| event.waits()) {
            let to_settle = EventToSettle {
                queue: event.queue(),
                api: event.record.api,
                event_type: event.record.summary.event_type,
                sentry_at: event.sentry_at,
                was_in_doubt: event.record.summary.reason.is_some(),
                attempts: event.attempts(),
                is_known: self.incidents.contains_key(&event.queue()),
                open_apis: self.open_apis(&event.queue()),
            };
            known.to_settle.insert(event.id(), to_settle);
        }
        known.to_edit.extend(dependencies.to_edit.iter().filter_map(|id| Some((*id, self.event_to_edit(*id)?))));
        known.rejected.extend(dependencies.rejected.iter().filter(|id| self.rejected.contains(id)));
        known.held.extend(dependencies.held.iter().filter(|id| self.held.contains(id)));
        for (id, skipped) in &dependencies.to_begin {
            known.to_begin.extend(self.event_to_begin(*id, skipped, true).map(|event| (*id, event)));
        }
        for id in &dependencies.unrecorded {
            known.to_begin.extend(self.event_to_begin(*id, &[], false).map(|event| (*id, event)));
        }
        known.to_settle.retain(|id, _| !known.fenced.contains(id));
        known.to_begin.retain(|id, _| !known.fenced.contains(id));
        known
    }

    fn is_fenced(&self, id: EventId, fence: Fence) -> bool {
        let lease = |event: &StoredEvent| LeaseName::Key(event.record.summary.service_key.clone());
        self.events.get(&id).is_some_and(|event| !self.leases.allows(&lease(event), fence))
    }

    fn event_to_edit(&self, id: EventId) -> Option<EventToEdit> {
        let event = self.events.get(&id)?;
        let queue = event.queue();
        let mut triggers = self.waiting_events().filter(|later| later.id() > id && later.is_trigger());
        let opened = self.incidents.get(&queue).filter(|(incident, ..)| incident.is_open);
        let EventRecord { summary, last_attempt_at, resolved_at, .. } = &event.record;
        Some(EventToEdit {
            state: summary.state,
            api: event.record.api,
            event_type: Some(summary.event_type),
            sentry_at: event.sentry_at,
            attempts: summary.attempts,
            last_attempt_at: *last_attempt_at,
            finished_at: summary.finished_at,
            resolved_at: *resolved_at,
            trigger_waits: triggers.any(|later| later.is_of(&queue)),
            opened: opened.map(|(_, opener, at)| (Some(*opener), *at)),
            open_apis: self.open_apis(&queue),
            queue: Some(queue),
        })
    }

    /// The APIs by which an incident was triggered since it was opened; none where it is not open.
    fn open_apis(&self, queue: &IncidentQueueKey) -> ApiSet {
        let open = self.incidents.get(queue).filter(|(incident, ..)| incident.is_open);
        open.map_or_else(ApiSet::default, |(incident, ..)| incident.apis)
    }

    fn event_to_begin(&self, id: EventId, skipped: &[EventId], begins: bool) -> Option<EventToBegin> {
        let event = self.events.get(&id).filter(|event| event.waits())?;
        let queue = event.queue();
        let mut earlier = self.waiting_events().take_while(|earlier| earlier.id() < id);
        let EventRecord { summary, body, last_attempt_at, .. } = &event.record;
        let is_first = last_attempt_at.is_none();
        let is_needed = begins || summary.count > 1 && is_first;
        Some(EventToBegin {
            earlier: earlier
                .find(|earlier| earlier.is_of(&queue) && !skipped.contains(&earlier.id()))
                .map(StoredEvent::id),
            is_first,
            api: event.record.api,
            body: is_needed.then(|| body.clone()),
            counts_at: event.counts_at,
            count: summary.count,
            first_seen: summary.first_seen,
            received_at: summary.received_at,
        })
    }

    pub(super) fn write(&mut self, plan: &Plan<'_>) -> Committed {
        self.write_edits(plan);
        for attempted in &plan.attempts {
            if let Some(StoredEvent { record, .. }) = self.events.get_mut(&attempted.id) {
                record.summary.attempts += attempted.added_attempts;
                record.last_attempt_at = Some(attempted.last_at);
            }
        }
        for (id, body) in &plan.bodies {
            if let Some(event) = self.events.get_mut(id) {
                (event.record.body, event.counts_at) = (body.clone(), None);
            }
        }
        if let Some(times) = plan.forget_resolves {
            self.resolves.retain(|_, resolve| (times.since..=times.until).contains(&resolve.received_at));
        }
        plan.trigger_marks.iter().for_each(|mark| self.mark_triggers(mark));
        let event_ids = plan.rows.iter().map(|row| self.write_row(row)).collect();
        for (issue_key, queue, member) in &plan.shared_issues {
            self.shared_issues.insert(((*issue_key).clone(), queue.clone()), *member);
        }
        for (incident_key, resolve) in &plan.resolves {
            match resolve {
                Some(resolve) => drop(self.resolves.insert((*incident_key).clone(), *resolve)),
                None => drop(self.resolves.remove(incident_key)),
            }
        }
        self.seen.retain(|_, (incident_key, event_type)| {
            *event_type != EventType::Resolve || !plan.forget_seen.contains(&&*incident_key)
        });
        for (key, incident_key, event_type) in &plan.seen {
            self.seen.entry((*key).clone()).or_insert_with(|| ((*incident_key).clone(), *event_type));
        }
        self.dedup_keys.extend(plan.dedup_keys.iter().map(|(key, at)| ((*key).clone(), *at)));
        for settled in &plan.settled {
            if let Some(StoredEvent { record, .. }) = self.events.get_mut(&settled.id) {
                record.summary.state = settled.state;
                record.summary.reason = settled.reason.map(str::to_owned);
                record.summary.finished_at = settled.finished_at;
                record.summary.next_attempt_at = settled.next_attempt_at;
                record.blamed = settled.blamed_ms.map_or(record.blamed, |ms| Duration::from_millis(ms.unsigned_abs()));
            }
        }
        for update in &plan.incidents {
            let before = self.incidents.get(update.queue).and_then(|(incident, ..)| incident.triggered_at);
            let triggered_at = before.max(update.sentry_at);
            let incident = IntegrationIncident { is_open: update.is_open, apis: update.apis, triggered_at };
            self.incidents.insert(update.queue.clone(), (incident, update.event_id, update.changed_at));
        }
        let next = self.last_rejected + 1;
        let rejected: Vec<_> = (next..).take(plan.rejected.len()).map(RejectedId::new).collect();
        self.last_rejected = rejected.last().map_or(self.last_rejected, |id| id.get());
        self.rejected.extend(&rejected);
        for _ in &plan.held {
            self.last_held += 1;
            self.held.insert(HeldId::new(self.last_held));
        }
        Committed { event_ids, rejected }
    }

    fn write_edits(&mut self, plan: &Plan<'_>) {
        for (id, at) in &plan.requeued {
            if let Some(StoredEvent { record, requeued_at, .. }) = self.events.get_mut(id) {
                *requeued_at = Some(*at);
                record.blamed = Duration::ZERO;
                let summary = &mut record.summary;
                summary.state = State::Waiting;
                (summary.reason, summary.finished_at, summary.next_attempt_at) = (None, None, None);
            }
        }
        self.events.retain(|id, _| !plan.discarded.contains(id));
        let attempts = plan.discarded_attempts.iter();
        self.discarded.extend(attempts.map(|(key, last_at, attempts)| ((*key).clone(), *last_at, *attempts)));
        let latest = self.discarded.iter().map(|(_, last_at, _)| *last_at).max();
        self.discarded
            .retain(|(_, last_at, _)| latest.is_none_or(|latest| *last_at >= latest - KEEP_DISCARDED_ATTEMPTS));
        self.rejected.retain(|id| !plan.forget_rejected.contains(id));
        self.held.retain(|id| !plan.forget_held.contains(id));
    }

    fn write_row(&mut self, row: &EventWrite<'_>) -> EventId {
        let id = row.replaces.or_else(|| self.reserved.pop_front()).unwrap_or_else(|| self.reserve());
        let requeued_at = self.events.get(&id).and_then(|event| event.requeued_at);
        let (before, envelope) = (self.events.get(&id).map(|event| &event.record), &row.envelope);
        let summary = EventSummary {
            id,
            state: State::Waiting,
            service_key: envelope.service_key.clone(),
            incident_key: envelope.incident_key.clone(),
            event_type: envelope.event_type,
            description: envelope.description.clone(),
            count: row.count,
            attempts: before.map_or(0, |record| record.summary.attempts),
            received_at: envelope.received_at,
            first_seen: row.first_seen,
            next_attempt_at: before.and_then(|record| record.summary.next_attempt_at),
            finished_at: None,
            reason: before.and_then(|record| record.summary.reason.clone()),
        };
        let record = EventRecord {
            summary,
            api: envelope.api,
            body: envelope.body.clone(),
            last_attempt_at: before.and_then(|record| record.last_attempt_at),
            blamed: before.map_or(Duration::ZERO, |record| record.blamed),
            resolved_at: row.resolved_at,
        };
        let (counts_at, sentry_at) = (envelope.counts_at, row.sentry_at);
        self.events.insert(id, StoredEvent { record, counts_at, sentry_at, requeued_at });
        id
    }

    fn mark_triggers(&mut self, mark: &TriggerMark<'_>) {
        for event in self.events.values_mut().filter(|event| event.is_trigger()) {
            let EventRecord { summary, resolved_at, .. } = &mut event.record;
            let is_of = |incident_key: &IncidentKey, service_key: Option<&ServiceKey>| {
                summary.incident_key == *incident_key && service_key.is_none_or(|key| summary.service_key == *key)
            };
            match *mark {
                TriggerMark::Resolved { incident_key, service_key, received_at, sent_at, now } => {
                    let is_resolved = times::is_resolved(event.sentry_at, sent_at, now);
                    if is_of(incident_key, service_key) && summary.state != State::Delivered && is_resolved {
                        *resolved_at = Some(received_at);
                    }
                }
                TriggerMark::NotResolved { incident_key, service_key } => {
                    if is_of(incident_key, service_key) && summary.state == State::Dead {
                        *resolved_at = None;
                    }
                }
            }
        }
    }
}

impl Store for MemoryQueue {
    const IS_SHARED_BY_BRIDGES: bool = true;
    const BLOCKS: bool = false;

    async fn load(&mut self, dependencies: &Dependencies) -> Result<Known, QueueError> {
        Ok(self.known(dependencies))
    }

    async fn apply(&mut self, plan: &Plan<'_>) -> Result<Committed, QueueError> {
        Ok(self.write(plan))
    }

    async fn peek(&mut self, dependencies: &Dependencies) -> Result<Known, QueueError> {
        Ok(self.known(dependencies))
    }

    async fn prune(&mut self, _prune: Prune) -> Result<u64, QueueError> {
        let before = self.events.len();
        self.events.retain(|_, event| event.record.summary.state != State::Delivered);
        Ok((before - self.events.len()) as u64)
    }

    async fn persist_metrics(&mut self, _metrics: &PersistedMetrics) -> Result<(), QueueError> {
        Ok(())
    }

    async fn write_sentry_notes(&mut self, _notes: &SentryNotes) -> Result<(), QueueError> {
        Ok(())
    }

    async fn write_canary(&mut self, _change: &CanaryChange) -> Result<Option<DateTime<Utc>>, QueueError> {
        Ok(None)
    }

    async fn write_issue_update(&mut self, _change: &IssueUpdateChange) -> Result<bool, QueueError> {
        Ok(true)
    }

    async fn write_outage_notice(&mut self, _notice: OutageNotice) -> Result<(), QueueError> {
        Ok(())
    }

    async fn write_proof(&mut self, _proof: &Proof) -> Result<(), QueueError> {
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
