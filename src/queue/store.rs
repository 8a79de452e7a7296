//! The interface of a storage engine: it reads what a batch depends on, and writes what was decided.
//!
//! The writer asks [`decide`](super::decide) for its [`Dependencies`], has them loaded as [`Known`], and applies the
//! [`Plan`] that is decided from both, all in one transaction.
//!
//! An engine applies what was decided, and decides nothing about incidents, with two exceptions. They concern stored events
//! that are not loaded, so their rules are in the SQL of each engine, too: which triggers a resolve resolves, as
//! `times::is_resolved` says ([`TriggerMark::Resolved`]), and which alerts of discarded triggers catch-up does not count as
//! missing. The tests of the queue in memory compare each engine with it, which shows a deviation of the first.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::decide::times::OvertakingWindow;
use super::event::{AttemptPayload, EventId, State, with_counts_of};
use super::external::SentryNotes;
use super::held::{HeldId, HeldWebhook};
use super::leases::Fence;
use super::{CanaryChange, IssueUpdateChange, OutageNotice, Proof, QueueError, RejectedId, RejectedWebhook};
use crate::envelope::{DedupKey, Envelope};
use crate::metrics::PersistedMetrics;
use crate::pagerduty::{ApiSet, ApiVersion, EventType, IncidentKey, ServiceKey};

/// The storage of a queue, for one writer: another writer has its own.
pub(super) trait Store: Send + 'static {
    /// Whether several bridges write to this store. Dedup keys are then stored in it, so that each bridge recognises
    /// webhooks that another one received.
    const IS_SHARED_BY_BRIDGES: bool;

    /// Whether its calls block their thread until they are done, so that the writer needs a thread of its own.
    const BLOCKS: bool;

    /// Reads what `dependencies` names, and prevents others from changing that until [`apply`](Self::apply): the first half of
    /// a transaction. An engine that several bridges share locks the incident queues in the order of `dependencies`, and leaves
    /// out events that another bridge delivers.
    fn load(&mut self, dependencies: &Dependencies) -> impl Future<Output = Result<Known, QueueError>> + Send;

    /// Writes the plan and commits: the second half. After an error nothing of the plan is stored, and the next `load`
    /// begins a new transaction.
    fn apply(&mut self, plan: &Plan<'_>) -> impl Future<Output = Result<Committed, QueueError>> + Send;

    /// How long after its first try a transaction that was interrupted may be tried again; zero if transactions are never
    /// interrupted.
    fn retry_within(&self) -> Duration {
        Duration::ZERO
    }

    /// Reads what `dependencies` names without a transaction, even while nothing can be written.
    fn peek(&mut self, dependencies: &Dependencies) -> impl Future<Output = Result<Known, QueueError>> + Send;

    /// Deletes delivered events and closed incidents, and returns how many events those were.
    fn prune(&mut self, prune: Prune) -> impl Future<Output = Result<u64, QueueError>> + Send;

    /// Stores what the metrics need after a restart.
    fn persist_metrics(&mut self, metrics: &PersistedMetrics) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Stores what was learned from Sentry's API.
    fn write_sentry_notes(&mut self, notes: &SentryNotes) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Stores what happened to a canary, and returns when it was sent. Returns `None` if nothing changed: the canary had
    /// come back before, or is not stored. If there are too many canaries, the oldest are deleted.
    fn write_canary(
        &mut self,
        change: &CanaryChange,
    ) -> impl Future<Output = Result<Option<DateTime<Utc>>, QueueError>> + Send;

    /// Stores what happened to an update of an issue. Returns `false` if nothing changed: the webhook had come before, or
    /// the update has already ended. Updates that ended long ago are deleted.
    fn write_issue_update(
        &mut self,
        change: &IssueUpdateChange,
    ) -> impl Future<Output = Result<bool, QueueError>> + Send;

    /// Stores the last message to the fallback webhook.
    fn write_outage_notice(&mut self, notice: OutageNotice) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Stores what became of a delivered event, unless the event was deleted.
    fn write_proof(&mut self, proof: &Proof) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Gives at most `pages` empty pages back to the file system, and returns how many are left.
    fn shrink(&mut self, pages: u32) -> impl Future<Output = Result<u64, QueueError>> + Send;

    /// Checks whether the committed data is still where it should be, and repairs what can be repaired.
    fn check(&mut self) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Stops using the database.
    fn close(self) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// A connection for changes from outside, beside a running bridge, which notices each of them.
#[async_trait]
pub(super) trait EditorStore: Debug + Send {
    /// As [`Store::load`].
    async fn load(&mut self, dependencies: &Dependencies) -> Result<Known, QueueError>;

    /// As [`Store::apply`]. It also changes what [`generation`](super::DeliveryReads::generation) returns.
    async fn apply(&mut self, plan: &Plan<'_>) -> Result<Committed, QueueError>;

    /// As [`Store::write_sentry_notes`].
    async fn write_sentry_notes(&mut self, notes: &SentryNotes) -> Result<(), QueueError>;

    /// Stops using the database.
    async fn close(self: Box<Self>) -> Result<(), QueueError>;
}

/// For how long the attempts of discarded events are kept, counted back from the latest of them. The rate limiter looks
/// back over one minute and the longest time an attempt takes.
pub(super) const KEEP_DISCARDED_ATTEMPTS: TimeDelta = TimeDelta::minutes(30);

/// The events of one incident at one integration, which are delivered in their order.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct IncidentQueueKey {
    pub(super) incident_key: IncidentKey,
    pub(super) service_key: ServiceKey,
}

/// Which delivered events and closed incidents are deleted, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prune {
    /// Events that were delivered before this moment.
    pub(super) before: DateTime<Utc>,
    /// Incidents that were closed before this moment.
    pub(super) incidents_before: DateTime<Utc>,
    /// The maximum number of each.
    pub(super) limit: u32,
}

/// What a batch depends on. Every list is sorted and contains no duplicates.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Dependencies {
    /// Incident queues whose last event is wanted, and the last resolves of their incidents.
    pub(super) queues: Vec<IncidentQueueKey>,
    /// Incidents of which everything is wanted: where they are open, and their waiting events.
    pub(super) incidents: Vec<IncidentKey>,
    /// Issues that may share incidents with others. Also wanted: in which shared incidents they are open, everything
    /// about those incidents, and the last resolves of the issues.
    pub(super) issues: Vec<IncidentKey>,
    /// Incidents that issues share, and in which issues are about to become open.
    pub(super) shared_incidents: Vec<IncidentQueueKey>,
    /// Webhooks that may have been received before.
    pub(super) seen: Vec<DedupKey>,
    /// Dedup keys of webhooks that other bridges may have received within the dedup window; only if the store is shared.
    pub(super) dedup_keys: Vec<DedupKey>,
    /// Events whose attempts have ended.
    pub(super) to_settle: Vec<EventId>,
    /// Events whose attempts begin, each with the events that it does not wait for.
    pub(super) to_begin: Vec<(EventId, Vec<EventId>)>,
    /// Events whose attempts began without being recorded.
    pub(super) unrecorded: Vec<EventId>,
    /// The rights by which events of `to_settle` and `to_begin` are settled and begun, the latest for each event. Events
    /// without one here need none.
    pub(super) fences: BTreeMap<EventId, Fence>,
    /// Events that are requeued or discarded.
    pub(super) to_edit: Vec<EventId>,
    /// Rejected webhooks that are changed or deleted.
    pub(super) rejected: Vec<RejectedId>,
    /// Held webhooks that are deleted.
    pub(super) held: Vec<HeldId>,
    /// Whether nothing is folded into waiting events, so that the last events of the queues are not read.
    pub(super) skips_folding: bool,
}

/// What the store has of the [`Dependencies`].
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Known {
    /// The last events of the incident queues, where alerts can be folded into them.
    pub(super) foldable: HashMap<IncidentQueueKey, FoldableTrigger>,
    pub(super) incidents: HashMap<IncidentKey, KnownIncident>,
    /// In which shared incidents the issues are or were open.
    pub(super) shared_issues: BTreeMap<(IncidentKey, IncidentQueueKey), SharedIssue>,
    /// The shared incidents in which issues other than the wanted ones are open.
    pub(super) open_otherwise: BTreeSet<IncidentQueueKey>,
    /// The last resolve of each incident, however old.
    pub(super) resolves: HashMap<IncidentKey, Resolve>,
    /// The webhooks that were received before: the incident of each, and what it did to it.
    pub(super) seen: HashMap<DedupKey, (IncidentKey, EventType)>,
    /// When a webhook with each key last came.
    pub(super) dedup_keys: HashMap<DedupKey, DateTime<Utc>>,
    /// The events that are still waiting.
    pub(super) to_settle: HashMap<EventId, EventToSettle>,
    /// The events of `to_begin` and `unrecorded` that are still waiting.
    pub(super) to_begin: HashMap<EventId, EventToBegin>,
    /// The events of `fences` whose lease now has another owner or another number, or does not exist. They are left out
    /// of `to_settle` and `to_begin`. The leases of the other events stay as they are until [`apply`](Store::apply).
    pub(super) fenced: BTreeSet<EventId>,
    pub(super) to_edit: HashMap<EventId, EventToEdit>,
    /// The rejected webhooks that still exist.
    pub(super) rejected: HashSet<RejectedId>,
    /// The held webhooks that still exist.
    pub(super) held: HashSet<HeldId>,
}

/// A waiting trigger that was never attempted. Alerts can be folded into it while it is the last event of its incident queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FoldableTrigger {
    pub(super) id: EventId,
    pub(super) count: u32,
    pub(super) first_seen: DateTime<Utc>,
    pub(super) sentry_at: Option<DateTime<Utc>>,
}

/// One incident at all integrations.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct KnownIncident {
    /// Its state at each integration, by the events that were delivered.
    pub(super) delivered: Vec<(ServiceKey, IntegrationIncident)>,
    /// Its waiting events, in their order.
    pub(super) waiting: Vec<IncidentEvent>,
}

/// An incident at one integration.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct IntegrationIncident {
    pub(super) is_open: bool,
    /// The APIs by which it was triggered since it was opened.
    pub(super) apis: ApiSet,
    /// When Sentry received the latest of its triggers, if that is known.
    pub(super) triggered_at: Option<DateTime<Utc>>,
}

/// An issue of an incident that it shares with others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SharedIssue {
    pub(super) is_open: bool,
    /// When its newest alert came.
    pub(super) received_at: DateTime<Utc>,
    /// When Sentry received the latest of its alerts, if that is known.
    pub(super) sentry_at: Option<DateTime<Utc>>,
}

/// A waiting event of an incident.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct IncidentEvent {
    pub(super) service_key: ServiceKey,
    pub(super) api: ApiVersion,
    pub(super) event_type: EventType,
    pub(super) sentry_at: Option<DateTime<Utc>>,
    /// `Some` if it is a trigger that was never attempted, wherever it is in its incident queue. Of one queue only that of
    /// the last row counts.
    pub(super) foldable: Option<FoldableTrigger>,
}

/// A resolve of an incident.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Resolve {
    /// When Sentry sent it, by Sentry's clock.
    pub(super) sentry_at: DateTime<Utc>,
    /// When it came.
    pub(super) received_at: DateTime<Utc>,
}

/// A waiting event whose attempt has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct EventToSettle {
    pub(super) queue: IncidentQueueKey,
    pub(super) api: ApiVersion,
    pub(super) event_type: EventType,
    pub(super) sentry_at: Option<DateTime<Utc>>,
    /// Whether it is stored that an attempt ended without a final answer, since it was enqueued or last requeued.
    pub(super) was_in_doubt: bool,
    /// How many attempts began since then; at least so many, if it was requeued.
    pub(super) attempts: u32,
    /// Whether the incident is known at this integration.
    pub(super) is_known: bool,
    /// If the incident is open: the APIs by which it was triggered since.
    pub(super) open_apis: ApiSet,
}

/// A waiting event whose attempt begins or began.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct EventToBegin {
    /// An earlier waiting event of its incident queue that it has to wait for.
    pub(super) earlier: Option<EventId>,
    /// Whether no attempt was recorded yet.
    pub(super) is_first: bool,
    /// The API that `body` is for.
    pub(super) api: ApiVersion,
    /// `None` where it is not needed: an unrecorded attempt of an event that stands for one alert.
    pub(super) body: Option<Vec<u8>>,
    pub(super) counts_at: Option<usize>,
    pub(super) count: u32,
    pub(super) first_seen: DateTime<Utc>,
    pub(super) received_at: DateTime<Utc>,
}

/// An event in any state that is requeued or discarded. This also works for an event with fields that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct EventToEdit {
    pub(super) state: State,
    /// `None` where a key cannot be read.
    pub(super) queue: Option<IncidentQueueKey>,
    pub(super) api: ApiVersion,
    /// `None` where it cannot be read.
    pub(super) event_type: Option<EventType>,
    pub(super) sentry_at: Option<DateTime<Utc>>,
    pub(super) attempts: u32,
    pub(super) last_attempt_at: Option<DateTime<Utc>>,
    /// When it was delivered or became a dead letter.
    pub(super) finished_at: Option<DateTime<Utc>>,
    /// When a resolve of its incident came after it.
    pub(super) resolved_at: Option<DateTime<Utc>>,
    /// Whether a later trigger of its incident queue waits.
    pub(super) trigger_waits: bool,
    /// If its incident is open: the event that opened it, if that is known, and when it was opened.
    pub(super) opened: Option<(Option<EventId>, DateTime<Utc>)>,
    /// If its incident is open: the APIs by which it was triggered since.
    pub(super) open_apis: ApiSet,
}

/// What one transaction writes: the result of a whole batch.
///
/// Every engine has to write in this order: changes by people first; `attempts`, `bodies` and trigger marks before `rows`;
/// within a table, deletions before insertions. The rest may be written in any order, because it is one transaction.
#[derive(Debug, Default)]
pub(super) struct Plan<'b> {
    /// Whether to write something as large as a large alert.
    pub(super) is_probe: bool,
    /// Dead letters to requeue, each with the time of the requeue. `blamed_ms` is set to zero; `reason`, `next_attempt_at`
    /// and `finished_at` are cleared. Their attempts stay as they are, because the rate limiter counts them.
    pub(super) requeued: Vec<(EventId, DateTime<Utc>)>,
    /// Events that are deleted, with their bodies.
    pub(super) discarded: Vec<EventId>,
    /// What the rate limiter has to know of them after a restart: the service key, when the last attempt began, and how
    /// many there were. Kept for [`KEEP_DISCARDED_ATTEMPTS`].
    pub(super) discarded_attempts: Vec<(&'b ServiceKey, DateTime<Utc>, u32)>,
    /// Rejected webhooks that are deleted.
    pub(super) forget_rejected: Vec<RejectedId>,
    /// Held webhooks that are deleted.
    pub(super) forget_held: Vec<HeldId>,
    /// The new reasons of webhooks that were rejected once more.
    pub(super) reasons: Vec<(RejectedId, &'b str)>,
    /// Attempts that begin or began.
    pub(super) attempts: Vec<AttemptUpdate>,
    /// Events whose bodies are replaced by bodies with the counts inserted.
    pub(super) bodies: Vec<(EventId, Vec<u8>)>,
    /// Delete resolves that came outside of this window.
    pub(super) forget_resolves: Option<OvertakingWindow>,
    /// Marks on stored triggers, in their order. The events in `rows` already have their final values.
    pub(super) trigger_marks: Vec<TriggerMark<'b>>,
    /// New events, and events with more alerts folded into them, in the order of their queues.
    pub(super) rows: Vec<EventWrite<'b>>,
    /// Issues that are open in shared incidents from now on, or no longer.
    pub(super) shared_issues: Vec<(&'b IncidentKey, IncidentQueueKey, SharedIssue)>,
    /// The last resolves of incidents; `None`: no longer kept.
    pub(super) resolves: Vec<(&'b IncidentKey, Option<Resolve>)>,
    /// Incidents whose seen resolves are deleted.
    pub(super) forget_seen: Vec<&'b IncidentKey>,
    /// Webhooks that are seen from now on.
    pub(super) seen: Vec<(&'b DedupKey, &'b IncidentKey, EventType)>,
    /// The dedup keys of webhooks, each once, with the time the webhook came; only if the store is shared.
    pub(super) dedup_keys: Vec<(&'b DedupKey, DateTime<Utc>)>,
    /// What happens to events after their attempts.
    pub(super) settled: Vec<EventStateUpdate<'b>>,
    /// Incidents that PagerDuty has opened or closed by now.
    pub(super) incidents: Vec<IncidentUpdate<'b>>,
    /// Rejected webhooks to keep.
    pub(super) rejected: Vec<&'b RejectedWebhook>,
    /// Webhooks to hold.
    pub(super) held: Vec<&'b HeldWebhook>,
}

/// Attempts of an event to be recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct AttemptUpdate {
    pub(super) id: EventId,
    /// How many attempts the batch adds to those that are stored.
    pub(super) added_attempts: u32,
    /// When the last of them began.
    pub(super) last_at: DateTime<Utc>,
}

/// A mark on the stored triggers of an incident, at one integration or, without a `service_key`, at all of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TriggerMark<'b> {
    /// Marks its waiting and dead triggers as resolved, except those that Sentry received in a later second than that in
    /// which it sent the resolve. A trigger with a time later than `now` is marked as well, because a clock was ahead.
    Resolved {
        incident_key: &'b IncidentKey,
        service_key: Option<&'b ServiceKey>,
        received_at: DateTime<Utc>,
        sent_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    },
    /// Marks its dead triggers as no longer resolved.
    NotResolved { incident_key: &'b IncidentKey, service_key: Option<&'b ServiceKey> },
}

/// A new event to write, or a stored one with more alerts folded into it.
#[derive(Clone, Debug)]
pub(super) struct EventWrite<'b> {
    /// The stored event that it replaces; `None`: it is a new event, whose number the store chooses.
    pub(super) replaces: Option<EventId>,
    /// The newest event it stands for.
    pub(super) envelope: Cow<'b, Envelope>,
    /// How many alerts it stands for.
    pub(super) count: u32,
    /// When the first of them came.
    pub(super) first_seen: DateTime<Utc>,
    /// When Sentry received the latest of them.
    pub(super) sentry_at: Option<DateTime<Utc>>,
    /// When a resolve of its incident came after it.
    pub(super) resolved_at: Option<DateTime<Utc>>,
}

/// What is stored of an event that is settled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct EventStateUpdate<'b> {
    pub(super) id: EventId,
    pub(super) state: State,
    pub(super) reason: Option<&'b str>,
    pub(super) finished_at: Option<DateTime<Utc>>,
    pub(super) next_attempt_at: Option<DateTime<Utc>>,
    /// In milliseconds; `None`: unchanged.
    pub(super) blamed_ms: Option<i64>,
}

/// A change of the state that an incident has in PagerDuty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct IncidentUpdate<'b> {
    pub(super) queue: &'b IncidentQueueKey,
    pub(super) is_open: bool,
    /// The APIs by which it was triggered since it was opened, or had been when it was closed.
    pub(super) apis: ApiSet,
    pub(super) changed_at: DateTime<Utc>,
    /// The event that caused the change.
    pub(super) event_id: EventId,
    /// When Sentry received its trigger. The store keeps the latest time.
    pub(super) sentry_at: Option<DateTime<Utc>>,
}

/// The numbers that the store chose.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The number of the event of every row of the plan: a chosen one, or that of the replaced event.
    pub(super) event_ids: Vec<EventId>,
    pub(super) rejected: Vec<RejectedId>,
}

impl EventToBegin {
    /// The body that a first attempt sends.
    pub(super) fn first_body(&self) -> Option<Vec<u8>> {
        let body = self.body.clone()?;
        Some(with_counts_of(body, self.counts_at, self.count, self.first_seen))
    }

    pub(super) fn payload(&self, body: Vec<u8>) -> AttemptPayload {
        AttemptPayload { api: self.api, body, received_at: self.received_at }
    }
}
