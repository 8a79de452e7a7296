//! PagerDuty is unreachable, and the bridge is stopped and started meanwhile: everything that was answered 202 is
//! delivered.

use sentry_pagerduty_bridge::queue::State;

use crate::support::{Bridge, ClosedPort, IS_POSTGRES, KEY, PagerDuty, alert, execute_sql};

/// Issues and their messages.
const ALERTS: [(u64, &str); 3] = [(7, "one"), (8, "two"), (9, "three")];

/// Asserts that PagerDuty received each alert once. The order between incidents does not matter.
#[track_caller]
fn assert_all_arrived(pagerduty: &PagerDuty) {
    pagerduty.wait_for_accepted(3);
    let mut triggers = pagerduty.triggers();
    triggers.sort();
    assert_eq!(triggers, ALERTS.map(|(issue, message)| (issue.to_string(), message.to_owned())));
}

#[test]
fn alerts_are_answered_while_pagerduty_is_unreachable_and_delivered_when_it_is_back() {
    let port = ClosedPort::new();
    let bridge = Bridge::start(&port.url());
    for (issue, message) in ALERTS {
        bridge.queue(&alert(issue, message));
    }
    bridge.wait_for_log("not delivered yet: no connection");
    assert_eq!(bridge.get("/readyz").status, 200);
    let pagerduty = port.open();
    assert_all_arrived(&pagerduty);
    assert!(bridge.end().iter().all(|record| record.summary.state == State::Delivered));
}

#[test]
fn what_waits_when_the_bridge_is_stopped_is_delivered_after_its_next_start() {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start(&port.url());
    for (issue, message) in ALERTS {
        bridge.queue(&alert(issue, message));
    }
    bridge.wait_for_log("not delivered yet");
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    let pagerduty = port.open();
    bridge.restart();
    assert_all_arrived(&pagerduty);
}

#[test]
fn after_the_clock_was_set_back_by_two_hours_an_alert_leaves_at_once() {
    let pagerduty = PagerDuty::start();
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_PAGERDUTY_RATE", "120")]);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    // For two hours, by the clock before it was set back, one event a second was delivered.
    let made_by_postgresql =
        "INSERT INTO events (state, service_key, incident_key, event_type, received_at, first_seen,
            attempts, last_attempt_at, finished_at, description)
        SELECT 'delivered', convert_from(?, 'UTF8'), second::text, 'trigger', at, at, 1, at, at, ''
        FROM (
            SELECT second, 1000 * (EXTRACT(EPOCH FROM now())::bigint + second) AS at
            FROM generate_series(1, 7200) AS clock (second)
        ) AS delivered";
    let made_by_sqlite =
        "WITH RECURSIVE clock (second) AS (SELECT 1 UNION ALL SELECT second + 1 FROM clock WHERE second < 7200)
        INSERT INTO events (state, service_key, incident_key, event_type, received_at, first_seen, attempts,
            last_attempt_at, finished_at, description)
        SELECT 'delivered', CAST(?1 AS TEXT), second, 'trigger', at, at, 1, at, at, ''
        FROM (SELECT second, 1000 * (unixepoch() + second) AS at FROM clock)";
    execute_sql(&bridge, if IS_POSTGRES { made_by_postgresql } else { made_by_sqlite }, KEY.as_bytes());
    bridge.restart();
    bridge.queue(&alert(7, "Disk full"));
    // If all of those attempts counted as just made, the rate limit would be used up.
    pagerduty.wait_for_accepted(1);
}
