//! The steps of a world and their effects.

use std::time::Duration;

use rand::RngExt;
use sentry_pagerduty_bridge::delivery::TRANSIENT_BACKOFF;
use sentry_pagerduty_bridge::pagerduty::outcome::Outcome;
use sentry_pagerduty_bridge::queue::{Disposition, EventId, WaitingEvent};

use crate::bridge::Bridge;
use crate::commits::Operation;
use crate::pagerduty::{Request, Transmission, timed_out};
use crate::queue::{Read, State, utc};
use crate::runner::{incident_key, service_key};
use crate::scenario::{AdminAction, Alert, TIMEOUT};
use crate::world::World;

/// The worker's interval for reading unreadable events again.
const RECHECK_EVERY: Duration = Duration::from_mins(1);

/// A step. A step of a run of the bridge carries the number of the run, and has no effect after its end.
#[derive(Debug)]
pub(crate) enum Step {
    Start,
    AlertArrives(Alert),
    /// The commit that this operation waited for ends.
    Commit {
        run: u32,
        number: u64,
    },
    Announced {
        run: u32,
        id: EventId,
    },
    RequestArrives {
        attempt: u64,
    },
    Answered {
        run: u32,
        id: EventId,
        outcome: Outcome,
    },
    /// `early`: the result, if the read saw the queue as it was when it began.
    PageRead {
        run: u32,
        key: usize,
        after: Option<EventId>,
        early: Option<Read>,
    },
    BackedOff {
        run: u32,
        key: usize,
    },
    /// The worker reads again a key for which an announcement was dropped.
    Missed {
        run: u32,
        key: usize,
    },
    /// Unreadable events may have become readable.
    Recheck {
        run: u32,
    },
    Wake {
        run: u32,
        wake: u64,
    },
    AdminAction(AdminAction),
    Rescan {
        run: u32,
        key: usize,
    },
    EndOfFaults,
}

/// A request between the bridge and PagerDuty.
#[derive(Debug)]
pub(crate) struct RequestInFlight {
    pub(crate) run: u32,
    pub(crate) id: EventId,
    pub(crate) request: Request,
    pub(crate) sent: Duration,
}

impl World {
    /// Applies one step to the world, then lets the bridge act if the step told it anything.
    pub(crate) fn apply(&mut self, step: Step) {
        match step {
            Step::Start => {
                self.queue.rows.iter_mut().for_each(|row| row.requeued = false);
                self.bridge = Some(Bridge::start(&self.scenario, &self.queue, self.now));
                self.mark_end_of_faults();
                self.decide();
            }
            Step::AlertArrives(alert) => self.alert_arrives(alert),
            Step::Commit { run, number } if run == self.run => self.commit(number),
            Step::RequestArrives { attempt } => self.request_arrives(attempt),
            Step::AdminAction(admin_action) => self.admin_action(admin_action),
            Step::EndOfFaults => self.mark_end_of_faults(),
            Step::Announced { run, id } if run == self.run => self.announced(id),
            Step::Answered { run, id, outcome } if run == self.run => self.answered(id, &outcome),
            Step::PageRead { run, key, after, early } if run == self.run => {
                self.bridge().outstanding -= 1;
                let read = early.unwrap_or_else(|| self.read(key, after));
                self.page_read(key, read);
                self.decide();
            }
            Step::BackedOff { run, key } if run == self.run => {
                self.bridge().outstanding -= 1;
                self.bridge().scheduler.not_loaded(&service_key(key));
                self.decide();
            }
            Step::Missed { run, key } if run == self.run => {
                self.bridge().outstanding -= 1;
                self.bridge().missed[key] = false;
                self.bridge().scheduler.read_on(&service_key(key));
                self.decide();
            }
            Step::Recheck { run } if run == self.run => {
                self.bridge().outstanding -= 1;
                self.recheck();
                self.decide();
            }
            Step::Rescan { run, key } if run == self.run => {
                self.bridge().outstanding -= 1;
                self.bridge().scheduler.reread(&service_key(key));
                self.decide();
            }
            Step::Wake { run, wake } if run == self.run && wake == self.bridge().wake => {
                self.bridge().idle_wakes += 1;
                self.decide();
            }
            _ => {}
        }
    }

    pub(crate) fn bridge(&mut self) -> &mut Bridge {
        self.bridge.as_mut().unwrap()
    }

    /// Schedules a step that this run of the bridge waits for.
    pub(crate) fn schedule(&mut self, wait: Duration, step: Step) {
        self.bridge().outstanding += 1;
        self.after(wait, step);
    }

    fn alert_arrives(&mut self, alert: Alert) {
        if self.bridge.is_some() {
            self.ask(Operation::Enqueue(alert));
        }
    }

    fn announced(&mut self, id: EventId) {
        let row = self.queue.row(id);
        let arrival = WaitingEvent {
            id,
            service_key: service_key(row.key),
            incident_key: incident_key(row.incident),
            event_type: row.event_type,
            received_at: utc(row.committed_at),
            attempts: 0,
            last_attempt_at: None,
            blamed: Duration::ZERO,
        };
        self.bridge().outstanding -= 1;
        self.bridge().scheduler.arrived(&arrival);
        self.decide();
    }

    pub(crate) fn send(&mut self, id: EventId, body: &[u8]) {
        let (run, sent, seed) = (self.run, self.now, self.scenario.seed);
        let attempt = self.queue.sent(id, body);
        let row = self.queue.row(id);
        let random = [0, 1, 2, 3].map(|throw| random(seed, row.number as u64, u64::from(attempt), throw));
        let request = Request { key: row.key, number: row.number, content: row.content, random };
        match self.pagerduty.send(&request, sent) {
            Transmission::Fails(wait, outcome) => self.after(wait, Step::Answered { run, id, outcome }),
            Transmission::Arrives(travel) => {
                self.attempts += 1;
                let attempt = self.attempts;
                self.requests_in_flight.insert(attempt, RequestInFlight { run, id, request, sent });
                self.after(travel, Step::RequestArrives { attempt });
            }
        }
    }

    fn request_arrives(&mut self, attempt: u64) {
        let Some(RequestInFlight { run, id, request, sent }) = self.requests_in_flight.remove(&attempt) else { return };
        let (wait, outcome) = self.pagerduty.receive(&request, self.now);
        let left = sent + TIMEOUT - self.now;
        let (wait, outcome) = if wait >= left { (left, timed_out()) } else { (wait, outcome) };
        self.after(wait, Step::Answered { run, id, outcome });
    }

    fn answered(&mut self, id: EventId, outcome: &Outcome) {
        let (run, chance) = (self.run, self.rng.random_range(0.0..1.0));
        let key = service_key(self.queue.row(id).key);
        let now = self.now;
        let bridge = self.bridge();
        let disposition = bridge.scheduler.answered(&key, id, outcome, bridge.clock(now), chance);
        let row = self.queue.row(id);
        match disposition {
            Disposition::Retry { .. } => {
                row.first_failed_at.get_or_insert(now);
            }
            Disposition::RetryNow { .. } => {
                let excused = row.excused_in.replace(run);
                assert_ne!(excused, Some(run), "event {id} was sent again at once for a second time");
            }
            Disposition::Delivered { .. } | Disposition::Dead { .. } => {}
        }
        self.ask(Operation::Settle { id, disposition });
        self.decide();
    }

    fn page_read(&mut self, key: usize, read: Read) {
        let (run, now) = (self.run, self.now);
        let Read::Page(page) = read else {
            let chance = self.rng.random_range(0.0..1.0);
            let failures = &mut self.bridge().read_failures[key];
            *failures += 1;
            // The pause of the worker before it reads the events of a key again.
            let wait = TRANSIENT_BACKOFF.pause_with_jitter(*failures, chance);
            return self.schedule(wait, Step::BackedOff { run, key });
        };
        self.bridge().read_failures[key] = 0;
        for event in &page.events {
            let was_unreadable = self.bridge().unreadable.remove(&event.id);
            let row = self.queue.row(event.id);
            if std::mem::take(&mut row.requeued) || was_unreadable {
                row.read_again_at = Some(now);
            }
        }
        page.unreadable.iter().for_each(|event| self.cannot_read(event.id));
        self.bridge().scheduler.loaded(&service_key(key), &page);
    }

    pub(crate) fn cannot_read(&mut self, id: EventId) {
        let run = self.run;
        let bridge = self.bridge();
        if bridge.unreadable.is_empty() {
            self.schedule(RECHECK_EVERY, Step::Recheck { run });
        }
        self.bridge().unreadable.insert(id);
    }

    fn recheck(&mut self) {
        let (run, now) = (self.run, self.now);
        for id in self.bridge().unreadable.clone() {
            let row = self.queue.row(id);
            if row.state != State::Waiting || row.is_readable(now) {
                let key = service_key(row.key);
                row.requeued = true;
                self.bridge().unreadable.remove(&id);
                self.bridge().scheduler.reread(&key);
            }
        }
        if !self.bridge().unreadable.is_empty() {
            self.schedule(RECHECK_EVERY, Step::Recheck { run });
        }
    }
}

/// A number from 0 to 1 (exclusive) that depends only on the arguments.
fn random(seed: u64, number: u64, attempt: u64, throw: u64) -> f64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 40) ^ (attempt << 8) ^ throw;
    for _ in 0..2 {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    f64::from(u32::try_from(mixed >> 32).unwrap()) / (f64::from(u32::MAX) + 1.0)
}
