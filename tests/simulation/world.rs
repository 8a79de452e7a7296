//! A world: executes its steps in the order of their times.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::bridge::Bridge;
use crate::commits::Operation;
use crate::pagerduty::PagerDuty;
use crate::queue::Queue;
use crate::scenario::{AdminAction, Crash, Plan, TIMEOUT};
use crate::steps::{OnTheWire, Step};

/// The state at the end.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) plan: Plan,
    pub(crate) queue: Queue,
    pub(crate) pagerduty: PagerDuty,
    /// From this time on there were no faults.
    pub(crate) calm_at: Duration,
    /// The number of waiting events of each key at that time.
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
    /// The number of the current or the next run of the bridge.
    pub(crate) run: u32,
    pub(crate) attempts: u64,
    /// The number of operations so far.
    pub(crate) operations: u64,
    /// The operations of the running bridge that are not answered yet, by their numbers.
    pub(crate) pending: BTreeMap<u64, Operation>,
    pub(crate) on_the_wire: BTreeMap<u64, OnTheWire>,
    crashes: VecDeque<Crash>,
    admin_actions: VecDeque<(u64, AdminAction)>,
    schedule: BinaryHeap<Reverse<(Duration, usize)>>,
    /// All steps that were ever scheduled; a step is taken out when it is executed.
    steps: Vec<Option<Step>>,
    calm_at: Duration,
    backlog: Vec<usize>,
}

/// Runs the scenario until no step is left.
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
        let mut admin_actions = plan.admin_actions_between.clone();
        admin_actions.sort_unstable_by_key(|(after_steps, _)| *after_steps);
        let mut world = Self {
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(!plan.seed),
            queue: Queue::new(plan.unreadable.clone()),
            pagerduty: PagerDuty::new(plan.faults.clone(), plan.keys, plan.travel, TIMEOUT, rate),
            bridge: None,
            run: 0,
            attempts: 0,
            operations: 0,
            pending: BTreeMap::new(),
            on_the_wire: BTreeMap::new(),
            crashes: crashes.into(),
            admin_actions: admin_actions.into(),
            schedule: BinaryHeap::new(),
            steps: Vec::new(),
            calm_at: plan.calm_at(),
            backlog: Vec::new(),
            plan,
        };
        world.after(Duration::ZERO, Step::Start);
        for alert in world.plan.alerts.clone() {
            world.after(alert.at, Step::Comes(alert));
        }
        for (at, admin_action) in world.plan.admin_actions.clone() {
            world.after(at, Step::AdminAction(admin_action));
        }
        world.after(world.calm_at, Step::Calm);
        world
    }

    fn live(&mut self) {
        let patience = self.calm_at + Duration::from_hours(24);
        let mut steps = 0;
        while let Some(Reverse((at, place))) = self.schedule.pop() {
            assert!(at < patience, "a day after all was calm events are still waiting: {:#?}", self.bridge);
            self.now = at;
            if let Some(step) = self.steps[place].take() {
                self.happen(step);
            }
            steps += 1;
            while let Some((_, admin_action)) =
                self.admin_actions.pop_front_if(|(after_steps, _)| *after_steps <= steps)
            {
                self.admin_action(admin_action);
                self.mark_calm();
            }
            if let Some(crash) = self.crashes.pop_front_if(|crash| crash.after_steps <= steps && self.bridge.is_some())
            {
                self.crash(crash);
            }
        }
    }

    pub(crate) fn after(&mut self, wait: Duration, step: Step) {
        self.schedule.push(Reverse((self.now + wait, self.steps.len())));
        self.steps.push(Some(step));
    }

    /// Kills the bridge: operations that are not committed are lost, and requests in flight may still arrive.
    fn crash(&mut self, crash: Crash) {
        self.lose_answers();
        self.bridge = None;
        self.run += 1;
        for (_, lost) in std::mem::take(&mut self.on_the_wire) {
            if self.rng.random_bool(0.5) {
                self.pagerduty.receive(&lost.request, self.now);
            }
        }
        self.after(crash.down, Step::Start);
    }

    /// Records the backlog, if the faults are over: this step was the last of them.
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
