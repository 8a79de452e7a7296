//! One run of a bridge: its scheduler and its leases, driven in the same way as by the worker and the cluster task.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use sentry_pagerduty_bridge::cluster::lease_holder::{LeaseHolder, Timing};
use sentry_pagerduty_bridge::delivery::owned_keys::OwnedKeys;
use sentry_pagerduty_bridge::delivery::rate_limiter::{latest_arrival, lookback};
use sentry_pagerduty_bridge::delivery::scheduler::Next;
use sentry_pagerduty_bridge::delivery::{DeliveryLimits, Scheduler};
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_pagerduty_bridge::pagerduty::outcome::{FailureCause, Outcome};
use sentry_pagerduty_bridge::queue::leases::{BridgeId, BridgeInfo, Fence, LeaseName};
use sentry_pagerduty_bridge::queue::memory::Operations;
use sentry_pagerduty_bridge::queue::{
    AttemptPayload, BeginRequest, Disposition, EventId, Page, QueueError, SettleRequest,
};

use crate::world::{RATE, Request, TIMEOUT, World};

const EXCHANGE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_secs(2);

/// The number of waiting events per read.
const PAGE: usize = 4;

#[derive(Debug)]
pub(crate) struct Bridge {
    leases: LeaseHolder,
    info: BridgeInfo,
    scheduler: Scheduler,
    owned_keys: OwnedKeys,
    in_flight: Vec<Attempt>,
    /// How far its clock is ahead of the world's.
    ahead: Duration,
    pub(crate) stopped_until: Duration,
    /// Until when it has no connection to the database.
    pub(crate) cut_off_until: Duration,
    exchange_at: Duration,
    poll_at: Duration,
    has_left: bool,
}

#[derive(Debug)]
struct Attempt {
    key: ServiceKey,
    id: EventId,
    fence: Fence,
    ends_at: Duration,
    is_delivered: bool,
}

impl Bridge {
    pub(crate) fn new(number: u128, ahead: Duration) -> Self {
        let id = BridgeId::new(number);
        let info = BridgeInfo {
            id,
            name: String::new(),
            version: String::new(),
            fingerprint: String::new(),
            is_leaving: false,
            reaches_pagerduty: true,
        };
        Self {
            leases: LeaseHolder::new(id, Timing::new(TIMEOUT)),
            info,
            scheduler: Scheduler::new(DeliveryLimits::new(RATE, Duration::from_hours(1))),
            owned_keys: OwnedKeys::none(),
            in_flight: Vec::new(),
            ahead,
            stopped_until: Duration::ZERO,
            cut_off_until: Duration::ZERO,
            exchange_at: Duration::ZERO,
            poll_at: Duration::ZERO,
            has_left: false,
        }
    }

    pub(crate) fn leave(&mut self) {
        self.leases.leave();
        self.info.is_leaving = true;
    }

    pub(crate) fn has_left(&self) -> bool {
        self.has_left && self.in_flight.is_empty()
    }

    pub(crate) fn step(&mut self, world: &mut World) {
        if self.stopped_until > world.now {
            return;
        }
        let now = world.now + self.ahead;
        let is_cut_off = self.cut_off_until > world.now;
        if !is_cut_off {
            self.end_attempts(world, now);
            if self.exchange_at <= world.now && !self.has_left {
                self.exchange_at = world.now + EXCHANGE;
                self.exchange(world, now);
            }
            self.follow(world, now);
        }
        self.send(world, now, is_cut_off);
    }

    fn exchange(&mut self, world: &mut World, now: Duration) {
        let busy: Vec<_> = self.in_flight.iter().map(|attempt| LeaseName::Key(attempt.key.clone())).collect();
        let changes = self.leases.changes(now, |name| busy.contains(name));
        // The request may be lost as well as the response.
        if world.rng.random_bool(0.02) {
            return;
        }
        let utc = world.utc();
        let view = world.queue.exchange(&self.info, &changes, Timing::new(TIMEOUT).lease, utc);
        if world.rng.random_bool(0.02) {
            return;
        }
        self.has_left = changes.leave;
        self.leases.answered(now, &changes, view, now);
    }

    /// Starts and stops to deliver for keys, according to the leases.
    fn follow(&mut self, world: &World, now: Duration) {
        let active: BTreeMap<_, _> =
            self.leases.active(now).filter_map(|(name, right)| Some((name.key()?.clone(), right))).collect();
        let leases: BTreeMap<_, _> = active.iter().map(|(key, right)| (key.clone(), right.fence)).collect();
        for key in self.owned_keys.give_up(&leases) {
            self.scheduler.forget(&key);
        }
        let is_busy = |key: &ServiceKey| self.in_flight.iter().any(|attempt| attempt.key == *key);
        for (key, fence) in self.owned_keys.begin_takeover(&leases, is_busy) {
            self.restore_attempts(world, &key, now);
            self.scheduler.read_on(&key);
            self.owned_keys.complete_takeover(&key, fence);
        }
        let is_polled = self.poll_at <= world.now;
        if is_polled {
            self.poll_at = world.now + POLL;
        }
        for (key, right) in active.iter().filter(|(key, _)| self.owned_keys.has(key)) {
            self.scheduler.send_until(key, right.send_until);
            if is_polled {
                self.scheduler.reread(key);
            }
        }
    }

    fn restore_attempts(&mut self, world: &World, key: &ServiceKey, now: Duration) {
        let since = world.utc() - lookback(TIMEOUT);
        for (_, last, attempts) in world.queue.attempts().iter().filter(|(of, last, _)| of == key && *last >= since) {
            let age = (world.utc() - *last).to_std().unwrap_or_default();
            self.scheduler.restore_attempts(key, latest_arrival(age, now, TIMEOUT), *attempts);
        }
    }

    fn send(&mut self, world: &mut World, now: Duration, is_cut_off: bool) {
        loop {
            match self.scheduler.next(now) {
                Next::Wait(_) => return,
                Next::Load { key, .. } if is_cut_off => {
                    self.scheduler.not_loaded(&key);
                    return;
                }
                Next::Load { key, after } => {
                    let events = world.queue.waiting(&key, after, PAGE);
                    let (end, is_last) = (events.last().map(|event| event.id), events.len() < PAGE);
                    self.scheduler.loaded(&key, &Page { events, end, is_last, ..Page::default() });
                }
                Next::Send { id, key } => self.begin(world, key, id, now, is_cut_off),
            }
        }
    }

    fn begin(&mut self, world: &mut World, key: ServiceKey, id: EventId, now: Duration, is_cut_off: bool) {
        let later = now + EXCHANGE;
        let right = self.leases.right(&LeaseName::Key(key.clone()), now).filter(|_| !is_cut_off);
        let Some(fence) = right.map(|right| right.fence) else { return self.scheduler.not_begun(&key, id, later) };
        let begin = BeginRequest { id, at: world.utc(), skipped: Vec::new(), fence: Some(fence) };
        let operations = Operations { begins: vec![begin], ..Operations::default() };
        let body = match world.queue.commit(&operations).begun.pop().unwrap() {
            Ok(AttemptPayload { body, .. }) => body,
            Err(QueueError::NotWaiting(_)) => return self.scheduler.gone(&key, id),
            Err(QueueError::Behind { .. }) => return self.scheduler.blocked(&key, id),
            Err(QueueError::Fenced(_)) => return self.scheduler.not_begun(&key, id, later),
            Err(error) => panic!("{error}"),
        };
        if world.rng.random_bool(0.02) {
            // The response to the commit was lost.
            return self.scheduler.not_begun(&key, id, later);
        }
        let faults_are_over = world.faults_are_over();
        let longest = if faults_are_over { TIMEOUT / 2 } else { TIMEOUT };
        let way = Duration::from_millis(world.rng.random_range(10..longest.as_millis() as u64));
        let back = Duration::from_millis(world.rng.random_range(10..500));
        let (sent, received) = (world.now, world.now + way);
        let is_outage = world.is_outage();
        if !is_outage {
            let incident = world.queue.get(id).unwrap().summary.incident_key;
            let (bridge, key) = (self.info.id.get(), key.clone());
            world.requests.push(Request { bridge, key, incident, id, body, sent, received });
        }
        // A response that is lost or comes too late is a timeout.
        let is_lost = world.rng.random_bool(0.05) && !faults_are_over;
        let is_delivered = !is_outage && way + back <= TIMEOUT && !is_lost;
        let ends_at = if is_delivered { received + back } else { sent + TIMEOUT };
        self.in_flight.push(Attempt { key, id, fence, ends_at, is_delivered });
    }

    fn end_attempts(&mut self, world: &mut World, now: Duration) {
        let (ended, going): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.in_flight).into_iter().partition(|attempt| attempt.ends_at <= world.now);
        self.in_flight = going;
        for Attempt { key, id, fence, is_delivered, .. } in ended {
            let outcome = if is_delivered {
                Outcome::Delivered { note: None }
            } else {
                Outcome::Transient { reason: String::new(), cause: FailureCause::Timeout, retry_after: None }
            };
            let is_held = self.owned_keys.has_by(&key, Some(fence));
            if !is_held {
                self.scheduler.ended_elsewhere();
            }
            let disposition = is_held.then(|| self.scheduler.answered(&key, id, &outcome, now, world.rng.random()));
            let at = world.utc();
            let stored = match &disposition {
                Some(disposition) => disposition.clone().by_clock(|next| at + (next - now)),
                // The bridge no longer owns the key, so only a delivery is recorded.
                None if is_delivered => Disposition::Delivered { note: None },
                None => continue,
            };
            let settle = SettleRequest { id, disposition: stored, at, fence: Some(fence) };
            let operations = Operations { settles: vec![settle], ..Operations::default() };
            // If the response is lost, the event is settled again, which changes nothing.
            for _ in 0..=u8::from(world.rng.random_bool(0.1)) {
                world.queue.commit(&operations);
            }
            if let Some(disposition) = disposition {
                self.scheduler.settled(&key, id, &disposition);
            }
        }
    }
}
