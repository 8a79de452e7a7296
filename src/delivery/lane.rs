//! What the schedule knows of one service key: its lines, its pace and its trouble.
//!
//! Each incident has a line; only the event at its head may leave, and the next one not before the head's fate is
//! committed. Among the heads the oldest goes first, but one that failed stands behind those that did not, so that an
//! event PagerDuty chokes on cannot keep the others from showing that they pass.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::backoff::Backoff;
use super::pace::Pace;
use super::schedule::{Fate, Limits, Moment};
use crate::pagerduty::IncidentKey;
use crate::pagerduty::outcome::{Blame, Outcome};
use crate::queue::{Arrival, EventId, WaitingEvent};

/// The events of one service key.
#[derive(Debug)]
pub(super) struct Lane {
    lines: HashMap<IncidentKey, VecDeque<EventId>>,
    events: HashMap<EventId, Pending>,
    /// Heads that may leave: fewest failures first, then oldest.
    ready: BTreeSet<(u32, EventId)>,
    /// Heads under suspicion, by the moment they may try again.
    resting: BTreeSet<(Moment, EventId)>,
    pace: Pace,
    in_flight: u32,
    /// Failures in a row that speak against PagerDuty or the way to it.
    trouble: u32,
    /// Throttling answers in a row.
    throttled: u32,
    /// When the last failure was counted. Attempts that began before it fail for the same cause.
    troubled_at: Moment,
    /// No attempt begins before this moment.
    open_at: Moment,
    last_passed: Option<Moment>,
    window: Window,
}

/// Which part of the queue's events the lane holds in memory.
#[derive(Debug, Default)]
struct Window {
    /// The newest event ever taken in; ids grow, so this tells known events from new ones.
    newest: Option<EventId>,
    /// There may be newer events in the queue.
    more: bool,
    loading: bool,
    /// An event arrived while a page was being read, which may lack it.
    missed: bool,
}

#[derive(Debug)]
struct Pending {
    incident_key: IncidentKey,
    began: Moment,
    /// Failures that may be its own doing, in a row.
    failures: u32,
    last_failed: Option<Moment>,
    /// How long it has failed while others passed.
    blamed: Duration,
    /// Set between the answer and its commit.
    rests_until: Option<Moment>,
}

/// When a lane has something to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Readiness {
    /// This event, now.
    Now(EventId),
    /// Look again then.
    At(Moment),
    /// Not before an answer or an arrival.
    Idle,
}

impl Lane {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            lines: HashMap::new(),
            events: HashMap::new(),
            ready: BTreeSet::new(),
            resting: BTreeSet::new(),
            pace: Pace::new(rate),
            in_flight: 0,
            trouble: 0,
            throttled: 0,
            troubled_at: Moment::ZERO,
            open_at: Moment::ZERO,
            last_passed: None,
            window: Window::default(),
        }
    }

    pub(super) fn remember_attempt(&mut self, end: Moment) {
        self.pace.remember(end);
    }

    /// The queue may hold events of this lane that nobody told it about.
    pub(super) fn look_for_more(&mut self) {
        self.window.more = true;
    }

    pub(super) fn arrived(&mut self, event: &Arrival, limits: &Limits) {
        if self.window.newest >= Some(event.id) {
            return;
        }
        if self.window.more || self.events.len() >= limits.window {
            self.window.more = true;
            self.window.missed |= self.window.loading;
        } else {
            self.take_in(event.id, &event.incident_key, Duration::ZERO);
        }
    }

    /// Whether a page of events should be read now; it is counted as being read then.
    pub(super) fn wants_page(&mut self, limits: &Limits) -> bool {
        let wanted = self.window.more && !self.window.loading && self.events.len() <= limits.window / 2;
        self.window.loading |= wanted;
        wanted
    }

    /// The event behind which the next page begins.
    pub(super) fn newest(&self) -> Option<EventId> {
        self.window.newest
    }

    /// A page was read; `last` says that the queue held nothing newer at that moment.
    pub(super) fn loaded(&mut self, page: &[WaitingEvent], last: bool) {
        for event in page {
            if self.window.newest < Some(event.id) {
                self.take_in(event.id, &event.incident_key, event.blamed);
            }
        }
        self.window.more = !last || self.window.missed;
        self.window.missed = false;
        self.window.loading = false;
    }

    /// The page could not be read; it is asked for again.
    pub(super) fn not_loaded(&mut self) {
        self.window.loading = false;
    }

    fn take_in(&mut self, id: EventId, incident_key: &IncidentKey, blamed: Duration) {
        self.window.newest = Some(id);
        let pending = Pending {
            incident_key: incident_key.clone(),
            began: Moment::ZERO,
            failures: 0,
            last_failed: None,
            blamed,
            rests_until: None,
        };
        self.events.insert(id, pending);
        let line = self.lines.entry(incident_key.clone()).or_default();
        line.push_back(id);
        if line.len() == 1 {
            self.ready.insert((0, id));
        }
    }

    pub(super) fn readiness(&mut self, now: Moment, limits: &Limits) -> Readiness {
        while let Some((moment, id)) = self.resting.first().copied().filter(|(moment, _)| *moment <= now) {
            self.resting.remove(&(moment, id));
            self.ready.insert((self.events.get(&id).map_or(0, |event| event.failures), id));
        }
        let Some((_, id)) = self.ready.first().copied() else {
            return self.resting.first().map_or(Readiness::Idle, |(moment, _)| Readiness::At(*moment));
        };
        // A key in trouble is asked by one event at a time.
        let most = if self.trouble > 0 || self.throttled > 0 { 1 } else { limits.in_flight_per_key };
        if self.in_flight >= most {
            return Readiness::Idle;
        }
        match self.pace.opens_at(now).map(|moment| moment.max(self.open_at)) {
            None => Readiness::Idle,
            Some(moment) if moment <= now => Readiness::Now(id),
            Some(moment) => Readiness::At(moment),
        }
    }

    pub(super) fn begun(&mut self, id: EventId, now: Moment) {
        let Some(event) = self.events.get_mut(&id) else { return };
        event.began = now;
        self.ready.remove(&(event.failures, id));
        self.pace.begun();
        self.in_flight += 1;
    }

    /// The attempt never left the house; the event stands at the head of its line as before.
    pub(super) fn not_begun(&mut self, id: EventId, now: Moment, until: Moment) {
        self.pace.ended(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.open_at = self.open_at.max(until);
        if let Some(event) = self.events.get(&id) {
            self.ready.insert((event.failures, id));
        }
    }

    pub(super) fn answered(
        &mut self,
        id: EventId,
        outcome: &Outcome,
        now: Moment,
        chance: f64,
        limits: &Limits,
    ) -> Fate {
        self.pace.ended(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(event) = self.events.get_mut(&id) else { return Fate::Delivered { oddity: None } };
        let fresh = event.began >= self.troubled_at;
        match outcome {
            Outcome::Delivered { oddity } => {
                self.recovered(now);
                self.last_passed = Some(now);
                Fate::Delivered { oddity: oddity.clone() }
            }
            Outcome::Refused { reason } => {
                // The event is finished, and PagerDuty is well enough to say so.
                self.recovered(now);
                Fate::Dead { reason: reason.clone() }
            }
            Outcome::Throttled { reason, retry_after } => {
                let blamed = event.blamed;
                if fresh {
                    self.throttled += 1;
                    self.troubled_at = now;
                    self.pace.halve(now);
                    self.close(now, Backoff::THROTTLE.wait(self.throttled, chance), *retry_after);
                }
                Fate::Retry { reason: reason.clone(), at: self.open_at, blamed }
            }
            Outcome::Untrusted { reason } => {
                Fate::Retry { reason: reason.clone(), at: self.open_at, blamed: event.blamed }
            }
            Outcome::Trouble { reason, blame, retry_after } => {
                let mut suspect = false;
                if *blame == Blame::Event {
                    suspect = event.failed(now, self.last_passed);
                    if event.blamed >= limits.give_up_after {
                        let reason = format!(
                            "{reason}; given up after it failed for {} while other events of its key passed",
                            humantime::format_duration(Duration::from_secs(event.blamed.as_secs())),
                        );
                        return Fate::Dead { reason };
                    }
                }
                let blamed = event.blamed;
                if suspect {
                    let wait = Backoff::SUSPECT.wait(event.failures, chance).max(retry_after.unwrap_or_default());
                    event.rests_until = Some(now + wait);
                    return Fate::Retry { reason: reason.clone(), at: now + wait, blamed };
                }
                if fresh {
                    self.trouble += 1;
                    self.troubled_at = now;
                    self.close(now, Backoff::TROUBLE.wait(self.trouble, chance), *retry_after);
                }
                Fate::Retry { reason: reason.clone(), at: self.open_at, blamed }
            }
        }
    }

    /// The event's fate is on disk: it leaves the line, or stands at its head again.
    pub(super) fn settled(&mut self, id: EventId, fate: &Fate) {
        if let Fate::Retry { .. } = fate {
            if let Some(event) = self.events.get_mut(&id) {
                match event.rests_until.take() {
                    Some(moment) => self.resting.insert((moment, id)),
                    None => self.ready.insert((event.failures, id)),
                };
            }
            return;
        }
        let Some(event) = self.events.remove(&id) else { return };
        let Some(line) = self.lines.get_mut(&event.incident_key) else { return };
        line.pop_front();
        match line.front() {
            Some(next) => {
                self.ready.insert((self.events.get(next).map_or(0, |event| event.failures), *next));
            }
            None => {
                self.lines.remove(&event.incident_key);
            }
        }
    }

    fn close(&mut self, now: Moment, wait: Duration, asked: Option<Duration>) {
        self.open_at = now + wait.max(asked.unwrap_or_default());
    }

    /// PagerDuty works again, so what failed before may have been its doing: back to the order of age.
    fn recovered(&mut self, now: Moment) {
        self.trouble = 0;
        self.throttled = 0;
        self.open_at = self.open_at.min(now);
        for (failures, id) in self.ready.range((1, EventId::new(i64::MIN))..).copied().collect::<Vec<_>>() {
            self.ready.remove(&(failures, id));
            if let Some(event) = self.events.get_mut(&id) {
                event.failures = 0;
            }
            self.ready.insert((0, id));
        }
    }
}

impl Pending {
    /// Counts a failure that may be the event's own doing, and says whether it looks so: others passed since it last
    /// failed.
    fn failed(&mut self, now: Moment, last_passed: Option<Moment>) -> bool {
        let suspect_since = self.last_failed.filter(|failed| last_passed > Some(*failed));
        self.failures += 1;
        self.last_failed = Some(now);
        if let Some(since) = suspect_since {
            self.blamed += now.saturating_sub(since);
        }
        suspect_since.is_some()
    }
}
