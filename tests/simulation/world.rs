//! A world: things happen in it, one after the other, each at its time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::bridge::Bridge;
use crate::happening::{Happening, OnTheWire};
use crate::pagerduty::PagerDuty;
use crate::plan::{Crash, Deed, Plan, TIMEOUT};
use crate::queue::Queue;

/// What is left when all is over.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) plan: Plan,
    pub(crate) queue: Queue,
    pub(crate) pagerduty: PagerDuty,
    /// From then on nothing went wrong.
    pub(crate) calm_at: Duration,
    /// How many events were waiting then, for each key.
    pub(crate) backlog: Vec<usize>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Duration,
    pub(crate) rng: StdRng,
    pub(crate) queue: Queue,
    pub(crate) pagerduty: PagerDuty,
    /// `None` while it is down.
    pub(crate) bridge: Option<Bridge>,
    /// The number of this or the next run of the bridge.
    pub(crate) run: u32,
    pub(crate) attempts: u64,
    pub(crate) on_the_wire: BTreeMap<u64, OnTheWire>,
    crashes: VecDeque<Crash>,
    deeds: VecDeque<(u64, Deed)>,
    agenda: BinaryHeap<Reverse<(Duration, usize)>>,
    /// Everything that was ever on the agenda; taken out when it happens.
    happenings: Vec<Option<Happening>>,
    calm_at: Duration,
    backlog: Vec<usize>,
}

/// Lets everything in `plan` happen, and returns when nothing more does.
pub(crate) fn run(plan: Plan) -> End {
    let mut world = World::new(plan);
    world.live();
    let World { plan, queue, pagerduty, calm_at, backlog, .. } = world;
    End { plan, queue, pagerduty, calm_at, backlog }
}

impl World {
    fn new(plan: Plan) -> Self {
        let rate = plan.limits.rate as usize;
        let mut crashes = plan.crashes.clone();
        crashes.sort_unstable_by_key(|crash| crash.after_steps);
        let mut deeds = plan.deeds_between.clone();
        deeds.sort_unstable_by_key(|(after_steps, _)| *after_steps);
        let mut world = Self {
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(!plan.seed),
            queue: Queue::new(plan.keys),
            pagerduty: PagerDuty::new(plan.faults.clone(), plan.keys, plan.travel, TIMEOUT, rate),
            bridge: None,
            run: 0,
            attempts: 0,
            on_the_wire: BTreeMap::new(),
            crashes: crashes.into(),
            deeds: deeds.into(),
            agenda: BinaryHeap::new(),
            happenings: Vec::new(),
            calm_at: plan.calm_at(),
            backlog: Vec::new(),
            plan,
        };
        world.after(Duration::ZERO, Happening::Start);
        for coming in world.plan.comings.clone() {
            world.after(coming.at, Happening::Comes(coming));
        }
        for (at, deed) in world.plan.deeds.clone() {
            world.after(at, Happening::Deed(deed));
        }
        world.after(world.calm_at, Happening::Calm);
        world
    }

    fn live(&mut self) {
        let patience = self.calm_at + Duration::from_hours(24);
        let mut steps = 0;
        while let Some(Reverse((at, place))) = self.agenda.pop() {
            assert!(at < patience, "a day after all was calm events are still waiting: {:#?}", self.bridge);
            self.now = at;
            if let Some(happening) = self.happenings[place].take() {
                self.happen(happening);
            }
            steps += 1;
            while let Some((_, deed)) = self.deeds.pop_front_if(|(after_steps, _)| *after_steps <= steps) {
                self.deed(deed);
                self.mark_calm();
            }
            if let Some(crash) = self.crashes.pop_front_if(|crash| crash.after_steps <= steps && self.bridge.is_some())
            {
                self.crash(crash);
            }
        }
    }

    pub(crate) fn after(&mut self, wait: Duration, happening: Happening) {
        self.agenda.push(Reverse((self.now + wait, self.happenings.len())));
        self.happenings.push(Some(happening));
    }

    /// Killed: what was not committed is gone, and what is on the wire may still arrive.
    fn crash(&mut self, crash: Crash) {
        self.bridge = None;
        self.run += 1;
        for (_, lost) in std::mem::take(&mut self.on_the_wire) {
            if self.rng.random_bool(0.5) {
                self.pagerduty.receive(&lost.request, self.now);
            }
        }
        self.after(crash.down, Happening::Start);
    }

    /// All trouble is over, or this was the last of it.
    pub(crate) fn mark_calm(&mut self) {
        if self.now >= self.calm_at && self.bridge.is_some() {
            self.calm_at = self.now;
            self.backlog = (0..self.plan.keys).map(|key| self.queue.waiting(key).len()).collect();
        }
    }

    pub(crate) fn commit_time(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(self.plan.commit.clone()))
    }

    pub(crate) fn disk_fails(&self) -> bool {
        self.plan.disk_trouble.iter().any(|(from, until)| (*from..*until).contains(&self.now))
    }
}
