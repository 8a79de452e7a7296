//! Simulation of the scheduler and of the rules of the queue with a model of PagerDuty, in virtual time.
//!
//! A world is generated from its seed: what arrives, when PagerDuty fails and how, at which steps the bridge is killed,
//! when the disk fails, what shares a commit, which reads fail or are late, what cannot be read, which announcements are
//! dropped, and the admin actions at any moment. In it runs the real [`Scheduler`], driven in the same way as by the
//! worker, over the real rules of the queue in a [`MemoryQueue`]. The invariants are checked while it runs and at its end.
//! A world that violates one prints its seed, and can be run alone with `SIMULATION_SEED=that number`; `SIMULATION_TIMES`
//! multiplies the number of worlds of each kind.
//!
//! [`MemoryQueue`]: sentry_pagerduty_bridge::queue::memory::MemoryQueue
//! [`Scheduler`]: sentry_pagerduty_bridge::delivery::Scheduler

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "these are tests, helpers of tests included")]
#![allow(clippy::unchecked_time_subtraction, reason = "a test may panic")]

mod admin;
mod bridge;
mod commits;
mod decide;
mod fault;
mod generator;
mod invariants;
mod pagerduty;
mod queue;
mod runner;
mod scenario;
mod steps;
mod world;

use runner::in_worlds;
use scenario::Scenario;

#[test]
fn in_any_world_everything_accepted_is_delivered_in_order_at_the_pace_or_dead_with_a_reason() {
    in_worlds(10_000, |seed| {
        let end = world::run(Scenario::all_faults(seed));
        invariants::nothing_is_lost(&end);
        invariants::only_culprits_are_dead_letters(&end);
        invariants::the_backlog_drains(&end, invariants::AFTER_ANYTHING);
    });
}

#[test]
fn after_an_outage_of_any_length_the_backlog_drains_in_the_least_possible_time_and_nothing_died() {
    in_worlds(500, |seed| {
        let end = world::run(Scenario::outage(seed));
        invariants::nothing_is_lost(&end);
        invariants::there_are_no_dead_letters(&end);
        invariants::the_backlog_drains(&end, invariants::AFTER_AN_OUTAGE);
    });
}

#[test]
fn however_long_pagerduty_throttles_nothing_dies_and_the_rate_comes_back() {
    in_worlds(500, |seed| {
        let end = world::run(Scenario::throttling(seed));
        invariants::nothing_is_lost(&end);
        invariants::there_are_no_dead_letters(&end);
        invariants::the_backlog_drains(&end, invariants::AFTER_ANYTHING);
    });
}

#[test]
fn an_event_pagerduty_chokes_on_is_given_up_in_time_and_holds_up_no_other_incident() {
    in_worlds(500, |seed| {
        let end = world::run(Scenario::poison(seed));
        invariants::nothing_is_lost(&end);
        invariants::poison_events_are_given_up_in_time(&end);
        invariants::other_events_are_delivered_at_once(&end);
    });
}

#[test]
fn a_key_in_trouble_slows_no_other_key_down() {
    in_worlds(500, |seed| {
        let scenario = Scenario::bad_neighbours(seed);
        let alone = world::run(scenario.only_key(0));
        let together = world::run(scenario);
        invariants::nothing_is_lost(&together);
        invariants::key_is_as_fast_as_alone(0, &alone, &together);
    });
}

#[test]
fn however_many_keys_are_slow_the_events_of_the_others_leave_at_once() {
    in_worlds(200, |seed| {
        let end = world::run(Scenario::slow_keys(seed));
        invariants::nothing_is_lost(&end);
        invariants::there_are_no_dead_letters(&end);
        invariants::healthy_keys_never_wait_for_slow_ones(&end);
    });
}
