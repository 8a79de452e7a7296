//! The bridge's knowledge of PagerDuty's failures survives a restart.

use std::net::TcpListener;

use pagerduty_sandbox::{Fault, FaultRule};
use serde_json::{Value, json};

use crate::observation::{ADMIN_TOKEN, Observation, wait_for};
use crate::support::{Bridge, ClosedPort, OTHER_KEY, PagerDuty, ROUTES, alert};

const ADMIN: (&str, &str) = ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN);

/// An alert that [`ROUTES`] sends to [`OTHER_KEY`].
fn fatal(issue: u64) -> Vec<u8> {
    let mut alert: Value = serde_json::from_slice(&alert(issue, "Disk full")).unwrap();
    alert["level"] = json!("fatal");
    alert["event"]["level"] = json!("fatal");
    alert.to_string().into_bytes()
}

#[track_caller]
fn is_failing_for_dead_letters(observed: &Observation) {
    assert_eq!((observed.health(), observed.troubles()), ("failing", vec!["dead_letters"]), "{observed:#?}");
    let sentence = observed.status["troubles"][0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("PagerDuty has accepted no event for that key since"), "{sentence}");
}

#[test]
fn a_key_that_delivers_nothing_is_failing_after_a_restart_too() {
    for signal in ["TERM", "KILL"] {
        let refuses = FaultRule { service_key: Some(OTHER_KEY.to_owned()), ..FaultRule::new(Fault::status(400)) };
        let pagerduty = PagerDuty::with_fault(refuses);
        let mut bridge = Bridge::start_with(&pagerduty.url(), &[ADMIN, ROUTES]);
        bridge.queue(&fatal(1));
        wait_for(bridge.address, "the dead letter", |observed| observed.status["queue"]["dead"] == 1);
        // Meanwhile another key delivers, which says nothing about this one.
        bridge.queue(&alert(2, "Disk full"));
        wait_for(bridge.address, "the delivery", |observed| observed.status["queue"]["delivered"] == 1);
        is_failing_for_dead_letters(&Observation::of(bridge.address));

        pagerduty.inject(FaultRule::new(Fault::status(503))).unwrap();
        bridge.terminate(signal);
        bridge.restart();
        is_failing_for_dead_letters(&Observation::of(bridge.address));
    }
}

#[test]
fn a_key_that_delivered_after_a_dead_letter_is_degraded_after_a_restart_too() {
    for signal in ["TERM", "KILL"] {
        let refused = FaultRule { incident_key: Some("1".to_owned()), ..FaultRule::new(Fault::status(400)) };
        let pagerduty = PagerDuty::with_fault(refused);
        let mut bridge = Bridge::start_with(&pagerduty.url(), &[ADMIN]);
        bridge.queue(&alert(1, "Disk full"));
        wait_for(bridge.address, "the dead letter", |observed| observed.status["queue"]["dead"] == 1);
        bridge.queue(&alert(2, "Disk full"));
        let is_degraded =
            |observed: &Observation| observed.status["queue"]["delivered"] == 1 && observed.health() == "degraded";
        wait_for(bridge.address, "the delivery", is_degraded);
        bridge.terminate(signal);
        bridge.restart();
        let observed = Observation::of(bridge.address);
        assert_eq!((observed.health(), observed.troubles()), ("degraded", vec!["dead_letters"]), "{observed:#?}");
    }
}

#[track_caller]
fn names(observed: &Observation, reason: &str) {
    assert_eq!(
        (observed.health(), observed.troubles(), observed.trouble_metrics()),
        ("degraded", vec!["delivery"], vec!["delivery"])
    );
    let sentence = observed.status["troubles"][0]["sentence"].as_str().unwrap();
    assert!(sentence.contains(reason) && sentence.contains("…00A1"), "{sentence}");
}

#[test]
fn with_pagerduty_down_the_status_names_the_trouble() {
    let port = ClosedPort::new();
    let bridge = Bridge::start_with(&port.url(), &[ADMIN]);
    bridge.queue(&alert(1, "Disk full"));
    bridge.wait_for_log("not delivered yet: no connection");
    names(&wait_for(bridge.address, "the trouble", |observed| observed.health() == "degraded"), "no connection");
    let headline = Observation::of(bridge.address).status["headline"].clone();
    let sentence = headline["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("PagerDuty has not answered since ") && sentence.contains("; 1 alert waits"),
        "{sentence}"
    );
    let pagerduty = port.open();
    let observed = wait_for(bridge.address, "the delivery", |observed| observed.health() == "healthy");
    assert_eq!(observed.troubles(), [""; 0]);
    drop(pagerduty);
}

#[test]
fn with_pagerduty_still_down_after_a_restart_the_status_names_the_trouble_before_the_first_attempt_ends() {
    // Nothing calls `accept`: the kernel accepts the connection and the request, and there is never an answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut bridge = Bridge::start_with(&url, &[ADMIN, ("BRIDGE_PAGERDUTY_TIMEOUT", "3s")]);
    bridge.queue(&alert(1, "Disk full"));
    bridge.wait_for_log("not delivered yet: no answer within 3s");
    names(&wait_for(bridge.address, "the trouble", |observed| observed.health() == "degraded"), "no answer within 3s");
    bridge.terminate("KILL");
    bridge.restart();
    names(&Observation::of(bridge.address), "no answer within 3s");
}
