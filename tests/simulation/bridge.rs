//! One run of the bridge: the real scheduler, and the other state of the worker.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use sentry_pagerduty_bridge::delivery::{Scheduler, rate_limiter};
use sentry_pagerduty_bridge::queue::EventId;

use crate::pagerduty::WINDOW;
use crate::queue::Queue;
use crate::scenario::{Scenario, TIMEOUT};

/// A running bridge.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) scheduler: Scheduler,
    started: Duration,
    /// Events from the decision to send them until the commit of their disposition.
    pub(crate) in_flight: HashSet<EventId>,
    /// The number of the last scheduled wake; earlier ones are ignored.
    pub(crate) wake: u64,
    /// The number of consecutive wakes at which there was nothing to do.
    pub(crate) idle_wakes: u32,
    /// The time of the last announcement: announcements arrive in order.
    pub(crate) announced: Duration,
    /// Events that cannot be read and are set aside.
    pub(crate) unreadable: BTreeSet<EventId>,
    /// The number of consecutive failures to read the waiting events of each key.
    pub(crate) read_failures: Vec<u32>,
    /// The keys for which an announcement was dropped and that the worker has not read again yet.
    pub(crate) missed: Vec<bool>,
    /// The number of scheduled steps that the bridge waits for.
    pub(crate) outstanding: u32,
}

impl Bridge {
    /// Starts as the worker does, with the state that an earlier run left in the queue.
    pub(crate) fn start(scenario: &Scenario, queue: &Queue, now: Duration) -> Self {
        let mut scheduler = Scheduler::new(scenario.limits);
        queue.keys_waiting().iter().for_each(|key| scheduler.read_on(key));
        let wall_clock = scenario.wall_clock(now);
        let horizon = wall_clock - rate_limiter::lookback(TIMEOUT);
        for (key, marked, attempts) in queue.attempts().into_iter().filter(|(_, marked, _)| *marked >= horizon) {
            // If the clock was set back, the attempt counts as new.
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
            read_failures: vec![0; scenario.keys],
            missed: vec![false; scenario.keys],
            outstanding: 0,
        }
    }

    /// The time by the scheduler's clock, as the worker reads it.
    pub(crate) fn clock(&self, now: Duration) -> Duration {
        WINDOW + (now - self.started)
    }
}
