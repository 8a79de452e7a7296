//! The worker's I/O, as steps that run concurrently and each return a result to the worker. A step that takes long or
//! keeps failing delays only what depends on it.
//!
//! A step that returns an [`AttemptResult`] belongs to an attempt in flight, which a shutdown waits for. One that returns a
//! [`BackgroundResult`] is abandoned at shutdown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use log::{Level, error, info, warn};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{Moment, TRANSIENT_BACKOFF};
use crate::backoff::Backoff;
use crate::cluster::Permit;
use crate::logging::log_throttled;
use crate::pagerduty::outcome::Outcome;
use crate::pagerduty::{Destination, EventsClient, OutcomeKind, ServiceKey};
use crate::queue::{
    AttemptPayload, BeginRequest, Disposition, EventId, Fence, Page, Queue, QueueError, Reader, RecentAttempts,
    Recheck, SettleRequest, WaitingKeys,
};

/// How long to wait before a database that failed is used again.
pub(super) const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait before a disposition that could not be committed because of damage is tried again.
const SETTLE_BACKOFF: Backoff = Backoff { first: Duration::from_secs(15), ceiling: Duration::from_mins(10) };

/// How many pages are read at the same time; the deliveries have as many connections to the database.
pub(super) const PAGES: usize = 2;

/// The result of one step of an attempt.
#[derive(Debug)]
pub(super) enum AttemptResult {
    /// Nothing was sent: the attempt could not be recorded, the event could not be read, or the attempt was recorded but the
    /// lease ran out meanwhile.
    NotBegun { key: ServiceKey, id: EventId, permit: Permit, error: QueueError },
    /// The attempt ended, with or without an answer from PagerDuty. `received_at` is when the newest alert that the event
    /// stands for was received.
    Ended { key: ServiceKey, id: EventId, permit: Permit, received_at: DateTime<Utc>, outcome: Outcome },
    /// The event's disposition is committed.
    Settled(EndedAttempt),
    /// The disposition cannot be committed, because the database is damaged, or because the disk is full and the event
    /// will be sent again.
    NotSettled(EndedAttempt),
}

/// The result of a step that belongs to no attempt in flight.
#[derive(Debug)]
pub(super) enum BackgroundResult {
    /// A page of a key's waiting events, which begins after `after`.
    Page { key: ServiceKey, after: Option<EventId>, page: Page },
    /// A page that could not be read; it may be requested again after [`back_off`].
    NoPage { key: ServiceKey, reason: String },
    /// The wait of [`back_off`] is over.
    BackedOff { key: ServiceKey },
    /// Whether an editor changed the queue: its generation, and the keys with waiting events if the generation is new.
    /// `None`: the queue could not be read.
    Changes(Option<(u64, Option<WaitingKeys>)>),
    /// The disposition of this event could be committed after all.
    Settled(EventId),
    /// Keys that this bridge takes over, and the attempts of the last minute. `None`: the attempts could not be read.
    TakenOver(BTreeMap<ServiceKey, Fence>, Option<RecentAttempts>),
    /// The results of rereading events that could not be read before.
    UnreadableRetried(Vec<(EventId, Recheck)>),
}

/// An attempt whose outcome is known.
#[derive(Debug)]
pub(super) struct EndedAttempt {
    pub(super) key: ServiceKey,
    pub(super) permit: Permit,
    pub(super) id: EventId,
    /// When the newest alert that the event stands for was received.
    pub(super) received_at: DateTime<Utc>,
    pub(super) kind: OutcomeKind,
    pub(super) disposition: Disposition<Moment>,
    pub(super) ended_at: Moment,
}

impl EndedAttempt {
    async fn commit(&self, queue: &Queue) -> Result<(), QueueError> {
        let now = self.permit.now();
        let wait = |next: Moment| TimeDelta::from_std(next.saturating_sub(self.ended_at)).unwrap_or_default();
        let disposition = self.disposition.clone().by_clock(|next| now + wait(next));
        match queue.settle(SettleRequest { id: self.id, disposition, at: now, fence: self.permit.fence() }).await {
            Err(QueueError::NotWaiting { .. }) => Ok(()),
            result => result,
        }
    }

    /// Logs the end of the attempt, once its disposition is committed: an event that the log calls a dead letter can then
    /// be found among the dead letters.
    pub(super) fn log(&self, now: DateTime<Utc>) {
        let Self { key, id, received_at, kind, disposition, ended_at, .. } = self;
        let event = id.get();
        match disposition {
            Disposition::Delivered { note } => {
                let after_ms = (now - *received_at).num_milliseconds();
                match note {
                    None => info!(event, service_key:% = key, after_ms; "delivered"),
                    Some(note) => warn!(event, service_key:% = key, after_ms; "delivered, but PagerDuty {note}"),
                }
            }
            Disposition::Dead { reason } => error!(event, service_key:% = key; "dead letter: PagerDuty {reason}"),
            Disposition::RetryNow { reason } => {
                log_throttled!(
                    Level::Info, "attempts were repeated at once", event, service_key:% = key;
                    "sent again at once: {reason}"
                );
            }
            Disposition::Retry { reason, next_attempt_at, .. } => {
                let seconds = next_attempt_at.saturating_sub(*ended_at).as_secs_f32();
                let repeated = match kind {
                    OutcomeKind::Untrusted => {
                        log_throttled!(
                            Level::Error, "attempts found no trusted PagerDuty", event, service_key:% = key;
                            "nothing is sent, PagerDuty cannot be trusted: {reason}; next attempt in {seconds:.1} s"
                        );
                        return;
                    }
                    OutcomeKind::NetworkError | OutcomeKind::Dropped => Cow::from("attempts did not reach PagerDuty"),
                    OutcomeKind::Throttled => format!("attempts were throttled on the key {key}").into(),
                    _ => format!("attempts failed on the key {key}").into(),
                };
                log_throttled!(
                    Level::Warn, repeated, event, service_key:% = key;
                    "not delivered yet: {reason}; next attempt in {seconds:.1} s"
                );
            }
        }
    }
}

/// Records an attempt and makes it. `skipped` are earlier events of the service key that cannot be read, and that the event
/// does not wait for.
pub(super) async fn attempt(
    queue: Queue,
    client: EventsClient,
    key: ServiceKey,
    id: EventId,
    skipped: Vec<EventId>,
    permit: Permit,
) -> AttemptResult {
    match queue.begin(BeginRequest { id, at: permit.now(), skipped, fence: permit.fence() }).await {
        // The commit may have taken longer than what was left of the lease.
        Ok(_) if !permit.is_valid() => AttemptResult::NotBegun { key, id, permit, error: QueueError::Fenced(id) },
        Ok(AttemptPayload { api, body, received_at }) => {
            let outcome = client.send(&Destination { api, service_key: key.clone() }, body).await;
            AttemptResult::Ended { key, id, permit, received_at, outcome }
        }
        Err(error) => AttemptResult::NotBegun { key, id, permit, error },
    }
}

/// Commits an event's disposition, and retries until the database takes it, unless the database is damaged. A disposition
/// by which the event is sent again does not wait for space on a full disk: people would not get the event while the disk
/// is full.
pub(super) async fn settle(queue: Queue, attempt: EndedAttempt) -> AttemptResult {
    loop {
        let Err(error) = attempt.commit(&queue).await else { return AttemptResult::Settled(attempt) };
        log_throttled!(
            Level::Error, "answers of PagerDuty could not be stored at once", event = attempt.id.get();
            "PagerDuty's answer cannot be stored yet: {error}"
        );
        let is_sent_again = matches!(attempt.disposition, Disposition::RetryNow { .. } | Disposition::Retry { .. });
        if error.is_damage() || is_sent_again && matches!(error, QueueError::Full { .. }) {
            return AttemptResult::NotSettled(attempt);
        }
        sleep(DATABASE_PAUSE).await;
    }
}

/// Commits an event's disposition once the damage is repaired.
pub(super) async fn settle_after_repair(queue: Queue, attempt: EndedAttempt) -> BackgroundResult {
    let mut failures = 1;
    loop {
        sleep(SETTLE_BACKOFF.pause_with_jitter(failures, rand::random())).await;
        if attempt.commit(&queue).await.is_ok() {
            return BackgroundResult::Settled(attempt.id);
        }
        failures += 1;
    }
}

/// Reads a page of a key's waiting events. `turns` limits how many pages are read at the same time.
pub(super) async fn page(
    reader: Reader,
    turns: Arc<Semaphore>,
    key: ServiceKey,
    after: Option<EventId>,
    limit: u32,
) -> BackgroundResult {
    // Turns are given in the order of the requests. The semaphore is never closed.
    let _turn = turns.acquire().await;
    match reader.page(&key, after, limit).await {
        Ok(page) => BackgroundResult::Page { key, after, page },
        Err(error) => {
            log_throttled!(
                Level::Error, "reads of the queue failed", service_key:% = key;
                "the queue of this key cannot be read: {error}"
            );
            BackgroundResult::NoPage { key, reason: error.to_string() }
        }
    }
}

/// Reads whether an editor changed the queue since the generation `known`.
pub(super) async fn changes(reader: Reader, known: u64) -> BackgroundResult {
    let found = async {
        let generation = reader.generation().await?;
        let keys = if generation == known { None } else { Some(reader.waiting_keys().await?) };
        Ok::<_, QueueError>((generation, keys))
    };
    BackgroundResult::Changes(match found.await {
        Ok(changes) => Some(changes),
        Err(error) => {
            log_throttled!(Level::Warn, "reads of the queue failed"; "the queue cannot be read: {error}");
            None
        }
    })
}

/// Reads the attempts that the rate limiters have to count for keys that another bridge delivered for until now.
pub(super) async fn take_over(
    reader: Reader,
    keys: BTreeMap<ServiceKey, Fence>,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
    most: u32,
) -> BackgroundResult {
    match reader.attempts_since(since, now, most).await {
        Ok(attempts) => BackgroundResult::TakenOver(keys, Some(attempts)),
        Err(error) => {
            log_throttled!(
                Level::Warn, "reads of the queue failed";
                "the queue cannot be read, so service keys are not taken over yet: {error}"
            );
            BackgroundResult::TakenOver(keys, None)
        }
    }
}

/// Tries again to read events that could not be read.
pub(super) async fn retry_unreadable(reader: Reader, ids: Vec<EventId>) -> BackgroundResult {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        // After an error, the rest is left to the next time.
        let Ok(looked) = reader.recheck(id).await else { break };
        found.push((id, looked));
    }
    BackgroundResult::UnreadableRetried(found)
}

/// Waits before a key's waiting events are read again, after `failures` failures in a row.
pub(super) async fn back_off(key: ServiceKey, failures: u32) -> BackgroundResult {
    sleep(TRANSIENT_BACKOFF.pause_with_jitter(failures, rand::random())).await;
    BackgroundResult::BackedOff { key }
}
