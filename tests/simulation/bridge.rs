//! One run of the bridge: the real scheduler, and what the worker keeps besides.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use sentry_pagerduty_bridge::delivery::{Scheduler, rate_limiter};
use sentry_pagerduty_bridge::queue::EventId;

use crate::pagerduty::WINDOW;
use crate::queue::Queue;
use crate::scenario::{Plan, TIMEOUT};

/// A running bridge.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) scheduler: Scheduler,
    started: Duration,
    /// Events between the decision to send them and the commit of their disposition.
    pub(crate) in_flight: HashSet<EventId>,
    /// Which of the planned wakes counts.
    pub(crate) wake: u64,
    /// Wakes in a row in which there was nothing to do.
    pub(crate) idle_wakes: u32,
    /// Announcements are made in order.
    pub(crate) announced: Duration,
    /// What cannot be read, and is set aside.
    pub(crate) unreadable: BTreeSet<EventId>,
    /// How often in a row the waiting events of each key could not be read.
    pub(crate) read_failures: Vec<u32>,
    /// The keys of which announcements found no room, until the worker takes that in.
    pub(crate) missed: Vec<bool>,
    /// How much will still happen without anything new from outside.
    pub(crate) outstanding: u32,
}

impl Bridge {
    /// Starts as the worker does: it learns what an earlier run left.
    pub(crate) fn start(plan: &Plan, queue: &Queue, now: Duration) -> Self {
        let mut scheduler = Scheduler::new(plan.limits);
        queue.keys_waiting().iter().for_each(|key| scheduler.read_on(key));
        let wall_clock = plan.wall_clock(now);
        let horizon = wall_clock - rate_limiter::lookback(TIMEOUT);
        for (key, marked, attempts) in queue.attempts().into_iter().filter(|(_, marked, _)| *marked >= horizon) {
            // A clock that was set back makes it new.
            let age = (wall_clock - marked).to_std().unwrap_or_default();
            let end = rate_limiter::latest_arrival(age, WINDOW, TIMEOUT);
            scheduler.restore_attempts(&key, end, attempts.max(1));
        }
        Self {
            scheduler,
            started: now,
            in_flight: HashSet::new(),
            wake: 0,
            idle_wakes: 0,
            announced: now,
            unreadable: BTreeSet::new(),
            read_failures: vec![0; plan.keys],
            missed: vec![false; plan.keys],
            outstanding: 0,
        }
    }

    /// The scheduler's clock, as the worker reads it.
    pub(crate) fn clock(&self, now: Duration) -> Duration {
        WINDOW + (now - self.started)
    }
}
