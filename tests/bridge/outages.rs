//! PagerDuty is away, and so is the bridge at times: what was answered 202 is delivered all the same.

use sentry_pagerduty_bridge::queue::State;

use crate::support::{Bridge, ClosedPort, alert};

const MESSAGES: [&str; 3] = ["one", "two", "three"];

/// What has to reach PagerDuty in the end, and how often.
fn expected() -> Vec<(String, String)> {
    MESSAGES.iter().map(|message| ("7".to_owned(), (*message).to_owned())).collect()
}

#[test]
fn alerts_are_answered_while_pagerduty_is_unreachable_and_delivered_when_it_is_back() {
    let port = ClosedPort::new();
    let bridge = Bridge::start(&port.url());
    for message in MESSAGES {
        bridge.queue(&alert(7, message));
    }
    bridge.wait_for_log("not delivered yet: no connection");
    assert_eq!(bridge.get("/readyz").status, 200);
    let pagerduty = port.open();
    pagerduty.wait_for_accepted(3);
    assert_eq!(pagerduty.triggers(), expected());
    assert!(bridge.end().iter().all(|record| record.state == State::Delivered));
}

#[test]
fn what_waits_when_the_bridge_is_stopped_is_delivered_after_its_next_start() {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start(&port.url());
    for message in MESSAGES {
        bridge.queue(&alert(7, message));
    }
    bridge.wait_for_log("not delivered yet");
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    let pagerduty = port.open();
    bridge.restart();
    pagerduty.wait_for_accepted(3);
    assert_eq!(pagerduty.triggers(), expected());
}

#[test]
fn what_was_answered_202_survives_a_kill_at_any_moment() {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start(&port.url());
    for message in MESSAGES {
        // Killed right after the answer, and again each time.
        bridge.queue(&alert(7, message));
        bridge.process.kill();
        bridge.restart();
    }
    let pagerduty = port.open();
    pagerduty.wait_for_accepted(3);
    assert_eq!(pagerduty.triggers(), expected());
    let records = bridge.end();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.state == State::Delivered));
}
