//! What Sentry's webhooks about an issue do to the incident that its alert opened.

use std::time::{SystemTime, UNIX_EPOCH};

use pagerduty_sandbox::{Incident, IncidentState};
use serde_json::{Value, json};

use crate::support::{Answer, Bridge, ClosedPort, KEY, OTHER_KEY, PagerDuty, ROUTES, TOKEN, post};

const EVENT: &str = "b9c8d7e6f5a403928170f1e2d3c4b5a6";

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// What the legacy plugin posts about an event of issue 42 that happened, and that Sentry received, `ago` seconds ago.
fn legacy(level: &str, ago: f64) -> Value {
    let event = json!({ "event_id": EVENT, "title": "Disk full", "timestamp": now() - ago,
                        "received": now() - ago });
    json!({ "id": "42", "project": "storefront", "level": level, "event": event })
}

fn event_alert() -> Value {
    let event = json!({ "event_id": EVENT, "issue_id": "42", "title": "Disk full", "level": "error" });
    json!({ "action": "triggered", "data": { "event": event, "triggered_rule": "New issues" } })
}

fn issue(action: &str) -> Value {
    json!({ "action": action, "data": { "issue": { "id": "42", "title": "Disk full" } } })
}

/// Posts a webhook as the integration platform does, without a signature, because no client secret is set.
#[track_caller]
fn post_platform(bridge: &Bridge, resource: &str, body: &Value, headers: &[(&str, &str)]) -> Value {
    let sent_at = chrono::Utc::now().timestamp().to_string();
    let usual =
        [("Content-Type", "application/json"), ("Sentry-Hook-Resource", resource), ("Sentry-Hook-Timestamp", &sent_at)];
    let headers = [&usual, headers].concat();
    let answer: Answer = post(bridge.address, &format!("/sentry/{TOKEN}"), &headers, body.to_string().as_bytes());
    let (status, said) = answer.status_and_json();
    assert_eq!(status, 202, "{said}");
    said
}

fn wait_for_state(pagerduty: &PagerDuty, key: &str, state: IncidentState) -> Incident {
    pagerduty.wait_for(&format!("{state:?}"), |records| {
        records.incident(key, "42").is_some_and(|incident| incident.state == state)
    });
    pagerduty.read(|records| records.incident(key, "42").unwrap().clone())
}

#[test]
fn an_incident_routed_by_level_is_resolved_where_it_was_opened_also_after_a_restart() {
    let pagerduty = PagerDuty::start();
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[ROUTES]);
    bridge.queue(legacy("fatal", 9.0).to_string().as_bytes());
    wait_for_state(&pagerduty, OTHER_KEY, IncidentState::Triggered);
    bridge.wait_for_log("delivered");

    assert!(bridge.terminate("TERM").success());
    bridge.restart();
    let said = post_platform(&bridge, "issue", &issue("resolved"), &[]);
    assert_eq!(said, json!({"status": "queued", "incident_key": "42", "event_type": "resolve"}));
    wait_for_state(&pagerduty, OTHER_KEY, IncidentState::Resolved);
    assert_eq!(pagerduty.incidents().len(), 1, "nothing was sent to the default key");

    let again = post_platform(&bridge, "issue", &issue("resolved"), &[]);
    assert_eq!(again["status"], "ignored", "{again}");
}

#[test]
fn a_resolve_follows_a_trigger_that_still_waits() {
    let port = ClosedPort::new();
    let bridge = Bridge::start(&port.url());
    bridge.queue(legacy("error", 9.0).to_string().as_bytes());
    assert_eq!(post_platform(&bridge, "issue", &issue("resolved"), &[])["status"], "queued");
    let pagerduty = port.open();
    let incident = wait_for_state(&pagerduty, KEY, IncidentState::Resolved);
    assert_eq!((incident.opened, incident.events), (1, 2));
}

#[test]
fn a_trigger_that_its_resolve_overtook_is_sent_and_resolved() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let said = post_platform(&bridge, "issue", &issue("resolved"), &[]);
    assert_eq!(said["status"], "ignored", "nothing is open yet: {said}");
    bridge.queue(legacy("error", 9.0).to_string().as_bytes());
    let incident = wait_for_state(&pagerduty, KEY, IncidentState::Resolved);
    assert_eq!((incident.opened, incident.events), (1, 2));
}

#[test]
fn a_trigger_that_happened_after_a_resolve_stays_open() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    post_platform(&bridge, "issue", &issue("resolved"), &[]);
    bridge.queue(legacy("error", -60.0).to_string().as_bytes());
    wait_for_state(&pagerduty, KEY, IncidentState::Triggered);
    let records = bridge.end();
    assert_eq!(records.len(), 1, "{records:#?}");
}

#[test]
fn an_issue_that_comes_back_opens_its_incident_again_where_it_was() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[ROUTES]);
    let unknown = post_platform(&bridge, "issue", &issue("unresolved"), &[]);
    assert_eq!(unknown["status"], "ignored", "{unknown}");
    bridge.queue(legacy("fatal", 9.0).to_string().as_bytes());
    post_platform(&bridge, "issue", &issue("resolved"), &[]);
    wait_for_state(&pagerduty, OTHER_KEY, IncidentState::Resolved);
    assert_eq!(post_platform(&bridge, "issue", &issue("unresolved"), &[])["event_type"], "trigger");
    let incident = wait_for_state(&pagerduty, OTHER_KEY, IncidentState::Triggered);
    assert_eq!(incident.opened, 2);
    assert_eq!(pagerduty.incidents().len(), 1);
}

#[test]
fn the_same_alert_by_both_generations_is_one_event() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    bridge.queue(legacy("error", 9.0).to_string().as_bytes());
    for _ in 0..2 {
        let said = post_platform(&bridge, "event_alert", &event_alert(), &[]);
        assert_eq!(said["status"], "ignored", "{said}");
    }
    assert_eq!(bridge.end().len(), 1);
}

#[test]
fn a_repeated_delivery_is_one_event() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let metric = json!({ "identifier": "7", "organization_id": "5", "title": "Latency" });
    let body = json!({ "action": "critical", "data": { "metric_alert": metric, "description_text": "too slow" } });
    let statuses = ["a1", "a1", "a2"].map(|key| {
        let said = post_platform(&bridge, "metric_alert", &body, &[("Idempotency-Key", key)]);
        said["status"].as_str().unwrap().to_owned()
    });
    assert_eq!(statuses, ["queued", "ignored", "queued"]);
    pagerduty.wait_for("the incident", |records| records.incident(KEY, "incident_5_7").is_some());
}

#[test]
fn an_assigned_issue_acknowledges_its_incident_where_that_is_wanted() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ACKNOWLEDGE", "on")]);
    assert_eq!(post_platform(&bridge, "issue", &issue("assigned"), &[])["status"], "ignored");
    bridge.queue(legacy("error", 9.0).to_string().as_bytes());
    assert_eq!(post_platform(&bridge, "issue", &issue("assigned"), &[])["event_type"], "acknowledge");
    wait_for_state(&pagerduty, KEY, IncidentState::Acknowledged);
    let counters = pagerduty.counters();
    assert_eq!(pagerduty.journal().iter().map(|entry| entry.warnings.len()).sum::<usize>(), 0, "{counters:?}");
}

#[test]
fn resolves_of_unknown_incidents_go_to_the_default_key_where_all_are_wanted() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[ROUTES, ("BRIDGE_RESOLVE", "all")]);
    assert_eq!(post_platform(&bridge, "issue", &issue("resolved"), &[])["status"], "queued");
    pagerduty.wait_for_accepted(1);
    let entry = pagerduty.journal().pop().unwrap();
    assert_eq!((entry.text("service_key"), entry.text("event_type")), (Some(KEY), Some("resolve")));
}

#[test]
fn a_metric_alert_is_resolved_by_its_own_webhook() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let metric = json!({ "identifier": "7", "organization_id": "5", "title": "Latency" });
    for (action, state) in [
        ("warning", IncidentState::Triggered),
        ("critical", IncidentState::Triggered),
        ("resolved", IncidentState::Resolved),
    ] {
        let title = format!("{action}: Latency");
        let body = json!({ "action": action, "data": { "metric_alert": metric, "description_title": title } });
        assert_eq!(post_platform(&bridge, "metric_alert", &body, &[])["status"], "queued", "{action}");
        pagerduty.wait_for(action, |records| {
            records.incident(KEY, "incident_5_7").is_some_and(|incident| incident.state == state)
        });
    }
    assert_eq!(pagerduty.incidents().len(), 1);
}
