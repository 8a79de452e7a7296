//! Simulation of several bridges on one queue in virtual time: the real scheduler and the real lease protocol of each
//! bridge, the queue in memory, which decides by the real rules, and a model of PagerDuty.
//!
//! A world is generated from its seed: when alerts come, how far each clock is off, which bridge is killed, suspended for
//! longer than its lease, disconnected from the database or told to stop, which responses of the database are lost, and
//! when PagerDuty does not answer. `SIMULATION_SEED` runs one world alone, and `SIMULATION_TIMES` multiplies the number of
//! worlds.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "these are tests, helpers of tests included")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the numbers of a world are small")]
#![allow(clippy::unchecked_time_subtraction, reason = "a test may panic")]

mod bridge;
#[path = "../simulation/runner.rs"]
mod runner;
mod world;

#[test]
fn in_any_world_several_bridges_deliver_everything_once_in_order_within_the_rate_and_one_at_a_time() {
    runner::in_worlds(2_000, |seed| {
        let end = world::World::new(seed).run();
        end.assert_all_delivered();
        end.assert_order();
        end.assert_rate();
        end.assert_one_sender();
    });
}
