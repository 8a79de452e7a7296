//! Does what the schedule says: marks an attempt, makes it, commits what came of it.
//!
//! Attempts and reads of the queue are steps that go on side by side: none of them is waited for by anything but what
//! needs it, so one key whose events cannot be read holds up no other.
//!
//! An alert that waits reaches PagerDuty also while nothing can be committed, as on a full disk: the queue then lets the
//! attempt begin and owes its mark, see [`Queue::begin`]. What came of it is committed as soon as that is possible
//! again, and the incident's line stands still until then. Only a crash before that sends the event once more.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use log::{Level, debug, error, info, log, warn};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::attempt::{DATABASE_PAUSE, Step, attempt, settle, settle_again};
use super::fate::Fate;
use super::limits::Limits;
use super::moment::Moment;
use super::news::News;
use super::pace::WINDOW;
use super::reads::{self, Read, Reads};
use super::restart;
use super::schedule::{Next, Schedule};
use super::set_aside::SetAside;
use super::shown::Shown;
use super::view::DeliveryView;
use crate::logging::throttle;
use crate::metrics::Metrics;
use crate::pagerduty::ServiceKey;
use crate::pagerduty::client::Client;
use crate::queue::{Arrival, Arrivals, EventId, KeysInLine, LookedAgain, Queue, QueueError, Unreadable};

/// How often to look whether somebody else changed the queue.
const LOOK: Duration = Duration::from_secs(1);

/// A generation that the queue never has.
const UNKNOWN: u64 = u64::MAX;

/// How often to look again at events that cannot be read, and at how many of them.
const LOOK_AGAIN: (Duration, usize) = (Duration::from_mins(1), 100);

/// The wait when nothing is due: long, but bounded, so that a mistake in the schedule could not sleep for ever.
const IDLE: Duration = Duration::from_mins(1);

/// Delivers what waits in the queue. Runs on one thread, since `awc`'s client is bound to its thread.
pub struct Worker {
    queue: Queue,
    client: Client,
    schedule: Schedule,
    arrivals: Arrivals,
    began: Instant,
    /// The queue's [generation](crate::queue::Reader::generation) that the schedule knows.
    generation: u64,
    attempts: FuturesUnordered<LocalBoxFuture<'static, Step>>,
    reads: FuturesUnordered<LocalBoxFuture<'static, Read>>,
    reader: Reads,
    /// Whether one of the reads looks for changes by somebody else.
    is_looking: bool,
    looked_again: Instant,
    /// How often in a row each key's line could not be read.
    read_failures: HashMap<ServiceKey, u32>,
    set_aside: SetAside,
    shown: Shown,
    metrics: Metrics,
}

impl Worker {
    /// Prepares deliveries from `queue`. Events accepted from now on are not missed.
    #[must_use]
    pub fn new(queue: Queue, client: Client, limits: Limits) -> Self {
        let arrivals = queue.arrivals();
        let reader = Reads::of(queue.reader().clone());
        Self {
            queue,
            client,
            schedule: Schedule::new(limits),
            arrivals,
            began: Instant::now(),
            generation: 0,
            attempts: FuturesUnordered::new(),
            reads: FuturesUnordered::new(),
            reader,
            is_looking: false,
            looked_again: Instant::now(),
            read_failures: HashMap::new(),
            set_aside: SetAside::default(),
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
            let due = self.begin_what_is_due();
            // This loop turns at every change, and with every look: so what time alone changes is seen as well.
            let wake = self.show_now_and_then().map_or(due, |show| show.min(due));
            tokio::select! {
                Some(arrival) = self.arrivals.recv() => self.hear(&arrival),
                Some(step) = self.attempts.next() => self.take(step),
                Some(read) = self.reads.next() => self.learn(read),
                _ = looks.tick() => self.look(),
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    /// Learns what an earlier run left: which keys have events in line, and how fast they were served lately. What of
    /// that cannot be read for damage is left out.
    async fn recall(&mut self) {
        loop {
            match self.left_behind().await {
                Ok((generation, keys, attempts)) => {
                    self.generation = generation;
                    self.look_for(&keys, Schedule::look_for);
                    let (now, timeout) = (self.now(), self.client.timeout());
                    for (key, marked, times) in attempts {
                        // Should the clock have been set back since, it counts as new.
                        let age = (Utc::now() - marked).to_std().unwrap_or_default();
                        let end = restart::latest_arrival(age, now, timeout);
                        self.schedule.remember_attempts(&key, end, times.max(1));
                    }
                    return;
                }
                Err(error) => {
                    let line = throttle::line("reads of the queue failed", Level::Error);
                    log!(line.level, "the queue cannot be read, so nothing is delivered yet: {error}{line}");
                    sleep(DATABASE_PAUSE).await;
                }
            }
        }
    }

    async fn left_behind(&self) -> Result<(u64, KeysInLine, Vec<(ServiceKey, DateTime<Utc>, u32)>), QueueError> {
        let reader = self.queue.reader();
        let started = Utc::now();
        let since = started - restart::horizon(self.client.timeout());
        let rate = self.schedule.limits().rate;
        // The generation comes first: a change while the rest is read is then noticed later.
        let generation = unless_damaged(reader.generation().await)?;
        let keys = unless_damaged(reader.keys_in_line().await)?;
        let attempts = unless_damaged(reader.attempts_since(since, started, rate).await)?.unwrap_or_default();
        // Without all keys it has to be looked for them again.
        let generation = generation.filter(|_| keys.is_some()).unwrap_or(UNKNOWN);
        Ok((generation, keys.unwrap_or_default(), attempts))
    }

    /// Looks for events of these keys in the way that `look` says.
    fn look_for(&mut self, keys: &KeysInLine, look: impl Fn(&mut Schedule, &ServiceKey)) {
        self.set_aside.keys(keys).iter().for_each(say_unreadable);
        for key in &keys.keys {
            look(&mut self.schedule, key);
        }
    }

    /// Hears of what was committed, as far as that was announced.
    fn hear(&mut self, arrival: &Arrival) {
        self.schedule.arrived(arrival);
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.schedule.arrived(&arrival);
        }
        for key in self.arrivals.take_missed() {
            self.schedule.look_for(&key);
        }
    }

    /// Looks whether somebody else changed the queue, by the commands `queue retry` and `queue discard`, and now and then
    /// whether what could not be read can be.
    fn look(&mut self) {
        if !self.is_looking {
            self.is_looking = true;
            self.reads.push(Box::pin(self.reader.clone().changes(self.generation)));
        }
        let (pause, most) = LOOK_AGAIN;
        if self.looked_again.elapsed() >= pause {
            self.looked_again = Instant::now();
            let ids = self.set_aside.next(most);
            if !ids.is_empty() {
                self.reads.push(Box::pin(self.reader.clone().again(ids)));
            }
        }
    }

    fn begin_what_is_due(&mut self) -> Instant {
        loop {
            let now = self.now();
            match self.schedule.next(now) {
                Next::Send { id, key } => self.attempt(key, id, Vec::new()),
                Next::Load { key, after } => {
                    let window = u32::try_from(self.schedule.limits().window).unwrap_or(u32::MAX);
                    self.reads.push(Box::pin(self.reader.clone().page(key, after, window)));
                }
                Next::Wait(moment) => {
                    let wait = moment.map_or(IDLE, |moment| moment.saturating_sub(now).min(IDLE));
                    return Instant::now() + wait;
                }
            }
        }
    }

    fn attempt(&self, key: ServiceKey, id: EventId, past: Vec<EventId>) {
        self.attempts.push(Box::pin(attempt(self.queue.clone(), self.client.clone(), key, id, past)));
    }

    /// Takes what was read of the queue.
    fn learn(&mut self, read: Read) {
        match read {
            Read::Page { key, after, mut page } => {
                self.read_failures.remove(&key);
                self.set_aside.read(&key, after, &page).iter().for_each(say_unreadable);
                page.events.retain(|event| !self.set_aside.is_unsettled(event.id));
                self.schedule.loaded_to(&key, &page.events, page.end, page.last);
            }
            Read::NoPage { key, reason } => {
                let failures = self.read_failures.entry(key.clone()).or_default();
                *failures = failures.saturating_add(1);
                self.reads.push(Box::pin(reads::back_off(key.clone(), *failures)));
                self.set_aside.line_failed(&key, reason);
            }
            Read::Settled(id) => self.set_aside.settled(id),
            Read::BackedOff { key } => self.schedule.not_loaded(&key),
            Read::Changes(changes) => {
                self.is_looking = false;
                let Some((generation, keys)) = changes else { return };
                self.generation = generation;
                if let Some(keys) = keys {
                    self.look_for(&keys, Schedule::rescan);
                }
            }
            Read::Again(looked) => {
                for (id, found) in looked {
                    match found {
                        LookedAgain::Readable(key) => {
                            info!(event = id.get(), service_key:% = key; "can be read again");
                            self.set_aside.remove(id);
                            self.schedule.rescan(&key);
                        }
                        LookedAgain::Gone => self.set_aside.remove(id),
                        LookedAgain::Unreadable => {}
                    }
                }
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
            Step::NotBegun { key, id, error: QueueError::Behind { earlier, .. } } => {
                if self.set_aside.contains(earlier) {
                    // Its incident does not wait for what cannot be read.
                    let past = self.set_aside.before(&key, id);
                    self.attempt(key, id, past);
                } else {
                    debug!(event = id.get(); "waits behind event {earlier}, which was put back in line");
                    self.schedule.behind(&key, id);
                }
            }
            Step::NotBegun { key, id, error } if error.is_damage() => {
                self.schedule.vanished(&key, id);
                let event = Unreadable { id, service_key: Some(key), reason: error.of_one_event() };
                if self.set_aside.add(event.clone()) {
                    say_unreadable(&event);
                }
            }
            Step::NotBegun { key, id, error } => {
                let line = throttle::line("attempts could not begin", Level::Error);
                log!(line.level, event = id.get(), service_key:% = key; "not sent, because it could be neither marked nor read: {error}{line}");
                self.schedule.not_begun(&key, id, now + DATABASE_PAUSE);
            }
            Step::Answered { key, id, received_at, outcome } => {
                let fate = self.schedule.answered(&key, id, &outcome, now, rand::random());
                self.metrics.attempted(&key, outcome.kind(), received_at, Utc::now());
                let news = News { key, id, received_at, kind: outcome.kind(), fate, at: now };
                self.attempts.push(Box::pin(settle(self.queue.clone(), news)));
            }
            Step::Settled { news } => self.settled(&news),
            Step::NotSettled { news } => {
                // Its incident goes on: what stands still for ever reaches nobody.
                self.settled(&news);
                if let Fate::Delivered { .. } | Fate::Dead { .. } = news.fate {
                    self.set_aside.unsettled(news.id, news.key.clone());
                    let queue = self.queue.clone();
                    self.reads.push(Box::pin(async move { Read::Settled(settle_again(queue, news).await) }));
                }
            }
        }
    }

    fn settled(&mut self, news: &News) {
        if let Fate::Dead { .. } = news.fate {
            self.metrics.dead();
        }
        news.tell(Utc::now());
        self.schedule.settled(&news.key, news.id, &news.fate);
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
        let view = DeliveryView { unreadable: self.set_aside.view(), ..self.schedule.view(clock) };
        self.metrics.untrusted(view.untrusted.clone());
        self.shown.show(view, clock, Instant::now(), Utc::now());
    }

    /// The schedule's clock. It begins one window before the worker, so that it has room for the attempts of an
    /// earlier run.
    fn now(&self) -> Moment {
        WINDOW + self.began.elapsed()
    }
}

/// What was read, unless it cannot be for damage.
fn unless_damaged<T>(read: Result<T, QueueError>) -> Result<Option<T>, QueueError> {
    match read {
        Err(error) if error.is_damage() => {
            error!("a part of the queue cannot be read, and the rest is delivered without it: {error}");
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn say_unreadable(event: &Unreadable) {
    let Unreadable { id, reason, .. } = event;
    let line = throttle::line("events cannot be read and were set aside", Level::Error);
    log!(line.level, event = id.get(); "event {id} cannot be read and is set aside: {reason}{line}");
}
