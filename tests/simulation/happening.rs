//! Everything that can happen in a world, and what it does.

use std::time::Duration;

use rand::RngExt;
use sentry_pagerduty_bridge::delivery::{Backoff, Moment};
use sentry_pagerduty_bridge::pagerduty::outcome::Outcome;
use sentry_pagerduty_bridge::queue::{Arrival, Disposition, EventId};

use crate::bridge::Bridge;
use crate::pagerduty::{Request, Way, timed_out};
use crate::plan::{Coming, Deed, TIMEOUT, incident_key, service_key};
use crate::queue::{Read, State, utc};
use crate::world::World;

/// As the worker waits before it asks the database again.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// As the worker waits before it reads a key's line again.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), ceiling: Duration::from_secs(30) };

/// As often as the worker looks again at what could not be read.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Something that happens. What belongs to a run of the bridge carries its number, and is nothing when that run ended.
#[derive(Debug)]
pub(crate) enum Happening {
    Start,
    Comes(Coming),
    Committed {
        run: u32,
        coming: Coming,
    },
    Announced {
        run: u32,
        id: EventId,
    },
    Marked {
        run: u32,
        id: EventId,
        asked: Duration,
    },
    Arrives {
        attempt: u64,
    },
    Answered {
        run: u32,
        id: EventId,
        outcome: Outcome,
    },
    Settled {
        run: u32,
        id: EventId,
        disposition: Disposition<Moment>,
    },
    /// `early`: the read saw the queue as it was when it began.
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
    /// The worker takes in that announcements for a key found no room.
    Missed {
        run: u32,
        key: usize,
    },
    /// Some of what could not be read can be, perhaps.
    LookAgain {
        run: u32,
    },
    Wake {
        run: u32,
        wake: u64,
    },
    Deed(Deed),
    Rescan {
        run: u32,
        key: usize,
    },
    Calm,
}

/// A request between the bridge and PagerDuty.
#[derive(Debug)]
pub(crate) struct OnTheWire {
    pub(crate) run: u32,
    pub(crate) id: EventId,
    pub(crate) request: Request,
    pub(crate) sent: Duration,
}

impl World {
    /// What happens, happens; then the bridge decides what to do, if it learned something.
    pub(crate) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start => {
                self.queue.rows.iter_mut().for_each(|row| row.put_back = false);
                self.bridge = Some(Bridge::start(&self.plan, &self.queue, self.now));
                self.mark_calm();
                self.decide();
            }
            Happening::Comes(coming) => self.comes(coming),
            Happening::Committed { run, coming } => self.committed(run, &coming),
            Happening::Arrives { attempt } => self.arrives(attempt),
            Happening::Deed(deed) => self.deed(deed),
            Happening::Calm => self.mark_calm(),
            Happening::Announced { run, id } if run == self.run => self.announced(id),
            Happening::Marked { run, id, asked } if run == self.run => self.marked(id, asked),
            Happening::Answered { run, id, outcome } if run == self.run => self.answered(id, &outcome),
            Happening::Settled { run, id, disposition } if run == self.run => self.settled(id, disposition),
            Happening::PageRead { run, key, after, early } if run == self.run => {
                self.bridge().outstanding -= 1;
                let read = early.unwrap_or_else(|| self.read(key, after));
                self.page_read(key, read);
                self.decide();
            }
            Happening::BackedOff { run, key } if run == self.run => {
                self.bridge().outstanding -= 1;
                self.bridge().scheduler.not_loaded(&service_key(key));
                self.decide();
            }
            Happening::Missed { run, key } if run == self.run => {
                self.bridge().outstanding -= 1;
                self.bridge().missed[key] = false;
                self.bridge().scheduler.read_on(&service_key(key));
                self.decide();
            }
            Happening::LookAgain { run } if run == self.run => {
                self.bridge().outstanding -= 1;
                self.look_again();
                self.decide();
            }
            Happening::Rescan { run, key } if run == self.run => {
                self.bridge().outstanding -= 1;
                self.bridge().scheduler.rescan(&service_key(key));
                self.decide();
            }
            Happening::Wake { run, wake } if run == self.run && wake == self.bridge().wake => {
                self.bridge().idle_wakes += 1;
                self.decide();
            }
            _ => {}
        }
    }

    pub(crate) fn bridge(&mut self) -> &mut Bridge {
        self.bridge.as_mut().unwrap()
    }

    /// Puts something on the agenda that this run of the bridge waits for.
    pub(crate) fn expect(&mut self, wait: Duration, happening: Happening) {
        self.bridge().outstanding += 1;
        self.after(wait, happening);
    }

    fn comes(&mut self, coming: Coming) {
        if self.bridge.is_some() {
            let (wait, run) = (self.commit_time(), self.run);
            self.after(wait, Happening::Committed { run, coming });
        }
    }

    fn committed(&mut self, run: u32, coming: &Coming) {
        if run == self.run && !self.disk_fails() {
            let unreadable_until = self.plan.unreadable.get(&coming.number).copied().unwrap_or_default();
            let id = self.queue.insert(coming, self.now, unreadable_until);
            let delay = Duration::from_millis(self.rng.random_range(0..20));
            let at = (self.now + delay).max(self.bridge().announced);
            self.bridge().announced = at;
            let key = coming.key;
            if self.bridge().missed[key] {
                return;
            }
            if self.rng.random_bool(self.plan.overflows) {
                self.bridge().missed[key] = true;
                self.expect(at - self.now, Happening::Missed { run, key });
            } else {
                self.expect(at - self.now, Happening::Announced { run, id });
            }
        }
    }

    fn announced(&mut self, id: EventId) {
        let row = self.queue.row(id);
        let arrival = Arrival {
            id,
            service_key: service_key(row.key),
            incident_key: incident_key(row.incident),
            event_type: row.event_type,
            received_at: utc(row.committed_at),
        };
        self.bridge().outstanding -= 1;
        self.bridge().scheduler.arrived(&arrival);
        self.decide();
    }

    /// The mark of an attempt is committed, or could not be.
    fn marked(&mut self, id: EventId, asked: Duration) {
        let (now, failed) = (self.now, self.disk_fails());
        let marked = self.plan.wall_clock(asked);
        let row = self.queue.row(id);
        let key = service_key(row.key);
        let (waits, readable) = (row.state == State::Waiting, row.is_readable(now));
        let past = self.bridge().set_aside.clone();
        let first = if waits { self.queue.first_of_line(id, &past) } else { None };
        if waits && readable && !failed && first == Some(id) {
            let row = self.queue.row(id);
            row.attempts += 1;
            row.last_attempt_at = Some(marked);
            self.send(id);
            return;
        }
        let bridge = self.bridge();
        bridge.outstanding -= 1;
        bridge.away.remove(&id);
        if failed {
            let until = bridge.clock(now) + DATABASE_PAUSE;
            bridge.scheduler.not_begun(&key, id, until);
        } else if waits && !readable {
            bridge.scheduler.gone(&key, id);
            self.set_aside(id);
        } else if let Some(earlier) = first {
            bridge.scheduler.blocked(&key, id);
            let row = self.queue.row(earlier);
            let is_news = row.put_back || row.read_again_at >= Some(asked) || row.unreadable_until > asked;
            assert!(is_news, "event {id} was to overtake event {earlier}, which the bridge knew: {row:?}");
        } else {
            bridge.scheduler.gone(&key, id);
        }
        self.decide();
    }

    fn send(&mut self, id: EventId) {
        let (run, sent, seed) = (self.run, self.now, self.plan.seed);
        let row = self.queue.row(id);
        let dice = [0, 1, 2, 3].map(|throw| dice(seed, row.number as u64, u64::from(row.attempts), throw));
        let request = Request { key: row.key, number: row.number, content: row.content, dice };
        match self.pagerduty.send(&request, sent) {
            Way::Ends(wait, outcome) => self.after(wait, Happening::Answered { run, id, outcome }),
            Way::Through(travel) => {
                self.attempts += 1;
                let attempt = self.attempts;
                self.on_the_wire.insert(attempt, OnTheWire { run, id, request, sent });
                self.after(travel, Happening::Arrives { attempt });
            }
        }
    }

    fn arrives(&mut self, attempt: u64) {
        let Some(OnTheWire { run, id, request, sent }) = self.on_the_wire.remove(&attempt) else { return };
        let (wait, outcome) = self.pagerduty.receive(&request, self.now);
        let left = sent + TIMEOUT - self.now;
        let (wait, outcome) = if wait >= left { (left, timed_out()) } else { (wait, outcome) };
        self.after(wait, Happening::Answered { run, id, outcome });
    }

    fn answered(&mut self, id: EventId, outcome: &Outcome) {
        let (run, chance, wait) = (self.run, self.rng.random_range(0.0..1.0), self.commit_time());
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
        self.after(wait, Happening::Settled { run, id, disposition });
        self.decide();
    }

    fn settled(&mut self, id: EventId, disposition: Disposition<Moment>) {
        let (now, run) = (self.now, self.run);
        if self.disk_fails() {
            self.after(DATABASE_PAUSE, Happening::Settled { run, id, disposition });
            return;
        }
        let row = self.queue.row(id);
        let key = service_key(row.key);
        if row.state == State::Waiting {
            match &disposition {
                Disposition::Delivered { .. } => self.queue.put(id, State::Delivered, now),
                Disposition::Dead { reason } => self.queue.put(id, State::Dead(reason.clone()), now),
                Disposition::RetryNow { .. } => {
                    assert_eq!(row.blamed, Duration::ZERO, "the worker keeps no blame for it");
                }
                Disposition::Retry { blamed, .. } => {
                    // The queue keeps milliseconds.
                    row.blamed = Duration::from_millis(u64::try_from(blamed.as_millis()).unwrap());
                }
            }
        }
        let bridge = self.bridge();
        bridge.outstanding -= 1;
        bridge.away.remove(&id);
        bridge.scheduler.settled(&key, id, &disposition);
        self.decide();
    }

    fn page_read(&mut self, key: usize, read: Read) {
        let (run, now) = (self.run, self.now);
        let Read::Page(page) = read else {
            let chance = self.rng.random_range(0.0..1.0);
            let failures = &mut self.bridge().read_failures[key];
            *failures += 1;
            let wait = BACKOFF.wait(*failures, chance);
            return self.expect(wait, Happening::BackedOff { run, key });
        };
        self.bridge().read_failures[key] = 0;
        for event in &page.events {
            let was_set_aside = self.bridge().set_aside.remove(&event.id);
            let row = self.queue.row(event.id);
            if std::mem::take(&mut row.put_back) || was_set_aside {
                row.read_again_at = Some(now);
            }
        }
        page.unreadable.iter().for_each(|id| self.set_aside(*id));
        self.bridge().scheduler.loaded(&service_key(key), &page.events, page.end, page.last);
    }

    fn set_aside(&mut self, id: EventId) {
        let run = self.run;
        let bridge = self.bridge();
        if bridge.set_aside.is_empty() {
            self.expect(LOOK_AGAIN, Happening::LookAgain { run });
        }
        self.bridge().set_aside.insert(id);
    }

    fn look_again(&mut self) {
        let (run, now) = (self.run, self.now);
        for id in self.bridge().set_aside.clone() {
            let row = self.queue.row(id);
            if row.state != State::Waiting || row.is_readable(now) {
                let key = service_key(row.key);
                row.put_back = true;
                self.bridge().set_aside.remove(&id);
                self.bridge().scheduler.rescan(&key);
            }
        }
        if !self.bridge().set_aside.is_empty() {
            self.expect(LOOK_AGAIN, Happening::LookAgain { run });
        }
    }
}

/// A number from 0 up to 1 that depends on nothing but the arguments.
fn dice(seed: u64, number: u64, attempt: u64, throw: u64) -> f64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 40) ^ (attempt << 8) ^ throw;
    for _ in 0..2 {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    f64::from(u32::try_from(mixed >> 32).unwrap()) / (f64::from(u32::MAX) + 1.0)
}
