//! Attempts that begin, and what happens to an event after an attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Decider;
use crate::pagerduty::{ApiSet, ApiVersion, EventType};
use crate::queue::event::with_counts_of;
use crate::queue::leases::Fence;
use crate::queue::store::{
    AttemptUpdate, EventStateUpdate, EventToEdit, EventToSettle, IncidentQueueKey, IncidentUpdate, Plan,
};
use crate::queue::{AttemptPayload, BeginRequest, Disposition, EventId, QueueError, SettleRequest, State};

/// What a batch has done to stored events so far.
#[derive(Debug, Default)]
pub(super) struct EventChanges<'b> {
    attempts: BTreeMap<EventId, AttemptUpdate>,
    /// The bodies of events whose counts are inserted by this batch.
    bodies: BTreeMap<EventId, Vec<u8>>,
    settled: BTreeMap<EventId, EventStateUpdate<'b>>,
    /// The settled events that no longer wait.
    ended: BTreeSet<EventId>,
    incidents: BTreeMap<&'b IncidentQueueKey, IncidentUpdate<'b>>,
}

impl<'b> EventChanges<'b> {
    pub(super) fn write(self, plan: &mut Plan<'b>) {
        plan.attempts = self.attempts.into_values().collect();
        plan.bodies = self.bodies.into_iter().collect();
        plan.settled = self.settled.into_values().collect();
        plan.incidents = self.incidents.into_values().collect();
    }

    fn add_attempt(&mut self, id: EventId, at: DateTime<Utc>) {
        let attempted = self.attempts.entry(id).or_insert(AttemptUpdate { id, added_attempts: 0, last_at: at });
        attempted.added_attempts += 1;
        attempted.last_at = at;
    }
}

impl<'b> Decider<'b> {
    /// Records attempts that began while nothing could be committed. Their bytes were already sent, so they are stored
    /// as they were sent.
    pub(super) fn record(&mut self, attempts: &[(EventId, DateTime<Utc>)]) {
        for (id, at) in attempts {
            let Some(event) = self.known.to_begin.get(id) else { continue };
            let is_first = event.is_first && !self.changes.attempts.contains_key(id);
            if is_first
                && event.count > 1
                && let Some(body) = event.first_body()
            {
                self.changes.bodies.insert(*id, body);
            }
            self.changes.add_attempt(*id, *at);
        }
    }

    /// Begins an attempt, unless an earlier event of its incident waits: an event that was put back meanwhile goes
    /// first, whether or not the deliveries know of it. Every later attempt sends the bytes of the first one.
    pub(super) fn begin(&mut self, begin: &BeginRequest) -> Result<AttemptPayload, QueueError> {
        let id = begin.id;
        if self.is_fenced(id, begin.fence) {
            return Err(QueueError::Fenced(id));
        }
        let event = self.known.to_begin.get(&id).filter(|_| !self.changes.ended.contains(&id));
        let event = event.ok_or(QueueError::NotWaiting(id))?;
        if let Some(earlier) = event.earlier {
            return Err(QueueError::Behind { id, earlier });
        }
        let is_first = event.is_first && !self.changes.attempts.contains_key(&id);
        let to_send = if let Some(row) = self.replaced.get(&id).map(|row| &mut self.plan.rows[*row]) {
            // Alerts of this batch were folded into it.
            let envelope = row.envelope.to_mut();
            if is_first {
                let body = std::mem::take(&mut envelope.body);
                envelope.body = with_counts_of(body, envelope.counts_at.take(), row.count, row.first_seen);
            }
            AttemptPayload { api: envelope.api, body: envelope.body.clone(), received_at: envelope.received_at }
        } else if let Some(body) = self.changes.bodies.get(&id) {
            event.payload(body.clone())
        } else if is_first {
            let body = event.first_body().ok_or(QueueError::NotWaiting(id))?;
            if event.count > 1 {
                self.changes.bodies.insert(id, body.clone());
            }
            event.payload(body)
        } else {
            event.payload(event.body.clone().ok_or(QueueError::NotWaiting(id))?)
        };
        self.changes.add_attempt(id, begin.at);
        Ok(to_send)
    }

    /// Whether the event is now delivered by another bridge, or by this one under a later fence.
    fn is_fenced(&self, id: EventId, fence: Option<Fence>) -> bool {
        fence.is_some_and(|fence| self.known.fenced.contains(&id) || self.fences.get(&id) != Some(&fence))
    }

    /// Records what happens to an event after an attempt, if the event still waits.
    pub(super) fn settle(&mut self, settle: &'b SettleRequest) -> Result<(), QueueError> {
        let SettleRequest { id, disposition, at, fence } = settle;
        let is_fenced = self.is_fenced(*id, *fence);
        let event = self.known.to_settle.get(id).filter(|_| !is_fenced && !self.changes.ended.contains(id));
        let event = event.ok_or(QueueError::NotWaiting(*id))?;
        let ended = |state, reason| EventStateUpdate {
            id: *id,
            state,
            reason,
            finished_at: Some(*at),
            next_attempt_at: None,
            blamed_ms: None,
        };
        let waits = |reason, next_attempt_at, blamed| EventStateUpdate {
            id: *id,
            state: State::Waiting,
            reason: Some(reason),
            finished_at: None,
            next_attempt_at: Some(next_attempt_at),
            blamed_ms: Some(milliseconds(blamed)),
        };
        let settled = match disposition {
            Disposition::Delivered { note } => {
                self.record_accepted(event, *id, *at);
                ended(State::Delivered, note.as_deref())
            }
            Disposition::Dead { reason } => {
                if self.was_in_doubt(event, *id) {
                    self.record_possibly_accepted(event, *id, *at);
                }
                ended(State::Dead, Some(reason))
            }
            Disposition::RetryNow { reason } => waits(reason, *at, Duration::ZERO),
            Disposition::Retry { reason, next_attempt_at, blamed } => waits(reason, *next_attempt_at, *blamed),
        };
        if settled.state != State::Waiting {
            self.changes.ended.insert(*id);
        }
        let blamed_before = self.changes.settled.get(id).and_then(|before| before.blamed_ms);
        let blamed_ms = settled.blamed_ms.or(blamed_before);
        self.changes.settled.insert(*id, EventStateUpdate { blamed_ms, ..settled });
        Ok(())
    }

    /// Records that PagerDuty has accepted an event, which opens its incident or closes one that was opened before.
    fn record_accepted(&mut self, event: &'b EventToSettle, id: EventId, at: DateTime<Utc>) {
        let is_known = event.is_known || self.changes.incidents.contains_key(&event.queue);
        match event.event_type {
            EventType::Trigger => self.update(event, true, id, at),
            EventType::Resolve if is_known => self.update(event, false, id, at),
            EventType::Resolve | EventType::Acknowledge => {}
        }
    }

    /// Whether an attempt before the last one ended without a final answer. A final answer would have ended the event, so
    /// two attempts are enough to know, even if it was not stored how the first one ended: the disk was full or damaged,
    /// or the bridge was killed.
    fn was_in_doubt(&self, event: &EventToSettle, id: EventId) -> bool {
        let recorded = self.changes.attempts.get(&id).map_or(0, |attempted| attempted.added_attempts);
        let unrecordable = self.unrecordable.iter().filter(|other| **other == id).count();
        let was_retried = event.was_in_doubt || self.changes.settled.contains_key(&id);
        was_retried || event.attempts.saturating_add(recorded) as usize + unrecordable > 1
    }

    /// Counts a trigger that becomes a dead letter as accepted, because PagerDuty may have accepted it. Its resolve is then
    /// still sent; if nothing is open, PagerDuty drops it.
    fn record_possibly_accepted(&mut self, event: &'b EventToSettle, id: EventId, at: DateTime<Utc>) {
        if event.event_type == EventType::Trigger {
            self.update(event, true, id, at);
        }
    }

    fn update(&mut self, event: &'b EventToSettle, is_open: bool, id: EventId, changed_at: DateTime<Utc>) {
        let folded = self.replaced.get(&id).and_then(|row| self.plan.rows[*row].sentry_at);
        let sentry_at = event.sentry_at.max(folded).filter(|_| event.event_type == EventType::Trigger);
        let apis = self.apis_since(&event.queue, event.open_apis, event.api, is_open);
        let before = self.changes.incidents.get(&event.queue).and_then(|update| update.sentry_at);
        let sentry_at = sentry_at.max(before);
        let update = IncidentUpdate { queue: &event.queue, is_open, apis, changed_at, event_id: id, sentry_at };
        self.changes.incidents.insert(&event.queue, update);
    }

    /// The APIs by which an incident was triggered since it was opened, with `api` if the event `opens` it. `stored`
    /// are the APIs before this batch, if the incident was open.
    fn apis_since(&self, queue: &IncidentQueueKey, stored: ApiSet, api: ApiVersion, opens: bool) -> ApiSet {
        let before = match self.changes.incidents.get(queue) {
            Some(update) if update.is_open => update.apis,
            Some(_) => ApiSet::default(),
            None => stored,
        };
        if opens { before.with(api) } else { before }
    }

    /// Counts a trigger that was last attempted at `last_at` as accepted, although it no longer exists to be settled.
    pub(super) fn record_opened(
        &mut self,
        queue: &'b IncidentQueueKey,
        id: EventId,
        last_at: DateTime<Utc>,
        event: &EventToEdit,
    ) {
        let apis = self.apis_since(queue, event.open_apis, event.api, true);
        let before = self.changes.incidents.get(queue);
        let changed_at = before.map_or(last_at, |update| update.changed_at.max(last_at));
        let sentry_at = before.and_then(|update| update.sentry_at).max(event.sentry_at);
        let update = IncidentUpdate { queue, is_open: true, apis, changed_at, event_id: id, sentry_at };
        self.changes.incidents.insert(queue, update);
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
