//! Carries out what the scheduler decides: records an attempt, makes it, commits its disposition.
//!
//! Events are delivered even while nothing can be committed, such as on a full disk: the queue then lets the attempt begin
//! and records it later, see [`Queue::begin`]. The disposition is committed as soon as that is possible again, and the
//! event's incident stops until then. The event is sent again only if the bridge crashes before that.

mod takeover;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use log::{Level, debug, info, warn};
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::owned_keys::OwnedKeys;
use super::rate_limiter::WINDOW;
use super::scheduler::{Next, Scheduler};
use super::steps::{self, AttemptResult, BackgroundResult, DATABASE_PAUSE, EndedAttempt};
use super::unreadable::UnreadableEvents;
use super::view::{DeliveryView, Publisher};
use super::{DeliveryLimits, Moment};
use crate::cluster::{Cluster, Permit};
use crate::logging::log_throttled;
use crate::metrics::Metrics;
use crate::pagerduty::{EventsClient, OutcomeKind, ServiceKey};
use crate::queue::{Arrivals, Disposition, EventId, Queue, QueueError, Recheck, Unreadable, WaitingEvent, WaitingKeys};

/// How often to check whether an editor, such as the command `queue retry`, changed the queue.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often to read the queue again if other bridges commit to it: their notifications are only hints.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How often to try again to read events that could not be read, and how many of them.
const RETRY_UNREADABLE: (Duration, usize) = (Duration::from_mins(1), 100);

/// The wait when nothing is due: long, but bounded, so that a mistake in the scheduler cannot stop the worker forever.
const IDLE: Duration = Duration::from_mins(1);

/// Delivers the waiting events of the queue. Runs on one thread, because `awc`'s client is bound to its thread.
pub struct Worker {
    queue: Queue,
    client: EventsClient,
    cluster: Cluster,
    owned_keys: OwnedKeys,
    scheduler: Scheduler,
    arrivals: Arrivals,
    started: Instant,
    /// The queue's [generation](crate::queue::DeliveryReads::generation) that the scheduler knows.
    generation: u64,
    attempts: FuturesUnordered<LocalBoxFuture<'static, AttemptResult>>,
    background: FuturesUnordered<LocalBoxFuture<'static, BackgroundResult>>,
    /// Limits how many pages are read at the same time.
    page_turns: Arc<Semaphore>,
    /// Whether a background step checks for changes by an editor.
    is_checking: bool,
    unreadable_retried_at: Instant,
    /// How often in a row the waiting events of each key could not be read.
    read_failures: HashMap<ServiceKey, u32>,
    unreadable: UnreadableEvents,
    publisher: Publisher,
    metrics: Metrics,
}

impl Worker {
    /// Prepares deliveries from `queue`. Events enqueued from now on are not missed.
    #[must_use]
    pub fn new(queue: Queue, client: EventsClient, limits: DeliveryLimits) -> Self {
        let arrivals = queue.arrivals();
        Self {
            queue,
            client,
            cluster: Cluster::alone(),
            owned_keys: OwnedKeys::all(),
            scheduler: Scheduler::new(limits),
            arrivals,
            started: Instant::now(),
            generation: 0,
            attempts: FuturesUnordered::new(),
            background: FuturesUnordered::new(),
            page_turns: Arc::new(Semaphore::new(steps::PAGES)),
            is_checking: false,
            unreadable_retried_at: Instant::now(),
            read_failures: HashMap::new(),
            unreadable: UnreadableEvents::default(),
            publisher: Publisher::default(),
            metrics: Metrics::new(),
        }
    }

    /// Counts attempts and dead letters in `metrics`.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Delivers only for the keys that `cluster` assigns to this bridge.
    #[must_use]
    pub fn with_cluster(self, cluster: Cluster) -> Self {
        let owned_keys = if cluster.is_alone() { OwnedKeys::all() } else { OwnedKeys::none() };
        Self { cluster, owned_keys, ..self }
    }

    /// Restores the failures of an earlier run: the reason for each service key with waiting events, and why PagerDuty
    /// could not be trusted. Failures of keys that another bridge may deliver for are left out. Whether a key was throttled
    /// is taken from the metrics, which have to be restored before.
    #[must_use]
    pub fn with_earlier_failures(mut self, failures: Vec<(ServiceKey, String)>, untrusted: Option<String>) -> Self {
        let own: Vec<_> = failures.into_iter().filter(|(key, _)| self.owned_keys.has(key)).collect();
        let untrusted = untrusted.filter(|_| !own.is_empty());
        for (key, reason) in own {
            let is_throttled = self.metrics.failing(&key).is_some_and(|failing| failing.kind == OutcomeKind::Throttled);
            self.scheduler.restore_failure(&key, reason, is_throttled);
        }
        if let Some(reason) = untrusted {
            self.scheduler.restore_untrusted(reason);
        }
        self.publish();
        self
    }

    /// Returns a view of the deliveries, which is updated while the worker runs: at most twice a second, and within a
    /// second of a change.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<DeliveryView> {
        self.publisher.subscribe()
    }

    /// Delivers until `shutdown` resolves, then waits for the attempts in flight, for at most the time that `shutdown`
    /// returned. Events that are not delivered by then stay in the queue.
    pub async fn run(mut self, shutdown: impl Future<Output = Duration>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let grace = tokio::select! {
            grace = &mut shutdown => grace,
            never = self.deliver() => match never {},
        };
        let drained = timeout(grace, async {
            while let Some(result) = self.attempts.next().await {
                self.handle_attempt_result(result);
                self.publish_if_due();
            }
        });
        if drained.await.is_err() {
            warn!(attempts = self.attempts.len(); "stopped before PagerDuty answered; these events are sent again after the next start");
        }
        self.publish();
    }

    async fn deliver(&mut self) -> std::convert::Infallible {
        self.restore().await;
        let mut checks = interval(if self.cluster.is_alone() { CHECK_INTERVAL } else { POLL_INTERVAL });
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cluster = self.cluster.clone();
        loop {
            let due = self.begin_what_is_due();
            // This loop runs at every change and every check, so the view also follows what changes by time alone.
            let wake = self.publish_if_due().map_or(due, |publish| publish.min(due));
            tokio::select! {
                Some(arrival) = self.arrivals.recv() => self.take_arrivals(&arrival),
                Some(result) = self.attempts.next() => self.handle_attempt_result(result),
                Some(result) = self.background.next() => self.handle_background_result(result),
                () = cluster.changed() => self.follow_cluster(),
                _ = checks.tick() => {
                    self.follow_cluster();
                    self.start_checks();
                }
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    /// Makes the scheduler read events of these keys, by calling `read` for each.
    fn read_keys(&mut self, keys: &WaitingKeys, read: impl Fn(&mut Scheduler, &ServiceKey)) {
        self.unreadable.update_from_keys(keys).iter().for_each(log_unreadable);
        for key in keys.keys.iter().filter(|key| self.owned_keys.has(key)) {
            read(&mut self.scheduler, key);
        }
    }

    /// Passes on all events that were committed and announced: to the scheduler, or to the bridges that deliver for other
    /// keys.
    fn take_arrivals(&mut self, arrival: &WaitingEvent) {
        let mut others = BTreeSet::new();
        let mut arrived = |arrival: &WaitingEvent| {
            if self.owned_keys.has(&arrival.service_key) {
                self.scheduler.arrived(arrival);
            } else {
                others.insert(arrival.service_key.clone());
            }
        };
        arrived(arrival);
        while let Some(arrival) = self.arrivals.try_recv() {
            arrived(&arrival);
        }
        for key in self.arrivals.take_missed() {
            if self.owned_keys.has(&key) {
                self.scheduler.read_on(&key);
            } else {
                others.insert(key);
            }
        }
        if !others.is_empty() {
            self.cluster.announce(others);
        }
    }

    /// Checks whether an editor changed the queue, as the commands `queue retry` and `queue discard` do, and from time to
    /// time whether events that could not be read can be read now.
    fn start_checks(&mut self) {
        if !self.is_checking {
            self.is_checking = true;
            self.background.push(Box::pin(steps::changes(self.queue.reader().clone(), self.known_generation())));
        }
        let (pause, most) = RETRY_UNREADABLE;
        if self.unreadable_retried_at.elapsed() >= pause {
            self.unreadable_retried_at = Instant::now();
            let ids = self.unreadable.next_to_try(most);
            if !ids.is_empty() {
                self.background.push(Box::pin(steps::retry_unreadable(self.queue.reader().clone(), ids)));
            }
        }
    }

    fn begin_what_is_due(&mut self) -> Instant {
        loop {
            let now = self.now();
            match self.scheduler.next(now) {
                Next::Send { id, key } => match self.cluster.permit(&key) {
                    Some(permit) => self.attempt(key, id, Vec::new(), permit),
                    // The lease is ending; it is renewed or lost within a moment.
                    None => self.scheduler.not_begun(&key, id, now + DATABASE_PAUSE),
                },
                Next::Load { key, after } => {
                    let limit = u32::try_from(self.scheduler.limits().prefetch).unwrap_or(u32::MAX);
                    let (reader, turns) = (self.queue.reader().clone(), Arc::clone(&self.page_turns));
                    self.background.push(Box::pin(steps::page(reader, turns, key, after, limit)));
                }
                Next::Wait(moment) => {
                    let wait = moment.map_or(IDLE, |moment| moment.saturating_sub(now).min(IDLE));
                    return Instant::now() + wait;
                }
            }
        }
    }

    fn attempt(&self, key: ServiceKey, id: EventId, skipped: Vec<EventId>, permit: Permit) {
        let (queue, client) = (self.queue.clone(), self.client.clone());
        self.attempts.push(Box::pin(steps::attempt(queue, client, key, id, skipped, permit)));
    }

    fn handle_background_result(&mut self, result: BackgroundResult) {
        match result {
            BackgroundResult::Page { key, after, mut page } => {
                self.read_failures.remove(&key);
                if !self.owned_keys.has(&key) {
                    return;
                }
                self.unreadable.update_from_page(&key, after, &page).iter().for_each(log_unreadable);
                page.events.retain(|event| !self.unreadable.is_unsettled(event.id));
                self.scheduler.loaded(&key, &page);
            }
            BackgroundResult::NoPage { key, .. } if !self.owned_keys.has(&key) => {}
            BackgroundResult::NoPage { key, reason } => {
                let failures = self.read_failures.entry(key.clone()).or_default();
                *failures = failures.saturating_add(1);
                self.background.push(Box::pin(steps::back_off(key.clone(), *failures)));
                self.unreadable.key_failed(&key, reason);
            }
            BackgroundResult::Settled(id) => self.unreadable.settled(id),
            BackgroundResult::BackedOff { key } if !self.owned_keys.has(&key) => {}
            BackgroundResult::BackedOff { key } => self.scheduler.not_loaded(&key),
            BackgroundResult::TakenOver(keys, attempts) => self.complete_takeovers(keys, attempts),
            BackgroundResult::Changes(changes) => {
                self.is_checking = false;
                let Some((generation, keys)) = changes else { return };
                self.generation = generation;
                if let Some(keys) = keys {
                    self.read_keys(&keys, Scheduler::reread);
                }
            }
            BackgroundResult::UnreadableRetried(found) => {
                for (id, found) in found {
                    match found {
                        Recheck::Readable(key) => {
                            info!(event = id.get(), service_key:% = key; "the event can be read again and will be delivered");
                            self.unreadable.remove(id);
                            if self.owned_keys.has(&key) {
                                self.scheduler.reread(&key);
                            }
                        }
                        Recheck::Gone => self.unreadable.remove(id),
                        Recheck::Unreadable => {}
                    }
                }
            }
        }
    }

    fn handle_attempt_result(&mut self, result: AttemptResult) {
        let (now, is_own) = (self.now(), self.is_own(&result));
        match result {
            AttemptResult::NotBegun { .. } if !is_own => self.scheduler.ended_elsewhere(),
            AttemptResult::NotBegun { key, id, permit, error } => self.not_begun(key, id, permit, &error),
            AttemptResult::Ended { key, id, permit, received_at, outcome } => {
                self.cluster.attempted(outcome.kind());
                self.metrics.count_attempt(&key, outcome.kind(), received_at, Utc::now());
                if !is_own {
                    if let Some(attempt) = self.answered_elsewhere(key, id, permit, received_at, &outcome) {
                        self.attempts.push(Box::pin(steps::settle(self.queue.clone(), attempt)));
                    }
                    return;
                }
                let disposition = self.scheduler.answered(&key, id, &outcome, now, rand::random());
                let kind = outcome.kind();
                let attempt = EndedAttempt { key, permit, id, received_at, kind, disposition, ended_at: now };
                self.attempts.push(Box::pin(steps::settle(self.queue.clone(), attempt)));
            }
            AttemptResult::Settled(_) | AttemptResult::NotSettled(_) if !is_own => {}
            AttemptResult::Settled(attempt) => self.settled(&attempt),
            AttemptResult::NotSettled(attempt) => {
                // The incident goes on anyway; otherwise its later events would never be sent.
                self.settled(&attempt);
                if let Disposition::Delivered { .. } | Disposition::Dead { .. } = attempt.disposition {
                    self.unreadable.unsettled(attempt.id, attempt.key.clone());
                    self.background.push(Box::pin(steps::settle_after_repair(self.queue.clone(), attempt)));
                }
            }
        }
    }

    fn not_begun(&mut self, key: ServiceKey, id: EventId, permit: Permit, error: &QueueError) {
        match error {
            QueueError::NotWaiting { .. } => {
                debug!(event = id.get(); "not sent, because it does not wait any more");
                self.scheduler.gone(&key, id);
            }
            // The incident does not wait for events that cannot be read.
            QueueError::Behind { earlier, .. } if self.unreadable.contains(*earlier) => {
                let skipped = self.unreadable.before(&key, id);
                self.attempt(key, id, skipped, permit);
            }
            QueueError::Fenced(_) => {
                debug!(event = id.get(); "not sent, because another bridge delivers for its service key by now");
                self.scheduler.not_begun(&key, id, self.now() + DATABASE_PAUSE);
            }
            QueueError::Behind { earlier, .. } => {
                debug!(event = id.get(); "waits for event {earlier}, which was put back into the queue");
                self.scheduler.blocked(&key, id);
            }
            error if error.is_damage() => {
                self.scheduler.gone(&key, id);
                let event = Unreadable { id, service_key: Some(key), reason: error.of_one_event() };
                if self.unreadable.add(event.clone()) {
                    log_unreadable(&event);
                }
            }
            error => {
                log_throttled!(
                    Level::Error, "attempts could not begin", event = id.get(), service_key:% = key;
                    "not sent yet, because its attempt could not be recorded: {error}"
                );
                self.scheduler.not_begun(&key, id, self.now() + DATABASE_PAUSE);
            }
        }
    }

    fn settled(&mut self, attempt: &EndedAttempt) {
        if let Disposition::Dead { .. } = attempt.disposition {
            self.metrics.count_dead();
        }
        attempt.log(Utc::now());
        self.scheduler.settled(&attempt.key, attempt.id, &attempt.disposition);
    }

    /// Publishes the view, unless one was published a moment ago; in that case, returns when the next one is due.
    fn publish_if_due(&mut self) -> Option<Instant> {
        let next = self.publisher.next_at(Instant::now());
        if next.is_none() {
            self.publish();
        }
        next
    }

    fn publish(&mut self) {
        let clock = self.now();
        let view = DeliveryView { unreadable: self.unreadable.view(), ..self.scheduler.view(clock) };
        self.metrics.set_untrusted(view.untrusted.clone());
        self.publisher.publish(view, clock, Instant::now(), Utc::now());
    }

    /// The scheduler's clock. It begins one window before the worker, so that it has room for the attempts of an earlier
    /// run.
    fn now(&self) -> Moment {
        WINDOW + self.started.elapsed()
    }
}

fn log_unreadable(event: &Unreadable) {
    let Unreadable { id, reason, .. } = event;
    log_throttled!(
        Level::Error, "events cannot be read and were set aside", event = id.get();
        "event {id} cannot be read and is set aside: {reason}"
    );
}
