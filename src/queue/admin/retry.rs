//! Retries dead letters, which are requeued at their places, and rejected webhooks, which are mapped again by this
//! version and the current settings.

use std::collections::{HashMap, HashSet};

use super::{Editor, sorted};
use crate::ingest::{Decision, IgnoreReason, Ingest, Rejection, Webhook};
use crate::pagerduty::{EventType, IncidentKey, SentryOrigin};
use crate::queue::decide::dedup_window::DEDUP_WINDOW;
use crate::queue::{
    EnqueueRequest, Enqueued, Envelope, EventId, ItemId, QueueError, Reader, RejectedId, ResolvedTriggers, State,
};

/// The outcome of retrying a dead letter or a rejected webhook.
#[derive(Clone, Debug, PartialEq)]
pub enum Retried {
    /// It was a dead letter, and is requeued at its place.
    Requeued,
    /// It is a trigger whose incident was resolved since, so it stays a dead letter: it would open the incident again.
    ResolvedSince,
    /// It is not a dead letter, but in this state.
    NotADeadLetter(State),
    /// It is a resolve whose incident was triggered again since, so it stays a dead letter: it would close the
    /// incident.
    TriggeredSince,
    /// The queue has no event or rejected webhook with this number.
    NotFound,
    /// The webhook became these events of an incident, and was deleted.
    Queued {
        /// The incident.
        incident_key: IncidentKey,
        /// The events, or the waiting ones that it was folded into.
        events: Vec<EventId>,
    },
    /// The webhook is ignored, and was deleted.
    Ignored(IgnoreReason),
    /// The webhook is about an incident that is not open, and was deleted.
    NothingOpen(IncidentKey),
    /// The webhook is still rejected, and is kept.
    StillRejected(Rejection),
    /// The webhook no longer exists: someone else retried or deleted it at the same time.
    Changed,
}

impl Retried {
    /// Whether nothing is left to do about it.
    #[must_use]
    pub fn is_well(&self) -> bool {
        !matches!(
            self,
            Self::ResolvedSince
                | Self::TriggeredSince
                | Self::NotADeadLetter(_)
                | Self::NotFound
                | Self::StillRejected(_)
        )
    }
}

/// Retries each of `ids` once.
///
/// # Errors
///
/// When not all of it could be committed.
pub async fn retry(
    editor: &mut Editor,
    ingest: &Ingest,
    ids: &[ItemId],
    resolved: ResolvedTriggers,
) -> Result<Vec<(ItemId, Retried)>, QueueError> {
    let (events, webhooks) = sorted(ids);
    let mut outcomes: Vec<_> = requeue(editor, &events, resolved)
        .await?
        .into_iter()
        .map(|(id, outcome)| (ItemId::Event(id), outcome))
        .collect();
    for id in webhooks {
        outcomes.push((ItemId::Rejected(id), reprocess(editor, ingest, id).await?));
    }
    Ok(outcomes)
}

/// Requeues dead letters at their places.
///
/// # Errors
///
/// When not all of it could be committed.
pub async fn requeue(
    editor: &mut Editor,
    events: &[EventId],
    resolved: ResolvedTriggers,
) -> Result<Vec<(EventId, Retried)>, QueueError> {
    let requeued: HashSet<_> = editor.requeue(events, resolved).await?.into_iter().collect();
    let others: Vec<_> = events.iter().copied().filter(|id| !requeued.contains(id)).collect();
    let others = editor.reader().summaries(&others).await?;
    let others: HashMap<_, _> = others.into_iter().map(|event| (event.id, (event.state, event.event_type))).collect();
    let outcome = |id: &EventId| match others.get(id) {
        _ if requeued.contains(id) => Retried::Requeued,
        // An event that is still dead was left a dead letter on purpose.
        Some((State::Dead, EventType::Trigger)) => Retried::ResolvedSince,
        Some((State::Dead, _)) => Retried::TriggeredSince,
        Some((state, _)) => Retried::NotADeadLetter(*state),
        None => Retried::NotFound,
    };
    Ok(events.iter().map(|id| (*id, outcome(id))).collect())
}

/// Decides on a rejected webhook again, by this version and the current settings.
///
/// # Errors
///
/// When it could not be committed.
pub async fn reprocess(editor: &mut Editor, ingest: &Ingest, id: RejectedId) -> Result<Retried, QueueError> {
    let Some(rejected) = editor.reader().rejected(id).await? else {
        return Ok(Retried::NotFound);
    };
    match decide(editor.reader(), ingest, &rejected.webhook()).await? {
        Decision::Enqueue(enqueue) => readmit(editor, id, *enqueue).await,
        Decision::Ignored(reason) => {
            editor.discard_rejected(id).await?;
            Ok(Retried::Ignored(reason))
        }
        Decision::Rejected(rejection) => {
            editor.reject_again(id, rejection.to_string()).await?;
            Ok(Retried::StillRejected(rejection))
        }
    }
}

async fn readmit(editor: &mut Editor, id: RejectedId, enqueue: EnqueueRequest) -> Result<Retried, QueueError> {
    let incident_key = enqueue.incident_key().clone();
    Ok(match editor.readmit(id, enqueue).await? {
        Some(Enqueued::Queued(events)) => {
            Retried::Queued { incident_key, events: events.into_iter().map(|event| event.id).collect() }
        }
        Some(Enqueued::Ignored(IgnoreReason::NothingOpen(_))) => Retried::NothingOpen(incident_key),
        Some(Enqueued::Ignored(reason)) => Retried::Ignored(reason),
        None => Retried::Changed,
    })
}

/// Decides on a webhook that came earlier, by this version and the current settings. An alert whose Sentry event is in
/// the queue by now, whichever webhook brought it, is a repetition.
pub(super) async fn decide(reader: &Reader, ingest: &Ingest, webhook: &Webhook<'_>) -> Result<Decision, QueueError> {
    let decision = ingest.decide(webhook);
    if let Decision::Enqueue(enqueue) = &decision
        && let EnqueueRequest::Event { envelope, .. } = &**enqueue
        && is_in_queue(reader, envelope).await?
    {
        return Ok(Decision::Ignored(IgnoreReason::Repeated));
    }
    Ok(decision)
}

/// Whether the queue already has the Sentry event of a trigger: in another trigger that was received within the dedup
/// window around the same time and waits, is dead or was delivered.
async fn is_in_queue(reader: &Reader, trigger: &Envelope) -> Result<bool, QueueError> {
    let Envelope { service_key, incident_key, body, received_at, .. } = trigger;
    let Some(event_id) = event_id_of(body) else { return Ok(false) };
    let bodies = reader.triggers_around(service_key, incident_key, *received_at, DEDUP_WINDOW).await?;
    Ok(bodies.iter().any(|body| event_id_of(body).is_some_and(|other| other == event_id)))
}

/// The id of the Sentry event that a trigger was made from, in lower case and without the dashes that only some
/// versions of Sentry write.
fn event_id_of(body: &[u8]) -> Option<String> {
    SentryOrigin::of_body(body).event_id.map(|event_id| event_id.replace('-', "").to_ascii_lowercase())
}
