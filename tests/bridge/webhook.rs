//! Sentry's webhooks open incidents.

use pagerduty_sandbox::{Effect, Verdict};
use serde_json::json;

use crate::support::{Bridge, Connection, KEY, PagerDuty, TOKEN, alert, fixtures};

/// Posts every body twice: the first opens an incident, the second is added to it.
fn every_body_of(folder: &str) {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    for fixture in fixtures(folder) {
        let name = fixture.name;
        pagerduty.reset();
        for (accepted, effect) in [(1, Effect::Opened), (2, Effect::Logged)] {
            let answer = bridge.post(&fixture.body).status_and_json();
            pagerduty.wait_for_accepted(accepted);
            let entry = pagerduty.journal().pop().unwrap();
            assert_eq!((&entry.verdict, entry.status), (&Verdict::Accepted { effect }, Some(200)), "{name}: {entry:?}");
            assert_eq!((&entry.warnings, &entry.violations), (&Vec::new(), &Vec::new()), "{name}");
            // `text` returns strings only.
            let incident_key = entry.text("incident_key").unwrap_or_else(|| panic!("{name}: {entry:?}"));
            let queued = json!({"status": "queued", "incident_key": incident_key, "event_type": "trigger"});
            assert_eq!(answer, (202, queued), "{name}");
        }
        let incidents = pagerduty.incidents();
        assert_eq!((incidents.len(), incidents[0].opened, incidents[0].events), (1, 1, 2), "{name}");
    }
}

#[test]
fn every_webhook_recorded_from_sentry_9_opens_one_incident() {
    every_body_of("legacy-9.1");
}

#[test]
fn every_webhook_of_other_sentrys_opens_one_incident() {
    every_body_of("legacy-other");
}

/// A body of `fixtures/recorded-23.7`.
fn recorded(name: &str) -> Vec<u8> {
    fixtures("recorded-23.7").into_iter().find(|fixture| fixture.name == name).unwrap().body
}

#[test]
fn no_webhook_recorded_from_later_sentrys_is_refused() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    for folder in ["recorded-23.7", "recorded-9.1-platform", "composed-2026"] {
        for fixture in fixtures(folder) {
            let (status, said) = bridge.post(&fixture.body).status_and_json();
            assert_eq!(status, 202, "{folder}/{}: {said}", fixture.name);
        }
    }
}

#[test]
fn a_cron_alert_of_sentry_23_7_opens_an_incident_that_names_the_monitor() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    bridge.queue(&recorded("alert-cron-event-alert-triggered"));
    pagerduty.wait_for_accepted(1);
    let expected = ("259".to_owned(), "Monitor failure: Nightly 224af4 (disabled)".to_owned());
    assert_eq!(pagerduty.triggers(), [expected]);
}

#[test]
fn a_repeated_alert_tells_the_culprit_of_its_own_event() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    for (accepted, name, culprit) in [(1, "legacy-twice", "first.view"), (2, "legacy-twice-2", "second.view")] {
        bridge.queue(&recorded(name));
        pagerduty.wait_for_accepted(accepted);
        let event = pagerduty.journal().pop().unwrap().event.unwrap();
        assert_eq!((&event["incident_key"], &event["details"]["culprit"]), (&json!("279"), &json!(culprit)), "{name}");
    }
}

#[test]
fn an_integer_issue_id_becomes_a_string_incident_key_with_the_prefix_before_it() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_INCIDENT_KEY_PREFIX", "eu-")]);
    let body = String::from_utf8(alert(9_007_199_254_740_993, "Disk full")).unwrap();
    let body = body.replace("\"id\":\"9007199254740993\"", "\"id\":9007199254740993");
    assert!(body.contains("\"id\":9007199254740993"));
    bridge.queue(body.as_bytes());
    pagerduty.wait_for_accepted(1);
    let incident = pagerduty.incidents().pop().unwrap();
    assert_eq!((incident.service_key.as_str(), incident.incident_key.as_str()), (KEY, "eu-9007199254740993"));
    assert_eq!(incident.description, "Disk full");
}

#[test]
fn one_connection_carries_any_number_of_webhooks() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let mut connection = Connection::open(bridge.address);
    for issue in 1..=3 {
        let body = alert(issue, "Disk full");
        let head = format!("POST /sentry/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.send(&[head.as_bytes(), &body].concat());
        assert_eq!(connection.answer().status_and_json().1["incident_key"], issue.to_string());
    }
    pagerduty.wait_for_accepted(3);
    assert_eq!(pagerduty.counters().opened, 3);
}
