//! One incident for all issues of a rule or of a project: `BRIDGE_INCIDENT_KEY`.

use pagerduty_sandbox::IncidentState;
use serde_json::{Value, json};

use crate::support::{Bridge, KEY, PagerDuty, TOKEN, alert_of_level, post};

/// Posts a change of an issue as the integration platform does, without a signature, because no client secret is set.
#[track_caller]
fn change(bridge: &Bridge, issue: u64, action: &str) -> Value {
    let body = json!({ "action": action, "data": { "issue": { "id": issue.to_string(), "title": "Disk full" } } });
    let sent_at = chrono::Utc::now().timestamp().to_string();
    let headers =
        [("Content-Type", "application/json"), ("Sentry-Hook-Resource", "issue"), ("Sentry-Hook-Timestamp", &sent_at)];
    let (status, said) =
        post(bridge.address, &format!("/sentry/{TOKEN}"), &headers, body.to_string().as_bytes()).status_and_json();
    assert_eq!(status, 202, "{said}");
    said
}

/// The alert of a rule of a project for an issue.
fn alert(issue: u64, project: &str, rule: &str) -> Vec<u8> {
    let mut alert: Value = serde_json::from_slice(&alert_of_level("error", issue, "Disk full")).unwrap();
    alert["project_slug"] = json!(project);
    alert["triggering_rules"] = json!([rule, "Another rule"]);
    alert.to_string().into_bytes()
}

/// The alert of a rule for an event of an issue, as the integration platform posts it.
#[track_caller]
fn fire(bridge: &Bridge, issue: u64, rule: &str) -> Value {
    let event = json!({
        "event_id": format!("{issue:032x}"),
        "issue_id": issue.to_string(),
        "title": "Disk full",
        "url": format!("https://sentry.example.test/api/0/projects/acme/shop/events/{issue:032x}/"),
    });
    let body = json!({ "action": "triggered", "data": { "event": event, "triggered_rule": rule } });
    let headers = [("Content-Type", "application/json"), ("Sentry-Hook-Resource", "event_alert")];
    let (status, said) =
        post(bridge.address, &format!("/sentry/{TOKEN}"), &headers, body.to_string().as_bytes()).status_and_json();
    assert_eq!(status, 202, "{said}");
    said
}

#[track_caller]
fn wait_for_state(pagerduty: &PagerDuty, incident_key: &str, state: IncidentState, events: u64) {
    pagerduty.wait_for(&format!("{incident_key} {state:?} by {events} events"), |records| {
        let incident = records.incident(KEY, incident_key);
        incident.is_some_and(|incident| incident.state == state && incident.events == events)
    });
}

#[test]
fn an_incident_of_a_rule_or_a_project_is_resolved_once_none_of_its_issues_is_open_any_more() {
    for (scope, shared, other) in [
        ("rule", "eu-rule/shop/Page, somebody", "eu-rule/billing/Page, somebody"),
        ("project", "eu-project/shop", "eu-project/billing"),
    ] {
        let pagerduty = PagerDuty::start();
        let settings = [("BRIDGE_INCIDENT_KEY", scope), ("BRIDGE_INCIDENT_KEY_PREFIX", "eu-")];
        let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);
        for (issue, project) in [(1, "shop"), (2, "shop"), (3, "billing")] {
            bridge.queue(&alert(issue, project, "Page, somebody"));
            pagerduty.wait_for_accepted(issue);
        }
        wait_for_state(&pagerduty, shared, IncidentState::Triggered, 2);
        wait_for_state(&pagerduty, other, IncidentState::Triggered, 1);

        let said = change(&bridge, 1, "resolved");
        let reason = "other issues of its incident are still open, so the incident stays open (BRIDGE_INCIDENT_KEY)";
        assert_eq!(said, json!({"status": "ignored", "reason": reason}));
        assert!(bridge.terminate("TERM").success());
        bridge.restart();
        assert_eq!(change(&bridge, 2, "resolved")["status"], "queued");
        wait_for_state(&pagerduty, shared, IncidentState::Resolved, 3);
        wait_for_state(&pagerduty, other, IncidentState::Triggered, 1);

        // The reopened issue opens the incident again, and is the only one that keeps it open.
        assert_eq!(change(&bridge, 1, "unresolved")["status"], "queued");
        wait_for_state(&pagerduty, shared, IncidentState::Triggered, 4);
        assert_eq!(change(&bridge, 2, "resolved")["status"], "ignored");
        assert_eq!(change(&bridge, 1, "resolved")["status"], "queued");
        wait_for_state(&pagerduty, shared, IncidentState::Resolved, 5);
        let incident = pagerduty.read(|records| records.incident(KEY, shared).unwrap().clone());
        assert_eq!(incident.opened, 2);
        assert_eq!(pagerduty.incidents().len(), 2);
    }
}

#[test]
fn each_rule_that_fires_for_an_event_opens_its_incident_once() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_INCIDENT_KEY", "rule")]);
    for rule in ["Page shop", "Page on call"] {
        assert_eq!(fire(&bridge, 1, rule)["status"], "queued", "{rule}");
        assert_eq!(fire(&bridge, 1, rule)["status"], "ignored", "{rule} again");
        wait_for_state(&pagerduty, &format!("rule/shop/{rule}"), IncidentState::Triggered, 1);
    }
}

#[test]
fn an_incident_that_is_open_while_the_setting_changes_is_resolved_as_it_was_opened() {
    let pagerduty = PagerDuty::start();
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[]);
    let restart_with = |bridge: &mut Bridge, scope: &str| {
        assert!(bridge.terminate("TERM").success());
        bridge.set("BRIDGE_INCIDENT_KEY", scope);
        bridge.restart();
    };
    bridge.queue(&alert(1, "shop", "Page somebody"));
    wait_for_state(&pagerduty, "1", IncidentState::Triggered, 1);
    restart_with(&mut bridge, "project");
    bridge.queue(&alert(2, "shop", "Page somebody"));
    wait_for_state(&pagerduty, "project/shop", IncidentState::Triggered, 1);
    assert_eq!(change(&bridge, 1, "resolved")["status"], "queued");
    wait_for_state(&pagerduty, "1", IncidentState::Resolved, 2);
    restart_with(&mut bridge, "issue");
    assert_eq!(change(&bridge, 2, "resolved")["status"], "queued");
    wait_for_state(&pagerduty, "project/shop", IncidentState::Resolved, 2);
}
