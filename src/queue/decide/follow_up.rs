//! Webhooks about incidents that may be open: resolves, acknowledgements, and triggers of issues that are back.
//!
//! Several issues may share an incident: each keeps it open until the issue is resolved.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{Decider, IncidentQueueRef, owned, times};
use crate::envelope::{DedupKey, Envelope, FollowUp, Reopening};
use crate::ingest::IgnoreReason;
use crate::pagerduty::{ApiSet, ApiVersion, Destination, Event, EventType, IncidentKey, ServiceKey};
use crate::queue::Enqueued;
use crate::queue::store::{IncidentQueueKey, Known, Resolve, SharedIssue, TriggerMark};

/// The incident queues that a follow-up goes to, each with the APIs to use.
struct Recipients<'b> {
    queues: Vec<(IncidentQueueRef<'b>, ApiSet)>,
    /// Whether it is a resolve that is older than a trigger of an open incident.
    is_outdated: bool,
    /// Whether it is a resolve of an issue that shares an incident with others, which keep it open.
    stays_open: bool,
}

impl<'b> Decider<'b> {
    pub(super) fn follow_up(&mut self, follow_up: &'b FollowUp, is_late: bool) -> Enqueued<usize> {
        if self.is_replayed(follow_up) {
            return Enqueued::Ignored(IgnoreReason::Replayed);
        }
        let now = if is_late { self.times.until } else { follow_up.received_at };
        let Recipients { queues: mut recipients, is_outdated, stays_open } = self.recipients(follow_up, now);
        match follow_up.event_type() {
            EventType::Trigger => self.reopen(follow_up),
            EventType::Resolve => {
                self.mark_resolved(&follow_up.incident_key, None, follow_up, now);
                // If the incident is already open again, a remembered resolve would close a trigger that arrives late,
                // and hide that the incident is open.
                if !is_outdated {
                    self.remember_resolve(follow_up);
                }
            }
            EventType::Acknowledge => {}
        }
        if recipients.is_empty() && !is_outdated && !stays_open {
            let incident_key = follow_up.shared_key.as_ref().unwrap_or(&follow_up.incident_key);
            let fallback = follow_up.fallback.iter();
            recipients.extend(fallback.map(|key| ((incident_key, key), ApiSet::only(self::api(follow_up, key)))));
        }
        if recipients.is_empty() {
            return Enqueued::Ignored(match (is_outdated, stays_open) {
                (true, _) => IgnoreReason::Outdated,
                (false, true) => IgnoreReason::StaysOpen,
                (false, false) => IgnoreReason::NothingOpen(follow_up.event_type()),
            });
        }
        let mut events = Vec::with_capacity(recipients.len());
        let destinations = recipients.into_iter().flat_map(|(queue, apis)| apis.iter().map(move |api| (queue, api)));
        for (queue, api) in destinations {
            let event = Event {
                incident_key: queue.0.clone(),
                ..follow_up.event_for(Destination { api, service_key: queue.1.clone() })
            };
            let envelope = Envelope::new(&event, follow_up.received_at);
            let is_trigger = follow_up.event_type() == EventType::Trigger;
            let issue_key = Some(&follow_up.incident_key).filter(|key| is_trigger && *key != queue.0);
            self.enqueue_envelope(queue, issue_key, Cow::Owned(envelope), follow_up.sentry_at, &mut events);
        }
        Enqueued::Queued(events)
    }

    /// Returns the integrations that a follow-up goes to, each with the APIs to use: those where its incident is open
    /// or, for a trigger, where it [opens again](Self::reopened). Also returns whether it is a resolve that is older than
    /// a trigger of an open incident.
    ///
    /// A trigger is sent by the API that is now configured for the integration; everything else by the APIs that opened
    /// the incident, whatever is configured now.
    fn recipients(&mut self, follow_up: &'b FollowUp, now: DateTime<Utc>) -> Recipients<'b> {
        if follow_up.event_type() == EventType::Trigger {
            let queues = self.reopened(follow_up).into_iter();
            let queues = queues.map(|queue| (queue, ApiSet::only(api(follow_up, queue.1)))).collect();
            return Recipients { queues, is_outdated: false, stays_open: false };
        }
        let is_resolve = follow_up.event_type() == EventType::Resolve;
        let mut is_outdated = false;
        let mut recipients = Vec::new();
        let own = self.incidents.get(&follow_up.incident_key).into_iter().flatten();
        for (key, incident) in own.filter(|(_, incident)| incident.is_open) {
            if is_resolve && times::is_outdated(follow_up.sentry_at, incident.triggered_at, now) {
                is_outdated = true;
            } else {
                recipients.push(((&follow_up.incident_key, *key), incident.apis));
            }
        }
        let mut found = Recipients { queues: recipients, is_outdated, stays_open: false };
        self.add_shared(follow_up, now, &mut found);
        found
    }

    /// Returns the incidents of an issue that is back: those that are or were open, as far as the settings have not
    /// replaced them.
    fn reopened(&self, follow_up: &'b FollowUp) -> Vec<IncidentQueueRef<'b>> {
        let issue_key = &follow_up.incident_key;
        let own = self.incidents.get(issue_key).into_iter().flatten();
        let own = own.map(|(key, incident)| ((issue_key, *key), incident.is_open));
        let shared = self.shared_issues.of(issue_key).into_iter().map(|(queue, member)| (queue, member.is_open));
        let known: Vec<_> = own.chain(shared).collect();
        match &follow_up.reopening {
            Some(reopening) => current(&known, follow_up, reopening),
            None => known.into_iter().map(|(queue, _)| queue).collect(),
        }
    }

    /// Adds the open incidents that the issue shares with others to `found`. A resolve goes to those that no issue keeps
    /// open any more.
    fn add_shared(&mut self, follow_up: &'b FollowUp, now: DateTime<Utc>, found: &mut Recipients<'b>) {
        let issue_key = &follow_up.incident_key;
        for (queue, member) in self.shared_issues.of(issue_key) {
            match follow_up.event_type() {
                EventType::Acknowledge if member.is_open => {
                    found.queues.push((queue, self.open_apis(follow_up, queue)));
                }
                EventType::Resolve if member.is_open => {
                    if times::is_outdated(follow_up.sentry_at, member.sentry_at, now) {
                        found.is_outdated = true;
                        continue;
                    }
                    self.shared_issues.close(issue_key, queue);
                    if self.shared_issues.keep_open(queue) {
                        found.stays_open = true;
                    } else {
                        found.queues.push((queue, self.open_apis(follow_up, queue)));
                        self.mark_resolved(queue.0, Some(queue.1), follow_up, now);
                    }
                }
                EventType::Trigger | EventType::Acknowledge | EventType::Resolve => {}
            }
        }
    }

    /// The APIs by which an incident was triggered since it was opened, or the configured API if none is known.
    fn open_apis(&self, follow_up: &FollowUp, queue: IncidentQueueRef<'b>) -> ApiSet {
        let incident = self.incidents.get(queue.0).and_then(|incidents| incidents.get(queue.1));
        let open = incident.filter(|incident| incident.is_open && incident.apis != ApiSet::default());
        open.map_or_else(|| ApiSet::only(api(follow_up, queue.1)), |incident| incident.apis)
    }

    /// Remembers a resolve for the triggers that it overtook, if it is known when Sentry sent it. A late resolve, such
    /// as a rejected webhook that is retried, never sets back the times that are already known.
    fn remember_resolve(&mut self, follow_up: &'b FollowUp) {
        let Some(sentry_at) = follow_up.sentry_at else { return };
        let received_at = follow_up.received_at;
        let before = self.resolve_of(&follow_up.incident_key).unwrap_or(Resolve { sentry_at, received_at });
        let latest =
            Resolve { sentry_at: sentry_at.max(before.sentry_at), received_at: received_at.max(before.received_at) };
        self.resolves.insert(&follow_up.incident_key, Some(latest));
    }

    /// Marks the triggers of an incident that PagerDuty has not accepted and Sentry did not receive after this resolve,
    /// so that nobody retries them unknowingly once they are dead letters. An incident that issues share is open or
    /// resolved for each integration by itself, at `service_key`.
    fn mark_resolved(
        &mut self,
        incident_key: &'b IncidentKey,
        service_key: Option<&'b ServiceKey>,
        follow_up: &'b FollowUp,
        now: DateTime<Utc>,
    ) {
        let (sent_at, received_at) = (follow_up.sentry_at, follow_up.received_at);
        for row in self.plan.rows.iter_mut().filter(|row| row.envelope.is_trigger()) {
            let is_there = row.envelope.incident_key == *incident_key
                && service_key.is_none_or(|key| row.envelope.service_key == *key);
            if is_there && times::is_resolved(row.sentry_at, sent_at, now) {
                row.resolved_at = Some(received_at);
            }
        }
        self.plan.trigger_marks.push(TriggerMark::Resolved { incident_key, service_key, received_at, sent_at, now });
    }

    /// Forgets the resolve of an incident that was opened again, unless Sentry sent the resolve after that. Its dead
    /// letters may be retried again.
    fn reopen(&mut self, follow_up: &'b FollowUp) {
        let incident_key = &follow_up.incident_key;
        let reopened_at = follow_up.sentry_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
        if self.resolve_of(incident_key).is_some_and(|resolve| resolve.sentry_at <= reopened_at) {
            self.resolves.insert(incident_key, None);
        }
        self.plan.trigger_marks.push(TriggerMark::NotResolved { incident_key, service_key: None });
        let shared = self.shared_issues.of(incident_key).into_iter().map(|((incident_key, service_key), _)| {
            TriggerMark::NotResolved { incident_key, service_key: Some(service_key) }
        });
        self.plan.trigger_marks.extend(shared);
    }

    /// Whether it is a copy of a resolve that was received before. A webhook that was not seen before is remembered.
    fn is_replayed(&mut self, follow_up: &'b FollowUp) -> bool {
        let Some(key) = &follow_up.dedup.replay_key else { return false };
        let (incident_key, event_type) = (&follow_up.incident_key, follow_up.event_type());
        if self.was_seen(key) {
            // A trigger is never dropped as a copy, because it closes nothing.
            return event_type == EventType::Resolve;
        }
        self.plan.seen.push((key, incident_key, event_type));
        if follow_up.dedup.allows_identical_resolve {
            self.forget_seen_resolves(incident_key);
        }
        false
    }

    /// Forgets the seen resolves of an incident: its next resolve may be identical to the last.
    fn forget_seen_resolves(&mut self, incident_key: &'b IncidentKey) {
        let is_one = |key: &IncidentKey, event_type| key == incident_key && event_type == EventType::Resolve;
        self.plan.seen.retain(|(_, key, event_type)| !is_one(key, *event_type));
        self.plan.forget_seen.push(incident_key);
        let known = self.known.seen.iter().filter(|(_, (key, event_type))| is_one(key, *event_type));
        self.forgotten.extend(known.map(|(key, _)| key));
    }

    pub(super) fn was_seen(&self, key: &DedupKey) -> bool {
        self.plan.seen.iter().any(|(seen, ..)| *seen == key)
            || self.known.seen.contains_key(key) && !self.forgotten.contains(key)
    }
}

/// Returns the incidents of an issue that is back, of all that are `known`, each with whether it is open. A closed one is
/// left out where the settings have replaced it:
///
/// - its integration is configured no more, and nobody might see it there: the alert goes where it is routed now instead;
/// - `BRIDGE_INCIDENT_KEY` was changed since, and the same integration has an incident that is open or of the kind that is
///   set now: one problem is one page.
fn current<'b>(
    known: &[(IncidentQueueRef<'b>, bool)],
    follow_up: &'b FollowUp,
    reopening: &'b Reopening,
) -> Vec<IncidentQueueRef<'b>> {
    let is_configured = |queue: IncidentQueueRef<'b>| reopening.configured.contains(queue.1);
    let is_current = |queue: IncidentQueueRef<'b>| match &reopening.shared_prefix {
        Some(prefix) => queue.0.as_str().starts_with(prefix),
        None => *queue.0 == follow_up.incident_key,
    };
    let preferred = known.iter().filter(|(queue, is_open)| *is_open || is_current(*queue));
    let preferred: BTreeSet<_> = preferred.map(|(queue, _)| queue.1).collect();
    let stays =
        |queue: IncidentQueueRef<'b>| is_configured(queue) && (is_current(queue) || !preferred.contains(queue.1));
    let mut queues: Vec<_> =
        known.iter().filter(|(queue, is_open)| *is_open || stays(*queue)).map(|(queue, _)| *queue).collect();
    let moves = known.iter().any(|(queue, is_open)| !is_open && !is_configured(*queue));
    if moves && !queues.iter().any(|queue| *queue.1 == reopening.service_key) {
        queues.push((follow_up.shared_key.as_ref().unwrap_or(&follow_up.incident_key), &reopening.service_key));
    }
    queues
}

/// The API that is configured for an integration.
fn api(follow_up: &FollowUp, key: &ServiceKey) -> ApiVersion {
    follow_up.apis.destination(key).api
}

/// The issues of shared incidents while a batch is decided.
pub(super) struct SharedIssues<'b> {
    states: BTreeMap<(&'b IncidentKey, IncidentQueueRef<'b>), SharedIssue>,
    /// The issues that this batch changes.
    changed: BTreeSet<(&'b IncidentKey, IncidentQueueRef<'b>)>,
    /// The shared incidents in which other issues than those in `states` are open.
    open_otherwise: &'b BTreeSet<IncidentQueueKey>,
}

impl<'b> SharedIssues<'b> {
    pub(super) fn new(known: &'b Known) -> Self {
        let states = known
            .shared_issues
            .iter()
            .map(|((issue_key, queue), member)| ((issue_key, (&queue.incident_key, &queue.service_key)), *member));
        Self { states: states.collect(), changed: BTreeSet::new(), open_otherwise: &known.open_otherwise }
    }

    /// The shared incidents that an issue is or was open in.
    pub(super) fn of(&self, issue_key: &IncidentKey) -> Vec<(IncidentQueueRef<'b>, SharedIssue)> {
        let of_issue = self.states.iter().filter(|((key, _), _)| *key == issue_key);
        of_issue.map(|((_, queue), member)| (*queue, *member)).collect()
    }

    /// Marks an issue as open, because an alert of it was received.
    pub(super) fn open(
        &mut self,
        issue_key: &'b IncidentKey,
        queue: IncidentQueueRef<'b>,
        received_at: DateTime<Utc>,
        sentry_at: Option<DateTime<Utc>>,
    ) {
        let member = (issue_key, queue);
        let before = self.states.get(&member);
        let received_at = before.map_or(received_at, |before| before.received_at.max(received_at));
        let sentry_at = before.and_then(|before| before.sentry_at).max(sentry_at);
        self.states.insert(member, SharedIssue { is_open: true, received_at, sentry_at });
        self.changed.insert(member);
    }

    /// Marks an issue as resolved.
    pub(super) fn close(&mut self, issue_key: &'b IncidentKey, queue: IncidentQueueRef<'b>) {
        let member = (issue_key, queue);
        if let Some(state) = self.states.get_mut(&member)
            && state.is_open
        {
            state.is_open = false;
            self.changed.insert(member);
        }
    }

    /// Whether any issue is open in an incident.
    pub(super) fn keep_open(&self, queue: IncidentQueueRef<'b>) -> bool {
        self.states.iter().any(|((_, other), member)| *other == queue && member.is_open)
            || self.open_otherwise.contains(&owned(queue))
    }

    pub(super) fn into_changes(self) -> Vec<(&'b IncidentKey, IncidentQueueKey, SharedIssue)> {
        let states = &self.states;
        let changes = self.changed.iter().filter_map(|member| Some((member.0, owned(member.1), *states.get(member)?)));
        changes.collect()
    }
}
