//! What the schedule knows of one service key: its lines, its pace and its health.

use std::collections::HashMap;
use std::time::Duration;

use super::backoff::Backoff;
use super::health::{Attempt, Health};
use super::lines::{Lines, Stands, Turn};
use super::pace::Pace;
use super::schedule::{Fate, Limits, Moment};
use super::window::Window;
use crate::pagerduty::outcome::{Blame, Outcome};
use crate::queue::{Arrival, EventId, WaitingEvent};

/// The events of one service key.
#[derive(Debug)]
pub(super) struct Lane {
    lines: Lines,
    pace: Pace,
    health: Health,
    window: Window,
    under_way: HashMap<EventId, Attempt>,
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
            window: Window::default(),
            under_way: HashMap::new(),
        }
    }

    pub(super) fn remember_attempts(&mut self, end: Moment, times: u32) {
        self.pace.remember(end, times);
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

    pub(super) fn loaded(&mut self, page: &[WaitingEvent], last: bool) {
        for event in page {
            self.lines.join_waiting(event);
        }
        self.window.loaded(page.last().map(|event| event.id), last);
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The number of the event's attempt that is under way.
    pub(super) fn attempt(&self, id: EventId) -> Attempt {
        self.under_way.get(&id).copied().unwrap_or_default()
    }

    pub(super) fn readiness(&mut self, now: Moment, limits: &Limits) -> Readiness {
        let busy = match self.health.trouble() {
            Some(judged) => self.under_way.values().any(|attempt| *attempt > judged),
            None => self.under_way.len() >= limits.in_flight_per_key as usize,
        };
        if busy {
            return Readiness::Idle;
        }
        let Some(turn) = self.lines.next(now, self.health.probes_newest()) else {
            return self.lines.rested_at().map_or(Readiness::Idle, Readiness::At);
        };
        let (id, paced) = match turn {
            Turn::Due(id) => (id, self.pace.opens_at(now)),
            Turn::Spare(_) if self.under_way.len() >= (limits.in_flight_per_key as usize).div_ceil(2) => {
                return Readiness::Idle;
            }
            Turn::Spare(id) => (id, self.pace.half_free_at(now)),
        };
        match paced.map(|moment| moment.max(self.health.open_at())) {
            None => Readiness::Idle,
            Some(moment) if moment <= now => Readiness::Now(id),
            Some(moment) => Readiness::At(moment),
        }
    }

    pub(super) fn begun(&mut self, id: EventId, attempt: Attempt) {
        self.lines.leave(id);
        self.pace.begun();
        self.under_way.insert(id, attempt);
    }

    /// The attempt never left the house; the event stands at the head of its line as before.
    pub(super) fn not_begun(&mut self, id: EventId, until: Moment) {
        self.pace.cancelled();
        self.under_way.remove(&id);
        self.health.close(until);
        self.lines.come_back(id);
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
        let attempt = self.under_way.remove(&id).unwrap_or_default();
        match outcome {
            Outcome::Delivered { oddity } => {
                self.health.passed(attempt, now);
                self.lines.forgive();
                Fate::Delivered { oddity: oddity.clone() }
            }
            Outcome::Refused { reason } => {
                self.health.judged_well(attempt);
                Fate::Dead { reason: reason.clone() }
            }
            Outcome::Throttled { reason, retry_after } => {
                if self.health.throttled(attempt, latest, now, chance, *retry_after) {
                    self.pace.halve(now);
                }
                Fate::Retry { reason: reason.clone(), at: self.health.open_at(), blamed: self.blamed(id) }
            }
            Outcome::Untrusted { reason } => {
                Fate::Retry { reason: reason.clone(), at: self.health.open_at(), blamed: self.blamed(id) }
            }
            Outcome::Trouble { reason, blame, retry_after } => {
                let last_passed = self.health.last_passed();
                let Some(suspicion) = self.lines.suspicion(id) else { return Fate::Delivered { oddity: None } };
                let others_passed = suspicion.failed(now, last_passed, *blame);
                let suspicion = *suspicion;
                let blamed = suspicion.blamed();
                if others_passed && *blame == Blame::Event && blamed >= limits.give_up_after {
                    return Fate::Dead { reason: given_up(reason, blamed) };
                }
                let at = if suspicion.is_suspect() {
                    let wait = Backoff::SUSPECT.wait(suspicion.failures(), chance);
                    let at = now + wait.max(retry_after.unwrap_or_default());
                    self.lines.returns(id, Stands::Suspect(at));
                    at
                } else {
                    self.health.failed(attempt, latest, now, chance, *retry_after);
                    let at = now + Backoff::TROUBLE.wait(1, chance);
                    self.lines.returns(id, Stands::SetBack(at));
                    at.max(self.health.open_at())
                };
                Fate::Retry { reason: reason.clone(), at, blamed }
            }
        }
    }

    /// The event's fate is on disk: it leaves the line, or stands at its head again.
    pub(super) fn settled(&mut self, id: EventId, fate: &Fate) {
        match fate {
            Fate::Retry { .. } => self.lines.come_back(id),
            Fate::Delivered { .. } | Fate::Dead { .. } => self.lines.remove(id),
        }
    }

    fn blamed(&mut self, id: EventId) -> Duration {
        self.lines.suspicion(id).map(|suspicion| suspicion.blamed()).unwrap_or_default()
    }
}

fn given_up(reason: &str, blamed: Duration) -> String {
    let blamed = humantime::format_duration(Duration::from_secs(blamed.as_secs()));
    format!("{reason}; given up after it failed for {blamed} while other events of its key passed")
}
