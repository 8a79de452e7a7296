//! The actions of `/api`: retry, discard and readmit.

use pagerduty_sandbox::{Fault, FaultRule};
use sentry_pagerduty_bridge::queue::State;
use serde_json::{Value, json};

use super::client::{Client, start, texts};
use super::reads::bridge_with_entries;
use crate::support::{Bridge, PagerDuty, alert, execute_sql};

/// Makes `number` dead letters.
#[track_caller]
fn refuse(bridge: &Bridge, pagerduty: &PagerDuty, number: u32) {
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(number.into())).unwrap();
    for issue in 1..=number {
        bridge.queue(&alert(issue.into(), &format!("Disk {issue} full")));
    }
    pagerduty.wait_for_requests(number.into());
}

/// Waits until these events are dead letters.
#[track_caller]
fn wait_for_dead(bridge: &Bridge, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        bridge.process.stderr.wait_for(&format!("the dead letter {number}"), |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["event"] == number && line["message"].as_str()?.starts_with("dead letter")).then_some(())
        });
    }
}

#[test]
fn a_dead_letter_is_seen_retried_and_delivered() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    refuse(&bridge, &pagerduty, 1);
    wait_for_dead(&bridge, 1..=1);
    let client = Client::new(&bridge);
    assert_eq!(texts(&client.get("/api/events?state=dead")["events"], "id"), ["1"]);

    let outcome = client.done("POST", "/api/events/1/retry", "");
    assert_eq!((&outcome["id"], &outcome["outcome"]), (&json!("1"), &json!("waits_again")));
    pagerduty.wait_for_accepted(1);
    assert_eq!(pagerduty.triggers(), [("1".to_owned(), "Disk 1 full".to_owned())]);
    let (status, reason) = client.refused("POST", "/api/events/1/retry", "");
    assert!(
        status == 409 && reason.starts_with("1 is ") && reason.ends_with("; only dead letters can be retried"),
        "{status} {reason}"
    );
    assert_eq!(client.refused("POST", "/api/events/99/retry", "").0, 404);
    assert_eq!(bridge.end()[0].summary.state, State::Delivered);
}

#[test]
fn a_rejected_webhook_is_seen_and_becomes_an_event() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    bridge.reject(b"{", 400);
    bridge.reject(b"[", 400);
    let client = Client::new(&bridge);
    let (status, reason) = client.refused("POST", "/api/rejected/r1/retry", "");
    assert!(status == 409 && reason.contains("JSON"), "{status} {reason}");
    // A webhook that an earlier version rejected and this version understands.
    execute_sql(&bridge, "UPDATE rejected SET body = ?, reason = 'an old reason' WHERE id = 1", &alert(7, "Disk full"));
    assert_eq!(client.get("/api/rejected/r1")["reason"], "an old reason");

    let outcome = client.done("POST", "/api/rejected/r1/retry", "");
    assert_eq!((&outcome["outcome"], &outcome["incident_key"]), (&json!("queued"), &json!("7")));
    assert_eq!(outcome["events"], json!(["1"]));
    pagerduty.wait_for_accepted(1);
    assert_eq!(pagerduty.triggers(), [("7".to_owned(), "Disk full".to_owned())]);
    assert_eq!(client.refused("GET", "/api/rejected/r1", "").0, 404);
    assert_eq!(client.refused("POST", "/api/rejected/r1/retry", "").0, 404);
    assert_eq!(texts(&client.get("/api/rejected")["rejected"], "id"), ["r2"]);
}

#[test]
fn what_is_discarded_is_gone_and_only_where_it_was_seen() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge_with_entries(&pagerduty);
    let client = Client::new(&bridge);
    let (status, reason) = client.refused("DELETE", "/api/events/3?state=dead", "");
    assert!(status == 409 && reason.contains("left as it is"), "{status} {reason}");
    client.get("/api/events/3");
    assert_eq!(client.refused("DELETE", "/api/events/3?stat=dead", "").0, 400);
    assert_eq!(client.done("DELETE", "/api/events/1?state=dead", "")["outcome"], "discarded");
    assert_eq!(client.done("DELETE", "/api/events/3", "")["outcome"], "discarded");
    assert_eq!(client.done("DELETE", "/api/rejected/r1", "")["outcome"], "discarded");
    for path in ["/api/events/1", "/api/events/3", "/api/rejected/r1"] {
        assert_eq!(client.refused("DELETE", path, "").0, 404, "{path}");
    }
    assert_eq!(texts(&client.get("/api/events")["events"], "id"), ["4", "2"]);
}

#[test]
fn many_are_retried_and_discarded_at_once() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    refuse(&bridge, &pagerduty, 5);
    wait_for_dead(&bridge, 1..=5);
    bridge.reject(b"{", 400);
    let client = Client::new(&bridge);

    let said = client.done("POST", "/api/retry", r#"{"ids":["r1","2","99","2"]}"#);
    assert_eq!(texts(&said["results"], "id"), ["2", "99", "r1"]);
    assert_eq!(texts(&said["results"], "outcome"), ["waits_again", "not_there", "still_rejected"]);
    assert_eq!(said["left"], json!({"dead": 4, "rejected": 1}));
    pagerduty.wait_for_accepted(1);

    let said = client.done("POST", "/api/discard", r#"{"ids":["1","r9"]}"#);
    assert_eq!(texts(&said["results"], "outcome"), ["discarded", "not_there"]);
    let said = client.done("POST", "/api/retry", r#"{"all":["dead"]}"#);
    assert_eq!(texts(&said["results"], "outcome"), ["waits_again"; 3]);
    assert_eq!(said["left"], json!({"dead": 0, "rejected": 1}));
    pagerduty.wait_for_accepted(4);
    let said = client.done("POST", "/api/discard", r#"{"all":["dead","rejected"]}"#);
    assert_eq!((texts(&said["results"], "id"), &said["left"]["rejected"]), (vec!["r1".to_owned()], &json!(0)));
    assert_eq!(client.done("POST", "/api/retry", r#"{"all":["dead","rejected"]}"#)["results"], json!([]));
    let mut taken: Vec<_> = pagerduty.triggers().into_iter().map(|(incident, _)| incident).collect();
    taken.sort();
    assert_eq!(taken, ["2", "3", "4", "5"]);
}

#[test]
fn every_operation_answers_as_it_is_described() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge_with_entries(&pagerduty);
    execute_sql(&bridge, "UPDATE rejected SET body = ? WHERE id = 1", &alert(77, "Understood now"));
    bridge.reject(b"[", 400);
    let client = Client::new(&bridge);
    assert_eq!(client.get("/api/openapi.json")["openapi"], "3.1.0");
    let activity = client.get("/api/activity");
    let received = activity["buckets"].as_array().unwrap().iter().map(|bucket| bucket["received"].as_u64().unwrap());
    // All seven webhooks came within the last minutes.
    assert_eq!(received.sum::<u64>(), 7);
    for path in ["/api/status", "/api/events", "/api/events/2", "/api/rejected", "/api/rejected/r1"] {
        client.get(path);
    }
    for path in ["/api/events/1/retry", "/api/rejected/r1/retry"] {
        client.done("POST", path, "");
    }
    for path in ["/api/events/2", "/api/rejected/r2"] {
        client.done("DELETE", path, "");
    }
    for path in ["/api/retry", "/api/discard"] {
        client.done("POST", path, r#"{"all":["dead"]}"#);
    }
    assert_eq!(*client.done.borrow(), client.operations());
}
