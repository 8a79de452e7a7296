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
use crate::scenario::{AdminAction, Crash, Scenario, TIMEOUT};
use crate::steps::{RequestInFlight, Step};

/// The state at the end.
#[derive(Debug)]
pub(crate) struct EndState {
    pub(crate) scenario: Scenario,
    pub(crate) queue: Queue,
    pub(crate) pagerduty: PagerDuty,
    /// From this time on there were no faults.
    pub(crate) faults_end: Duration,
    /// The number of waiting events of each key at that time.
    pub(crate) backlog: Vec<usize>,
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
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
    pub(crate) requests_in_flight: BTreeMap<u64, RequestInFlight>,
    crashes: VecDeque<Crash>,
    admin_actions: VecDeque<(u64, AdminAction)>,
    schedule: BinaryHeap<Reverse<(Duration, usize)>>,
    /// All steps that were ever scheduled; a step is taken out when it is executed.
    steps: Vec<Option<Step>>,
    faults_end: Duration,
    backlog: Vec<usize>,
}

/// Runs the scenario until no step is left.
pub(crate) fn run(scenario: Scenario) -> EndState {
    let mut world = World::new(scenario);
    world.run_to_end();
    let World { scenario, queue, pagerduty, faults_end, backlog, .. } = world;
    EndState { scenario, queue, pagerduty, faults_end, backlog }
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let rate = scenario.limits.rate as usize;
        let mut crashes = scenario.crashes.clone();
        crashes.sort_unstable_by_key(|crash| crash.after_steps);
        let mut admin_actions = scenario.admin_actions_between.clone();
        admin_actions.sort_unstable_by_key(|(after_steps, _)| *after_steps);
        let mut world = Self {
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(!scenario.seed),
            queue: Queue::new(scenario.unreadable.clone()),
            pagerduty: PagerDuty::new(scenario.faults.clone(), scenario.keys, scenario.travel, TIMEOUT, rate),
            bridge: None,
            run: 0,
            attempts: 0,
            operations: 0,
            pending: BTreeMap::new(),
            requests_in_flight: BTreeMap::new(),
            crashes: crashes.into(),
            admin_actions: admin_actions.into(),
            schedule: BinaryHeap::new(),
            steps: Vec::new(),
            faults_end: scenario.faults_end(),
            backlog: Vec::new(),
            scenario,
        };
        world.after(Duration::ZERO, Step::Start);
        for alert in world.scenario.alerts.clone() {
            world.after(alert.at, Step::AlertArrives(alert));
        }
        for (at, admin_action) in world.scenario.admin_actions.clone() {
            world.after(at, Step::AdminAction(admin_action));
        }
        world.after(world.faults_end, Step::EndOfFaults);
        world
    }

    fn run_to_end(&mut self) {
        let patience = self.faults_end + Duration::from_hours(24);
        let mut steps = 0;
        while let Some(Reverse((at, place))) = self.schedule.pop() {
            assert!(at < patience, "a day after all was calm events are still waiting: {:#?}", self.bridge);
            self.now = at;
            if let Some(step) = self.steps[place].take() {
                self.apply(step);
            }
            steps += 1;
            while let Some((_, admin_action)) =
                self.admin_actions.pop_front_if(|(after_steps, _)| *after_steps <= steps)
            {
                self.admin_action(admin_action);
                self.mark_end_of_faults();
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
        for (_, lost) in std::mem::take(&mut self.requests_in_flight) {
            if self.rng.random_bool(0.5) {
                self.pagerduty.receive(&lost.request, self.now);
            }
        }
        self.after(crash.down, Step::Start);
    }

    /// Records the backlog, if the faults are over: this step was the last of them.
    pub(crate) fn mark_end_of_faults(&mut self) {
        if self.now >= self.faults_end && self.bridge.is_some() {
            self.faults_end = self.now;
            self.backlog = (0..self.scenario.keys).map(|key| self.queue.waiting(key).len()).collect();
        }
    }

    pub(crate) fn commit_time(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(self.scenario.commit.clone()))
    }

    pub(crate) fn disk_fails(&self) -> bool {
        self.scenario.disk_failures.iter().any(|(from, until)| (*from..*until).contains(&self.now))
    }
}
