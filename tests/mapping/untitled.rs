//! The description of alerts without a title.

use sentry_pagerduty_bridge::envelope::EnqueueRequest;
use sentry_pagerduty_bridge::ingest::{Decision, Webhook};
use serde_json::{Value, json};

use crate::{fixtures, ingest_of, opened, platform, received_at};

/// The event of a body of the integration platform, by a policy by which everything pages.
#[track_caller]
fn event_of(resource: &str, body: &[u8]) -> Value {
    let webhook = Webhook { resource: Some(resource), ..Webhook::of_body(body, received_at()) };
    match ingest_of("", platform::everything()).decide(&webhook) {
        Decision::Enqueue(enqueue) => match *enqueue {
            EnqueueRequest::Event { envelope, .. } => serde_json::from_slice(&envelope.body).unwrap(),
            EnqueueRequest::FollowUp(follow_up) => platform::json_of(&follow_up.event_for(platform::destination())),
        },
        other => panic!("{other:?}"),
    }
}

/// The description of an alert without title and message whose event has these additional members.
#[track_caller]
fn line(members: &Value, rule: Option<&str>) -> String {
    let mut event = json!({"issue_id": "259", "title": "<untitled>", "message": "", "culprit": "", "type": "generic"});
    event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let body = json!({"action": "triggered", "data": {"event": event, "triggered_rule": rule}}).to_string();
    event_of("event_alert", body.as_bytes())["description"].as_str().unwrap().to_owned()
}

#[test]
fn a_cron_monitor_of_sentry_23_7_is_told_by_its_name_and_status() {
    let recording = fixtures::recording("recorded-23.7/alert-cron-event-alert-triggered");
    let event = event_of("event_alert", &recording.webhook);
    assert_eq!(event["description"], "Monitor failure: Nightly 224af4 (disabled)");
    assert_eq!(event["details"]["tags"]["monitor.slug"], "nightly-224af4");

    let monitor = |monitor: Value| line(&json!({"contexts": {"monitor": monitor}}), Some("a rule"));
    assert_eq!(
        monitor(json!({"slug": "nightly", "status": "missed_checkin"})),
        "Monitor failure: nightly (missed_checkin)"
    );
    assert_eq!(monitor(json!({"name": " ", "slug": "nightly", "status": null})), "Monitor failure: nightly");
    assert_eq!(monitor(json!({"status": "error"})), "a rule (Sentry issue 259)", "nothing says which monitor");
}

#[test]
fn a_policy_report_without_message_is_told_by_directive_and_address() {
    let recording = fixtures::recording("recorded-23.7/legacy-csp-issue-created");
    assert_eq!(event_of("issue", &recording.webhook)["description"], "Blocked 'img-src' from 'evil.example.test'");

    let report = json!({"csp": {"effective_directive": "script-src", "blocked_uri": "https://evil.example.test/a.js"}});
    assert_eq!(line(&report, None), "Blocked 'script-src' from 'https://evil.example.test/a.js'");
    assert_eq!(
        line(&json!({"csp": {"violated_directive": "img-src 'self'", "blocked_uri": "self"}}), None),
        "Blocked 'img-src' from 'self'"
    );
    assert_eq!(line(&json!({"csp": {"effective_directive": "img-src"}}), None), "Blocked 'img-src'");
    assert_eq!(
        line(&json!({"metadata": {"message": "Blocked 'image' from 'a.test'", "uri": "a.test"}}), None),
        "Blocked 'image' from 'a.test'"
    );
}

#[test]
fn an_untitled_alert_is_told_by_the_best_that_its_body_says() {
    let occurrence = json!({"issueTitle": "Uptime check failed", "subtitle": "503 from /health"});
    assert_eq!(line(&json!({"occurrence": occurrence}), None), "Uptime check failed");
    let nameless = json!({"issueTitle": "<untitled>", "subtitle": "503 from /health"});
    assert_eq!(line(&json!({"occurrence": nameless}), None), "503 from /health");
    assert_eq!(line(&json!({"metadata": {"title": "Slow database query"}}), None), "Slow database query");
    let raised = json!({"exception": {"values": [{"type": "KeyError", "value": "cart"}]}, "contexts": {"monitor": {"slug": "nightly"}}});
    assert_eq!(line(&raised, None), "KeyError: cart", "the monitor is only where it happened");
    assert_eq!(line(&json!({"culprit": "shop.pay in charge"}), Some("a rule")), "shop.pay in charge");
    assert_eq!(line(&json!({"transaction": "/checkout"}), Some("a rule")), "/checkout");
    assert_eq!(line(&json!({}), Some("Page: checkout")), "Page: checkout (Sentry issue 259)");
    assert_eq!(line(&json!({}), None), "Sentry issue 259");
    assert_eq!(line(&json!({"title": " <untitled> ", "message": "it said this"}), None), "it said this");
}

#[test]
fn an_untitled_issue_that_is_no_error_is_told_by_its_kind() {
    let line = |members: Value| {
        let mut issue = json!({"id": "259", "title": "<untitled>", "metadata": {}, "culprit": ""});
        issue.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let body = json!({"action": "created", "data": {"issue": issue}}).to_string();
        event_of("issue", body.as_bytes())["description"].clone()
    };
    assert_eq!(line(json!({"issueType": "monitor_check_in_failure"})), "Monitor check in failure");
    assert_eq!(line(json!({"issueType": "error", "culprit": "shop.views.cart"})), "shop.views.cart");
    assert_eq!(line(json!({"issueType": "error"})), "Sentry issue 259");
    assert_eq!(line(json!({"issueType": "a_b", "title": "Nightly is late"})), "Nightly is late");
}

#[test]
fn no_webhook_calls_its_incident_untitled() {
    let issue = |action: &str| {
        json!({"action": action, "data": {"issue": {"id": "7", "title": "<untitled>", "culprit": "shop.views.cart"}}})
            .to_string()
    };
    assert_eq!(event_of("issue", issue("created").as_bytes())["description"], "shop.views.cart");
    assert_eq!(event_of("issue", issue("resolved").as_bytes())["description"], "Resolved in Sentry: shop.views.cart");
    let legacy = json!({"id": "7", "project": "a", "message": "", "culprit": "", "triggering_rules": ["Page: cron"],
        "event": {"title": "<untitled>", "contexts": {"monitor": {"name": "Nightly", "status": "timeout"}}}});
    assert_eq!(crate::event(legacy.to_string().as_bytes())["description"], "Monitor failure: Nightly (timeout)");
    for recording in fixtures::recordings() {
        let webhook =
            Webhook { resource: recording.resource.as_deref(), ..Webhook::of_body(&recording.webhook, received_at()) };
        if let Ok(envelope) = opened(ingest_of("", platform::everything()).decide(&webhook)) {
            assert!(!envelope.description.contains("<untitled>"), "{}", recording.name);
        }
    }
}
