//! Which webhooks are duplicates of each other.

use sentry_pagerduty_bridge::config::IncidentScope;
use sentry_pagerduty_bridge::envelope::{Dedup, EnqueueRequest};
use sentry_pagerduty_bridge::ingest::{Decision, Policy, Webhook};
use serde_json::{Value, json};

use crate::platform::everything;
use crate::{ingest_of, received_at};

const EVENT: &str = "b9c8d7e6f5a403928170f1e2d3c4b5a6";

fn legacy(issue: &str, event: &str) -> Value {
    json!({ "id": issue, "project": "storefront", "event": { "event_id": event, "tags": [["sentry:release", "1"]] } })
}

fn event_alert(issue: &str, event: &str, rule: &str) -> Value {
    let event = json!({ "event_id": event, "issue_id": issue, "title": "x" });
    json!({ "action": "triggered", "data": { "event": event, "triggered_rule": rule } })
}

fn metric(action: &str, text: &str) -> Value {
    let metric = json!({ "identifier": "1", "organization_id": "5", "title": "Rule" });
    json!({ "action": action, "data": { "metric_alert": metric, "description_text": text } })
}

fn issue(action: &str) -> Value {
    json!({ "action": action, "data": { "issue": { "id": "42", "title": "x" } } })
}

fn dedup_routed(body: &Value, idempotency_key: Option<&str>, routes: &str) -> Dedup {
    dedup_by(body, idempotency_key, routes, everything())
}

fn dedup_by(body: &Value, idempotency_key: Option<&str>, routes: &str, policy: Policy) -> Dedup {
    let body = body.to_string();
    let webhook = Webhook { idempotency_key, ..Webhook::of_body(body.as_bytes(), received_at()) };
    match ingest_of(routes, policy).decide(&webhook) {
        Decision::Enqueue(enqueue) => enqueue.dedup().clone(),
        other => panic!("{other:?}"),
    }
}

fn dedup(body: &Value) -> Dedup {
    dedup_routed(body, None, "")
}

fn is_repeated(earlier: &Dedup, later: &Dedup) -> bool {
    later.lookup_keys.iter().any(|key| earlier.recorded_keys.contains(key))
}

fn repeats(earlier: &Value, later: &Value) -> bool {
    is_repeated(&dedup(earlier), &dedup(later))
}

#[test]
fn one_event_of_an_issue_is_the_same_by_both_generations_and_by_several_rules() {
    let platform = event_alert("42", EVENT, "A");
    for plugin in [legacy("42", EVENT), legacy("42", "B9C8D7E6-F5A4-0392-8170-F1E2D3C4B5A6")] {
        assert!(repeats(&plugin, &platform));
        assert!(repeats(&platform, &plugin));
    }
    assert!(repeats(&event_alert("42", EVENT, "B"), &platform));
    let error = json!({ "action": "created", "data": { "error": { "event_id": EVENT, "issue_id": "42" } } });
    assert!(repeats(&error, &platform));
}

#[test]
fn one_event_is_another_alert_for_each_rule_that_has_an_incident_of_its_own() {
    let repeats = |earlier: &Value, later: &Value, incident_scope| {
        let dedup = |body| dedup_by(body, None, "", Policy { incident_scope, ..everything() });
        is_repeated(&dedup(earlier), &dedup(later))
    };
    let rule = |name: &str| event_alert("42", EVENT, name);
    let mut plugin = legacy("42", EVENT);
    plugin["triggering_rules"] = json!(["A", "B"]);
    let table = [
        (rule("A"), rule("A"), true),
        (rule("A"), rule("B"), false),
        // If a webhook names several rules, the incident belongs to the first.
        (plugin.clone(), rule("A"), true),
        (rule("A"), plugin.clone(), true),
        (plugin, rule("B"), false),
    ];
    for (earlier, later, expected) in table {
        assert_eq!(repeats(&earlier, &later, IncidentScope::Rule), expected, "{earlier} {later}");
        assert!(repeats(&earlier, &later, IncidentScope::Issue) && repeats(&earlier, &later, IncidentScope::Project));
    }
}

#[test]
fn what_comes_twice_by_the_plugin_was_sent_by_a_person_and_counts() {
    assert!(!repeats(&legacy("42", EVENT), &legacy("42", EVENT)));
}

#[test]
fn the_service_that_replaced_the_plugin_sends_an_event_once_for_each_action_and_address_and_it_pages_once() {
    // Each delivery has its own `Idempotency-Key`, which the plugin never sent.
    let delivered = |key| dedup_routed(&legacy("42", EVENT), Some(key), "");
    assert!(is_repeated(&delivered("a1"), &delivered("b2")));
    let other_event = dedup_routed(&legacy("42", &EVENT.replace('b', "c")), Some("b2"), "");
    assert!(!is_repeated(&delivered("a1"), &other_event));
    assert!(!is_repeated(&dedup(&legacy("43", EVENT)), &delivered("b2")));
}

#[test]
fn another_event_or_issue_is_not_the_same_nor_one_that_nothing_tells_apart() {
    let one = event_alert("42", EVENT, "A");
    assert!(!repeats(&event_alert("42", &EVENT.replace('b', "c"), "A"), &one));
    assert!(!repeats(&event_alert("43", EVENT, "A"), &one));
    let without_id = json!({ "id": "42", "project": "storefront", "event": {} });
    assert_eq!(dedup(&without_id), Dedup::default());
}

#[test]
fn what_goes_to_another_integration_is_another_page() {
    let routes = "rule,B,0000000000000000000000000000000b";
    let one = dedup_routed(&event_alert("42", EVENT, "A"), None, routes);
    let other = dedup_routed(&event_alert("42", EVENT, "B"), None, routes);
    assert!(!is_repeated(&one, &other));
}

#[test]
fn an_issue_is_new_once_but_may_come_back_and_a_metric_alert_change_its_status_any_number_of_times() {
    assert!(repeats(&issue("created"), &issue("created")));
    for action in ["resolved", "unresolved", "assigned"] {
        assert_eq!(dedup(&issue(action)), Dedup::default(), "{action}");
    }
    assert_eq!(dedup(&metric("critical", "241 events")), Dedup::default());
}

#[test]
fn a_repeated_delivery_is_known_by_its_idempotency_key() {
    let delivered = |body: &Value, key| dedup_routed(body, Some(key), "");
    for body in [issue("resolved"), metric("critical", "241 events")] {
        assert!(is_repeated(&delivered(&body, "a1"), &delivered(&body, "a1")));
        assert!(!is_repeated(&delivered(&body, "a1"), &delivered(&body, "a2")));
    }
    let (resolved, assigned) = (delivered(&issue("resolved"), "a1"), delivered(&issue("assigned"), "a1"));
    assert!(!is_repeated(&resolved, &assigned), "a constant header hides nothing else");
}

/// The dedup key of a change of issue 42 with this substatus, with or without a verified signature.
fn of_a_change(action: &str, substatus: &str, is_signature_verified: bool) -> Dedup {
    let issue = json!({ "id": "42", "title": "x", "substatus": substatus });
    let body = json!({ "action": action, "data": { "issue": issue } }).to_string();
    let webhook = Webhook { is_signature_verified, ..Webhook::of_body(body.as_bytes(), received_at()) };
    match ingest_of("", everything()).decide(&webhook) {
        Decision::Enqueue(enqueue) => match *enqueue {
            EnqueueRequest::FollowUp(follow_up) => follow_up.dedup,
            other @ EnqueueRequest::Event { .. } => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_is_signed_is_taken_once_and_only_people_make_the_next_resolve_the_same_as_the_last() {
    let table = [
        ("resolved", "", true, true, false),
        // Without a signature, whoever has a token can choose the content.
        ("resolved", "", false, false, false),
        ("unresolved", "ongoing", true, true, true),
        ("unresolved", "regressed", true, true, false),
        ("unresolved", "escalating", true, true, false),
        ("assigned", "ongoing", true, false, false),
    ];
    for (action, substatus, is_signature_verified, once, allows_identical_resolve) in table {
        let dedup = of_a_change(action, substatus, is_signature_verified);
        assert_eq!(
            (dedup.replay_key.is_some(), dedup.allows_identical_resolve),
            (once, allows_identical_resolve),
            "{action} {substatus} {is_signature_verified}"
        );
    }
    let once = |substatus| of_a_change("resolved", substatus, true).replay_key;
    assert_eq!(once("a"), once("a"));
    assert_ne!(once("a"), once("b"), "every byte counts");
}
