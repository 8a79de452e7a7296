//! Slow responses for some service keys do not delay the events of the others.

use std::time::Duration;

use pagerduty_sandbox::Fault;
use sentry_pagerduty_bridge::queue::State;

use super::integrations::{Integrations, key};

/// PagerDuty delays the responses of `slow` of `keys` integrations beyond the end of the test, and each of those has
/// `slow_alerts` alerts. Asserts that all events of the other integrations are delivered meanwhile.
#[track_caller]
fn assert_the_others_pass(keys: usize, slow: usize, slow_alerts: u64, alerts: u64) {
    let is_slow = |case: usize| case.is_multiple_of(keys / slow) && case / (keys / slow) < slow;
    let delay = |case| if is_slow(case) { Duration::from_mins(5) } else { Duration::ZERO };
    let faults = (0..keys).map(|case| Fault::Delay { by: delay(case) });
    let settings = [("BRIDGE_PAGERDUTY_TIMEOUT", "5m"), ("BRIDGE_SHUTDOWN_GRACE", "2s")];
    let many = Integrations::start(faults, &settings);
    let healthy: Vec<String> = many.cases().filter(|case| !is_slow(*case)).map(key).collect();
    for issue in 1..=slow_alerts.max(alerts) {
        for case in many.cases().filter(|case| issue <= if is_slow(*case) { slow_alerts } else { alerts }) {
            many.queue(case, issue, "first");
        }
    }
    let expected = healthy.len() * usize::try_from(alerts).unwrap();
    many.pagerduty.wait_for(&format!("{expected} events of healthy keys"), |records| {
        let keys = records.journal().filter_map(|entry| entry.text("service_key"));
        keys.filter(|key| healthy.iter().any(|healthy| healthy == key)).count() >= expected
    });
    let records = many.bridge.end();
    assert_eq!(records.len(), expected + slow * usize::try_from(slow_alerts).unwrap());
    for record in records {
        let healthy = healthy.iter().any(|healthy| healthy == record.summary.service_key.expose());
        let state = if healthy { State::Delivered } else { State::Waiting };
        assert_eq!(record.summary.state, state, "{record:?}");
    }
}

#[test]
fn while_50_of_500_keys_are_unanswered_all_events_of_the_others_are_delivered() {
    assert_the_others_pass(500, 50, 3, 1);
}

#[test]
fn while_80_of_300_keys_are_unanswered_all_events_of_the_others_are_delivered() {
    assert_the_others_pass(300, 80, 4, 2);
}
