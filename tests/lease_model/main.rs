//! The lease protocol, with the beginning and the settlement of attempts, in every possible order of events: two bridges,
//! two service keys, three events, and what can go wrong with them, within a bounded time.
//!
//! The rules are the program's own: [`Member`] and [`LeaseTable`]. Around them, this model has a database whose answers may
//! get lost, bridges that are killed or stopped at any moment for any time, and a PagerDuty that accepts what comes.
//! Seconds are steps here: an attempt takes less than one. All of that happens to the first bridge, which has both keys in the
//! beginning; the second one is faultless, asks the database once in every step and takes over.
//!
//! The same search finds what goes wrong when a rule is left out, so the rules are needed and the search can fail.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod model;

use std::time::{Duration, Instant};

use model::{Protocol, Rule};
use stateright::{Checker, Model};

/// The search is bounded by the model; this bounds a mistake in it.
const PATIENCE: Duration = Duration::from_mins(4);

fn check(protocol: Protocol) -> impl Checker<Protocol> {
    protocol.checker().threads(2).timeout(PATIENCE).spawn_bfs().join()
}

#[track_caller]
fn assert_holds(protocol: Protocol) {
    let begun = Instant::now();
    let checker = check(protocol);
    println!("{} states", checker.unique_state_count());
    assert!(begun.elapsed() < PATIENCE, "not all states were visited within {PATIENCE:?}");
    checker.assert_properties();
}

#[test]
fn every_reachable_state_keeps_the_order_and_has_one_sender_for_each_key_whatever_is_lost_or_killed() {
    assert_holds(Protocol::with_losses());
}

#[test]
fn every_reachable_state_keeps_the_order_and_has_one_sender_for_each_key_however_long_bridges_are_stopped() {
    assert_holds(Protocol::with_stops());
}

#[test]
fn without_the_fence_the_search_finds_two_senders() {
    let checker = check(Protocol::with_stops().without(Rule::Fence));
    assert!(checker.discovery(model::ONE_SENDER).is_some());
}

#[test]
fn without_the_wait_after_an_expired_lease_the_search_finds_two_senders() {
    let checker = check(Protocol::with_stops().without(Rule::Wait));
    assert!(checker.discovery(model::ONE_SENDER).is_some());
}

#[test]
fn without_a_look_at_the_own_clock_the_search_finds_two_senders() {
    let checker = check(Protocol::with_losses().without(Rule::Clock));
    assert!(checker.discovery(model::ONE_SENDER).is_some());
}
