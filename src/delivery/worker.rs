//! Does what the schedule says: marks an attempt, makes it, commits what came of it.
//!
//! An alert that waits reaches PagerDuty also while nothing can be committed, as on a full disk: the queue then lets the
//! attempt begin and owes its mark, see [`Queue::begin`]. What came of it is committed as soon as that is possible
//! again, and the incident's line stands still until then. Only a crash before that sends the event once more.

use std::future::Future;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use log::{Level, debug, log, warn};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::fate::Fate;
use super::limits::Limits;
use super::moment::Moment;
use super::news::News;
use super::pace::WINDOW;
use super::restart;
use super::schedule::{Next, Schedule};
use super::shown::Shown;
use super::view::DeliveryView;
use crate::logging::repeats::{self, Cause};
use crate::metrics::Metrics;
use crate::pagerduty::ServiceKey;
use crate::pagerduty::client::Client;
use crate::pagerduty::outcome::Outcome;
use crate::queue::{Arrival, Begun, EventId, Queue, QueueError, Settlement};

/// How long to wait before the database is asked again for what it could not do.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// How often to look whether somebody else changed the queue.
const LOOK: Duration = Duration::from_secs(1);

/// The wait when nothing is due: long, but bounded, so that a mistake in the schedule could not sleep for ever.
const IDLE: Duration = Duration::from_mins(1);

/// Delivers what waits in the queue. Runs on one thread, since `awc`'s client is bound to its thread.
pub struct Worker {
    queue: Queue,
    client: Client,
    schedule: Schedule,
    arrivals: UnboundedReceiver<Arrival>,
    began: Instant,
    /// The queue's [generation](crate::queue::Reader::generation) that the schedule knows.
    generation: u64,
    attempts: FuturesUnordered<LocalBoxFuture<'static, Step>>,
    shown: Shown,
    metrics: Metrics,
}

/// How far an attempt came.
enum Step {
    /// It never left: the event could be neither marked as attempted nor read.
    NotBegun { key: ServiceKey, id: EventId, error: QueueError },
    /// PagerDuty answered, or did not in time. `received_at` is when the newest alert of the event came.
    Answered { key: ServiceKey, id: EventId, received_at: DateTime<Utc>, outcome: Outcome },
    /// What came of it is committed.
    Settled { news: News },
}

impl Worker {
    /// Prepares deliveries from `queue`. Events accepted from now on are not missed.
    #[must_use]
    pub fn new(queue: Queue, client: Client, limits: Limits) -> Self {
        let arrivals = queue.arrivals();
        Self {
            queue,
            client,
            schedule: Schedule::new(limits),
            arrivals,
            began: Instant::now(),
            generation: 0,
            attempts: FuturesUnordered::new(),
            shown: Shown::default(),
            metrics: Metrics::new(),
        }
    }

    /// The same, counted by `metrics`.
    #[must_use]
    pub fn counted_by(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same, knowing how an earlier run failed: with which reason for each service key for which something waits, and
    /// why PagerDuty could not be trusted.
    #[must_use]
    pub fn knowing(mut self, troubles: Vec<(ServiceKey, String)>, untrusted: Option<String>) -> Self {
        for (key, reason) in troubles {
            self.schedule.remember_trouble(&key, reason);
        }
        if let Some(reason) = untrusted {
            self.schedule.remember_untrusted(reason);
        }
        self.show();
        self
    }

    /// What the deliveries look like, brought up to date while the worker runs: at most twice a second, and within a
    /// second of a change.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<DeliveryView> {
        self.shown.subscribe()
    }

    /// Delivers until `shutdown` resolves, then lets the attempts under way end, for at most the time `shutdown` gave.
    /// What is not delivered by then stays in the queue.
    pub async fn run(mut self, shutdown: impl Future<Output = Duration>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let grace = tokio::select! {
            grace = &mut shutdown => grace,
            never = self.deliver() => match never {},
        };
        let drained = timeout(grace, async {
            while let Some(step) = self.attempts.next().await {
                self.take(step);
                self.show_now_and_then();
            }
        });
        if drained.await.is_err() {
            warn!(attempts = self.attempts.len(); "stopped before PagerDuty answered; these events are sent again after the next start");
        }
        self.show();
    }

    async fn deliver(&mut self) -> std::convert::Infallible {
        self.recall().await;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.begin_what_is_due().await;
            // This loop turns at every change, and with every look: so what time alone changes is seen as well.
            let wake = self.show_now_and_then().map_or(due, |show| show.min(due));
            tokio::select! {
                Some(arrival) = self.arrivals.recv() => {
                    self.schedule.arrived(&arrival);
                    while let Ok(arrival) = self.arrivals.try_recv() {
                        self.schedule.arrived(&arrival);
                    }
                }
                Some(step) = self.attempts.next() => self.take(step),
                _ = looks.tick() => self.notice_changes().await,
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    /// Learns what an earlier run left: which keys have events in line, and how fast they were served lately.
    async fn recall(&mut self) {
        loop {
            let reader = self.queue.reader();
            let timeout = self.client.timeout();
            let started = Utc::now();
            let since = started - restart::horizon(timeout);
            let rate = self.schedule.limits().rate;
            // The generation comes first: a change while the rest is read is then noticed later.
            let found = async {
                let generation = reader.generation().await?;
                let attempts = reader.attempts_since(since, started, rate).await?;
                Ok::<_, QueueError>((generation, reader.keys_waiting().await?, attempts))
            };
            match found.await {
                Ok((generation, keys, attempts)) => {
                    self.generation = generation;
                    for key in keys {
                        self.schedule.look_for(&key);
                    }
                    let now = self.now();
                    for (key, marked, times) in attempts {
                        // Should the clock have been set back since, it counts as new.
                        let age = (Utc::now() - marked).to_std().unwrap_or_default();
                        let end = restart::latest_arrival(age, now, timeout);
                        self.schedule.remember_attempts(&key, end, times.max(1));
                    }
                    return;
                }
                Err(error) => {
                    let line = repeats::line(Cause::Unreadable, Level::Error);
                    log!(line.level, "the queue cannot be read, so nothing is delivered yet: {error}{line}");
                    sleep(DATABASE_PAUSE).await;
                }
            }
        }
    }

    /// Reads the queue anew where somebody else changed it: the commands `queue retry` and `queue discard`.
    async fn notice_changes(&mut self) {
        let reader = self.queue.reader();
        let found = async {
            let generation = reader.generation().await?;
            let keys = if generation == self.generation { Vec::new() } else { reader.keys_waiting().await? };
            Ok::<_, QueueError>((generation, keys))
        };
        match found.await {
            Ok((generation, keys)) => {
                self.generation = generation;
                for key in keys {
                    self.schedule.rescan(&key);
                }
            }
            Err(error) => {
                let line = repeats::line(Cause::Unreadable, Level::Warn);
                log!(line.level, "the queue cannot be read: {error}{line}");
            }
        }
    }

    async fn begin_what_is_due(&mut self) -> Instant {
        loop {
            let now = self.now();
            match self.schedule.next(now) {
                Next::Send { id, key } => {
                    let attempt = attempt(self.queue.clone(), self.client.clone(), key, id);
                    self.attempts.push(Box::pin(attempt));
                }
                Next::Load { key, after } => self.load(&key, after).await,
                Next::Wait(moment) => {
                    let wait = moment.map_or(IDLE, |moment| moment.saturating_sub(now).min(IDLE));
                    return Instant::now() + wait;
                }
            }
        }
    }

    async fn load(&mut self, key: &ServiceKey, after: Option<EventId>) {
        let window = u32::try_from(self.schedule.limits().window).unwrap_or(u32::MAX);
        match self.queue.reader().waiting(key, after, window).await {
            Ok(page) => {
                let last = page.len() < window as usize;
                self.schedule.loaded(key, &page, last);
            }
            Err(error) => {
                let line = repeats::line(Cause::Unreadable, Level::Error);
                log!(line.level, service_key:% = key; "the queue cannot be read: {error}{line}");
                self.schedule.not_loaded(key);
                sleep(DATABASE_PAUSE).await;
            }
        }
    }

    fn take(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::NotBegun { key, id, error: QueueError::NotWaiting { .. } } => {
                debug!(event = id.get(); "left the queue before it was sent");
                self.schedule.vanished(&key, id);
            }
            Step::NotBegun { key, id, error } => {
                let line = repeats::line(Cause::NotBegun, Level::Error);
                log!(line.level, event = id.get(), service_key:% = key; "not sent, because it could be neither marked nor read: {error}{line}");
                self.schedule.not_begun(&key, id, now + DATABASE_PAUSE);
            }
            Step::Answered { key, id, received_at, outcome } => {
                let fate = self.schedule.answered(&key, id, &outcome, now, rand::random());
                self.metrics.attempted(&key, outcome.kind(), received_at, Utc::now());
                let news = News { key, id, received_at, kind: outcome.kind(), fate, at: now };
                self.attempts.push(Box::pin(settle(self.queue.clone(), news)));
            }
            Step::Settled { news } => {
                if let Fate::Dead { .. } = news.fate {
                    self.metrics.dead();
                }
                news.tell(Utc::now());
                self.schedule.settled(&news.key, news.id, &news.fate);
            }
        }
    }

    /// Shows what the deliveries look like, unless it did a moment ago: then it says when to do so.
    fn show_now_and_then(&mut self) -> Option<Instant> {
        let next = self.shown.looks_at(Instant::now());
        if next.is_none() {
            self.show();
        }
        next
    }

    fn show(&mut self) {
        let clock = self.now();
        let view = self.schedule.view(clock);
        self.metrics.untrusted(view.untrusted.clone());
        self.shown.show(view, clock, Instant::now(), Utc::now());
    }

    /// The schedule's clock. It begins one window before the worker, so that it has room for the attempts of an
    /// earlier run.
    fn now(&self) -> Moment {
        WINDOW + self.began.elapsed()
    }
}

async fn attempt(queue: Queue, client: Client, key: ServiceKey, id: EventId) -> Step {
    match queue.begin(id, Utc::now()).await {
        Ok(Begun { body, received_at }) => {
            let outcome = client.send(&key, body).await;
            Step::Answered { key, id, received_at, outcome }
        }
        Err(error) => Step::NotBegun { key, id, error },
    }
}

/// Commits what came of an attempt, however long the database takes to be able to.
async fn settle(queue: Queue, news: News) -> Step {
    loop {
        let settlement = match &news.fate {
            Fate::Delivered { oddity } => Settlement::Delivered { note: oddity.clone() },
            Fate::Dead { reason } => Settlement::Dead { reason: reason.clone() },
            // What failed so for the first time was not blamed for anything.
            Fate::Again { reason } => {
                Settlement::Retry { reason: reason.clone(), next_attempt_at: Utc::now(), blamed: Duration::ZERO }
            }
            Fate::Retry { reason, at, blamed } => Settlement::Retry {
                reason: reason.clone(),
                next_attempt_at: Utc::now() + TimeDelta::from_std(at.saturating_sub(news.at)).unwrap_or_default(),
                blamed: *blamed,
            },
        };
        match queue.settle(news.id, settlement, Utc::now()).await {
            Ok(()) | Err(QueueError::NotWaiting { .. }) => return Step::Settled { news },
            Err(error) => {
                let line = repeats::line(Cause::NotSettled, Level::Error);
                log!(line.level, event = news.id.get(); "what PagerDuty answered cannot be kept yet: {error}{line}");
                sleep(DATABASE_PAUSE).await;
            }
        }
    }
}
