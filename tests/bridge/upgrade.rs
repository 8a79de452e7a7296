//! A new version opens the database of an old one.
//!
//! `fixtures/queue/version-7.db` was written by version 0.1.0 (tables of version 7): with PagerDuty refusing, accepting
//! and then unreachable, it was stopped while events waited.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Bridge, ClosedPort, PagerDuty, run};

/// The service keys that the fixture was written with.
const KEY: &str = "0123456789abcdef0123456789abcdef";
const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/queue/version-7.db")
}

fn queue(bridge: &Bridge, args: &[&str]) -> String {
    let database = format!("sqlite:{}", bridge.database().display());
    let run = run(&[&["queue"], args].concat(), &[("BRIDGE_DATABASE_URL", &database)]);
    assert_eq!(run.code, Some(0), "{run:?}");
    run.stdout
}

/// Id, incident, event type, number of alerts and reason of each event in these states, as `queue list` prints them.
fn rows(bridge: &Bridge, states: &[&str]) -> Vec<Value> {
    let states = states.iter().flat_map(|state| ["--state", state]);
    let listed = queue(bridge, &["list", "--json"].into_iter().chain(states).collect::<Vec<_>>());
    let rows: Vec<Value> = serde_json::from_str(&listed).unwrap();
    rows.iter()
        .map(|row| json!([row["id"], row["incident_key"], row["event_type"], row["count"], row["reason"]]))
        .collect()
}

#[test]
fn a_database_of_version_0_1_is_taken_over_without_loss() {
    let nobody = ClosedPort::new();
    let settings = [("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_KEEP_DELIVERED", "3650d")];
    let mut bridge = Bridge::start_on(&fixture(), &nobody.url(), &settings);

    let refused = "answered 400: Event object is invalid: The sandbox was told to refuse this event";
    assert_eq!(
        rows(&bridge, &["dead"]),
        [json!(["6", "133", "trigger", 1, refused]), json!(["7", "178", "trigger", 1, refused])]
    );
    let no_json = "the body is not JSON: it cannot be read at line 1, column 2";
    let no_webhook = "the body is JSON, but no webhook of Sentry: it tells of neither an event nor a project";
    assert_eq!(
        rows(&bridge, &["rejected"]),
        [json!(["r1", null, null, null, no_json]), json!(["r2", null, null, null, no_webhook])]
    );
    let waiting: Vec<Value> =
        rows(&bridge, &["waiting"]).into_iter().map(|row| json!([row[0], row[1], row[2], row[3]])).collect();
    assert_eq!(
        waiting,
        [
            json!(["11", "125", "trigger", 1]),
            json!(["12", "134", "trigger", 1]),
            json!(["13", "134", "trigger", 2]),
            json!(["14", "157", "resolve", 1]),
        ]
    );
    assert_eq!(rows(&bridge, &["delivered"]).len(), 8);
    assert!(queue(&bridge, &["show", "r2"]).contains(r#"{"a":1}"#));

    // Waiting events are delivered in order, and the alerts that were folded before the upgrade are counted once.
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    let pagerduty: PagerDuty = nobody.open();
    bridge.restart();
    pagerduty.wait_for_accepted(4);
    let of_134: Vec<Value> = pagerduty
        .journal()
        .into_iter()
        .filter(|entry| entry.incident_key.as_deref() == Some("134"))
        .map(|entry| entry.event.unwrap()["details"]["occurrences"].clone())
        .collect();
    assert_eq!(of_134, [Value::Null, json!(2)]);

    // A dead letter of the old version is delivered with its own bytes to its own key.
    assert!(queue(&bridge, &["retry", "6"]).contains('6'));
    pagerduty.wait_for_accepted(5);
    assert!(pagerduty.journal().iter().any(|entry| entry.incident_key.as_deref() == Some("133")));

    // The open incidents are still known: a resolve is sent to the key that the alert was routed to.
    let resolved = json!({
        "action": "resolved",
        "installation": {"uuid": "00000000-0000-4000-8000-000000000000"},
        "data": {"issue": {"id": "138", "title": "Level fatal", "level": "fatal", "status": "resolved"}},
    });
    bridge.queue(resolved.to_string().as_bytes());
    pagerduty.wait_for_accepted(6);
    let last = pagerduty.journal().into_iter().last().unwrap();
    assert_eq!((last.text("service_key"), last.text("event_type")), (Some(OTHER_KEY), Some("resolve")));
}
