//! What the schedule knows of one service key: its lines, its pace and its health.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::backoff::Backoff;
use super::fate::Fate;
use super::health::{Attempt, Health};
use super::latency::{Latency, Speed};
use super::limits::Limits;
use super::lines::{Lines, Stands, Turn};
use super::moment::Moment;
use super::pace::Pace;
use super::view::LaneView;
use super::window::Window;
use crate::pagerduty::ServiceKey;
use crate::pagerduty::outcome::{Blame, Outcome};
use crate::queue::{Arrival, EventId, WaitingEvent};

/// The events of one service key.
#[derive(Debug)]
pub(super) struct Lane {
    lines: Lines,
    pace: Pace,
    health: Health,
    latency: Latency,
    window: Window,
    under_way: HashMap<EventId, UnderWay>,
    /// Events behind others that are still to be read.
    behind: Vec<EventId>,
    /// Events whose failure was committed since the page was asked for that is being read: it may be older.
    failed_meanwhile: HashSet<EventId>,
    /// How the last attempt ended, if it failed.
    trouble: Option<String>,
    /// Whether it was refused.
    is_refusal: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    attempt: Attempt,
    began: Moment,
    /// Whether the event had failed before.
    again: bool,
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
            lines: Lines::default(),
            pace: Pace::new(rate),
            health: Health::default(),
            latency: Latency::default(),
            window: Window::default(),
            under_way: HashMap::new(),
            behind: Vec::new(),
            failed_meanwhile: HashSet::new(),
            trouble: None,
            is_refusal: false,
        }
    }

    pub(super) fn remember_attempts(&mut self, end: Moment, times: u32) {
        self.pace.remember(end, times);
    }

    pub(super) fn remember_trouble(&mut self, reason: String) {
        self.trouble.get_or_insert(reason);
    }

    pub(super) fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    pub(super) fn arrived(&mut self, event: &Arrival, limits: &Limits) {
        if self.window.takes(event.id, self.lines.ready() >= limits.window) {
            self.lines.join(event.id, &event.incident_key);
        }
    }

    /// Whether a page of events should be read now; it is counted as being read then.
    ///
    /// Room is counted in events that could leave now: what stands behind a blocked head or failed takes no room from
    /// the others, however much there is of it.
    pub(super) fn wants_page(&mut self, limits: &Limits) -> bool {
        self.window.wants_page(self.lines.ready() <= limits.window / 2)
    }

    pub(super) fn loaded(&mut self, page: &[WaitingEvent], end: Option<EventId>, last: bool) {
        let failed_meanwhile = std::mem::take(&mut self.failed_meanwhile);
        for event in page {
            // All of it is known, and better.
            if !(failed_meanwhile.contains(&event.id) && self.lines.knows(event.id)) {
                self.lines.join_waiting(event);
            }
        }
        self.window.loaded(end, last);
        if !self.window.is_read_anew() {
            for id in std::mem::take(&mut self.behind) {
                self.lines.come_back(id);
            }
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// How fast PagerDuty answers for this key.
    pub(super) fn speed(&self, now: Moment) -> Speed {
        let oldest = self.under_way.values().map(|attempt| attempt.began).min();
        self.latency.speed(now.saturating_sub(oldest.unwrap_or(now)))
    }

    /// Whether that is known from the last moments.
    pub(super) fn speed_is_fresh(&self, now: Moment) -> bool {
        self.latency.is_fresh(now)
    }

    /// The number of the event's attempt that is under way.
    pub(super) fn attempt(&self, id: EventId) -> Attempt {
        self.under_way.get(&id).copied().unwrap_or_default().attempt
    }

    /// What it looks like; no key sends anything before `open_at`.
    pub(super) fn view(&self, key: &ServiceKey, now: Moment, open_at: Moment) -> LaneView<Moment> {
        let rest = self.lines.all_rest_until(self.health.retry_at()).unwrap_or_default();
        let closed_until = open_at.max(self.health.open_at()).max(rest);
        LaneView {
            service_key: key.clone(),
            allowed: self.pace.allowed(now),
            rate: self.pace.full(),
            under_way: u32::try_from(self.under_way.len()).unwrap_or(u32::MAX),
            backs_off_until: (closed_until > now).then_some(closed_until),
            trouble: self.trouble.clone(),
            is_refusal: self.is_refusal,
            last_delivered_at: self.health.last_passed(),
        }
    }

    pub(super) fn readiness(&mut self, now: Moment, limits: &Limits) -> Readiness {
        let retry_at = self.has_place(limits.in_flight_per_key, true).then_some(self.health.retry_at());
        let Some(turn) = self.lines.next(now, self.health.probes_newest(), retry_at) else {
            return self.lines.rested_at(retry_at).map_or(Readiness::Idle, Readiness::At);
        };
        let (id, paced) = match turn {
            Turn::Due(id) if self.has_place(limits.in_flight_per_key, false) => (id, self.pace.opens_at(now)),
            // Half of the places are left to events that did not fail, which may come at any moment.
            Turn::Spare(id) if self.has_place(limits.in_flight_per_key.div_ceil(2), true) => {
                (id, self.pace.half_free_at(now))
            }
            Turn::Due(_) | Turn::Spare(_) => return Readiness::Idle,
        };
        match paced.map(|moment| moment.max(self.health.open_at())) {
            None => Readiness::Idle,
            Some(moment) if moment <= now => Readiness::Now(id),
            Some(moment) => Readiness::At(moment),
        }
    }

    /// Whether one more attempt may be under way, of an event that failed before or of another.
    fn has_place(&self, most: u32, again: bool) -> bool {
        let among_most = self.under_way.len() < most as usize;
        let Some(judged) = self.health.trouble() else { return among_most };
        // One probe that hangs does not keep an event from being tried that has not failed.
        among_most && !self.under_way.values().any(|other| other.attempt > judged && (again || !other.again))
    }

    pub(super) fn begun(&mut self, id: EventId, attempt: Attempt, now: Moment) {
        let again = !self.lines.is_ready(id);
        self.lines.leave(id);
        self.pace.begun();
        self.under_way.insert(id, UnderWay { attempt, began: now, again });
    }

    /// The attempt never left the house; the event stands at the head of its line as before.
    pub(super) fn not_begun(&mut self, id: EventId, until: Moment) {
        self.pace.cancelled();
        self.under_way.remove(&id);
        self.health.close(until);
        self.lines.come_back(id);
    }

    /// The attempt never left the house, because an earlier event of the incident is in line that is not known here: the
    /// line stands still until that is read.
    pub(super) fn behind(&mut self, id: EventId) {
        self.pace.cancelled();
        self.under_way.remove(&id);
        self.behind.push(id);
        self.window.look_anew();
    }

    /// The attempt never left the house, because the event is no longer in line.
    pub(super) fn vanished(&mut self, id: EventId) {
        self.pace.cancelled();
        self.under_way.remove(&id);
        self.lines.remove(id);
    }

    /// An attempt ended; `latest` is the last one that began.
    pub(super) fn answered(
        &mut self,
        id: EventId,
        outcome: &Outcome,
        latest: Attempt,
        now: Moment,
        chance: f64,
        limits: &Limits,
    ) -> Fate {
        self.pace.ended(now);
        let known = self.under_way.remove(&id);
        if let Some(UnderWay { began, .. }) = known {
            self.latency.ended(now.saturating_sub(began), now);
        }
        let UnderWay { attempt, .. } = known.unwrap_or_default();
        if let Outcome::Dropped { reason } = outcome
            && self.health.dropped(attempt, latest)
            && self.lines.dropped(id)
        {
            return Fate::Again { reason: reason.clone() };
        }
        if let Some(reason) = outcome.failure() {
            self.trouble = Some(reason.to_owned());
            self.is_refusal = matches!(outcome, Outcome::Permanent { .. });
        }
        let (reason, blame, retry_after) = match outcome {
            Outcome::Delivered { note: oddity } => {
                self.health.passed(attempt, now);
                // What began before the trouble says nothing about it.
                if self.health.trouble().is_none() {
                    self.trouble = None;
                    self.is_refusal = false;
                }
                self.lines.passed(id);
                return Fate::Delivered { oddity: oddity.clone() };
            }
            Outcome::Permanent { reason } => {
                self.health.judged_well(attempt);
                return Fate::Dead { reason: reason.clone() };
            }
            Outcome::Throttled { reason, retry_after } => {
                if self.health.throttled(attempt, latest, now, chance, *retry_after) {
                    self.pace.halve(now);
                }
                return self.innocent(id, reason);
            }
            Outcome::Untrusted { reason } => return self.innocent(id, reason),
            Outcome::Transient { reason, cause, retry_after } => (reason, cause.blame(), *retry_after),
            Outcome::Dropped { reason } => (reason, Blame::Network, None),
        };
        let (suspicion, others_passed) = self.lines.failed(id, now, self.health.last_passed(), blame);
        let blamed = suspicion.blamed();
        if others_passed && blame == Blame::Event && blamed >= limits.give_up_after {
            return Fate::Dead { reason: given_up(reason, blamed) };
        }
        if !others_passed {
            let first = suspicion.failures() == 1;
            self.health.failed(attempt, first, latest, now, chance, retry_after);
        }
        let stands = if suspicion.is_suspect() {
            let wait = Backoff::SUSPECT.wait(suspicion.failures(), chance);
            Stands::Suspect(now + wait.max(retry_after.unwrap_or_default()))
        } else {
            Stands::SetBack(now)
        };
        self.lines.returns(id, stands);
        let rests = if let Stands::Suspect(at) = stands { at } else { now };
        let at = rests.max(self.health.retry_at()).max(self.health.open_at());
        Fate::Retry { reason: reason.clone(), at, blamed }
    }

    /// The attempt failed, and that says nothing about the event.
    fn innocent(&self, id: EventId, reason: &str) -> Fate {
        Fate::Retry { reason: reason.to_owned(), at: self.health.open_at(), blamed: self.lines.blamed(id) }
    }

    /// The event's fate is on disk: it leaves the line, or stands at its head again.
    pub(super) fn settled(&mut self, id: EventId, fate: &Fate) {
        match fate {
            Fate::Retry { .. } | Fate::Again { .. } => {
                if self.window.is_being_read() {
                    self.failed_meanwhile.insert(id);
                }
                self.lines.come_back(id);
            }
            Fate::Delivered { .. } | Fate::Dead { .. } => self.lines.remove(id),
        }
    }
}

fn given_up(reason: &str, blamed: Duration) -> String {
    let blamed = humantime::format_duration(Duration::from_secs(blamed.as_secs()));
    format!("{reason}; given up after it failed for {blamed} while other events of its key passed")
}
