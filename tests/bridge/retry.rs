//! Dead letters are retried on a running bridge while new events of their incidents come.

use pagerduty_sandbox::{Fault, FaultRule, IncidentState};
use serde_json::Value;

use crate::support::{Answer, Bridge, KEY, PagerDuty, Run, TOKEN, alert, post, run};

const ADMIN_TOKEN: &str = "admin-token-for-tests-alone";

/// Number of retries by each of the two ways, the command and the API.
const TRIES: u64 = 5;

/// The issue of the recorded webhook.
const ISSUE: u64 = 6_811_223_344;

fn start(pagerduty: &PagerDuty) -> Bridge {
    Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN)])
}

fn by_command(bridge: &Bridge, id: &str) -> Run {
    let database = bridge.database_url();
    run(&["queue", "retry", id], &[("BRIDGE_DATABASE_URL", &database)])
}

fn by_api(bridge: &Bridge, id: &str) -> Answer {
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    post(bridge.address, &format!("/api/events/{id}/retry"), &[("Authorization", &authorization)], b"")
}

/// Posts Sentry's webhook about the resolved issue.
#[track_caller]
fn resolve(bridge: &Bridge) {
    let body = include_bytes!("../../fixtures/platform/issue-resolved-26.json");
    let headers = [("Sentry-Hook-Resource", "issue"), ("Content-Type", "application/json")];
    let (status, said) = post(bridge.address, &format!("/sentry/{TOKEN}"), &headers, body).status_and_json();
    assert_eq!((status, &said["event_type"]), (202, &Value::from("resolve")), "{said}");
}

#[test]
fn a_retried_event_is_not_overtaken_by_what_comes_about_its_incident_right_after() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty);
    let mut id = 0;
    for issue in 1..=2 * TRIES {
        pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
        bridge.queue(&alert(issue, "first"));
        id += 1;
        bridge.process.stderr.wait_for("the dead letter", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["event"] == id && line["message"].as_str()?.contains("dead letter")).then_some(())
        });
        if issue % 2 == 0 {
            assert_eq!(by_command(&bridge, &id.to_string()).code, Some(0));
        } else {
            assert_eq!(by_api(&bridge, &id.to_string()).status, 200);
        }
        bridge.queue(&alert(issue, "second"));
        id += 1;
        pagerduty.wait_for_accepted(2 * issue);
    }
    let triggers = pagerduty.triggers();
    let overtaken: Vec<_> = triggers.chunks(2).filter(|pair| !pair[0].1.contains("first")).collect();
    assert!(overtaken.is_empty(), "{} of {} were overtaken: {overtaken:?}", overtaken.len(), 2 * TRIES);
}

#[test]
fn a_dead_resolve_is_not_sent_on_retry_once_its_incident_was_triggered_anew() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty);
    bridge.queue(&alert(ISSUE, "Disk full"));
    pagerduty.wait_for_accepted(1);
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    resolve(&bridge);
    bridge.wait_for_log("dead letter");
    let mut anew: Value = serde_json::from_slice(&alert(ISSUE, "Disk full again")).unwrap();
    // An alert that Sentry received after the issue was resolved.
    let later = (chrono::Utc::now() + chrono::TimeDelta::minutes(1)).timestamp();
    anew["event"]["timestamp"] = later.into();
    anew["event"]["received"] = later.into();
    bridge.queue(anew.to_string().as_bytes());
    pagerduty.wait_for_accepted(2);

    let refused = by_command(&bridge, "2");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("2: not retried, because its incident was triggered again since"), "{refused:?}");
    let (status, said) = by_api(&bridge, "2").status_and_json();
    assert_eq!(status, 409, "{said}");
    assert!(said["reason"].as_str().unwrap().contains("triggered again since"), "{said}");

    // A later delivery shows that nothing was sent in between.
    bridge.queue(&alert(1, "Disk slow"));
    pagerduty.wait_for_accepted(3);
    let incidents = pagerduty.incidents();
    let incident = incidents.iter().find(|incident| incident.incident_key == ISSUE.to_string()).unwrap();
    assert_eq!((incident.state, incident.service_key.as_str()), (IncidentState::Triggered, KEY));
    assert_eq!(pagerduty.counters().accepted, 3);
}

#[test]
fn a_dead_resolve_is_sent_on_retry_while_nothing_came_after_it() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty);
    bridge.queue(&alert(ISSUE, "Disk full"));
    pagerduty.wait_for_accepted(1);
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    resolve(&bridge);
    bridge.wait_for_log("dead letter");
    assert_eq!(by_command(&bridge, "2").code, Some(0));
    pagerduty.wait_for_accepted(2);
    assert!(pagerduty.incidents().iter().all(|incident| incident.state == IncidentState::Resolved));
}
