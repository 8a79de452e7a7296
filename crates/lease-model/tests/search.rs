//! Every reachable state is visited. If a rule is left out, the same search finds a violation, which shows that the rule is
//! needed and that the search can fail.

use std::env;
use std::time::{Duration, Instant};

use lease_model::{LeaseRule, ONE_SENDER, Protocol};
use stateright::{Checker, HasDiscoveries, Model};

/// The model bounds the search; this limit applies if there is a mistake in the model.
const PATIENCE: Duration = Duration::from_mins(4);

fn number(name: &str, usual: u8) -> u8 {
    env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

/// Two faults, each of any kind and in any bridge.
fn any_faults() -> Protocol {
    Protocol::new(number("LEASE_MODEL_STEPS", 5), 2)
}

/// Two crashes or hold-ups, with enough time for a takeover after each.
fn only_stops() -> Protocol {
    Protocol::new(number("LEASE_MODEL_STEPS", 10), 2).only_stops()
}

fn search(protocol: Protocol) -> impl Checker<Protocol> {
    protocol.checker().threads(2).timeout(PATIENCE).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

#[track_caller]
fn assert_holds(protocol: Protocol) {
    let begun = Instant::now();
    let checker = search(protocol);
    println!(
        "{} states, {} deep, in {:?}; members, tables, views: {:?}",
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed(),
        checker.model().rules().values()
    );
    assert!(begun.elapsed() < PATIENCE, "not all states were visited within {PATIENCE:?}");
    checker.assert_properties();
}

#[test]
fn every_reachable_state_keeps_the_order_and_has_one_sender_for_each_key_whatever_fails() {
    assert_holds(any_faults());
}

#[test]
fn every_reachable_state_keeps_them_also_after_a_takeover_when_bridges_crash_or_are_held_up() {
    assert_holds(only_stops());
}

#[track_caller]
fn assert_two_senders_without(rule: LeaseRule) {
    let checker = search(any_faults().without(rule));
    assert!(
        checker.discovery(ONE_SENDER).is_some(),
        "{rule:?} is not needed in {} states",
        checker.unique_state_count()
    );
}

#[test]
fn without_the_fence_the_search_finds_two_senders() {
    assert_two_senders_without(LeaseRule::Fence);
}

#[test]
fn without_the_wait_after_an_expired_lease_the_search_finds_two_senders() {
    assert_two_senders_without(LeaseRule::Wait);
}

#[test]
fn without_a_look_at_the_own_clock_the_search_finds_two_senders() {
    assert_two_senders_without(LeaseRule::Clock);
}
