//! Bodies of the integration platform, each with its `Sentry-Hook-Resource` header and without it, because a proxy may
//! remove it.

use proptest::prelude::*;
use sentry_pagerduty_bridge::alert::TriggerKind;
use sentry_pagerduty_bridge::config::ResolveScope;
use sentry_pagerduty_bridge::envelope::EnqueueRequest;
use sentry_pagerduty_bridge::ingest::{Decision, IgnoreReason, Policy, Rejection, Webhook};
use sentry_pagerduty_bridge::pagerduty::{Destination, Event, ServiceKey, render};
use sentry_pagerduty_bridge::sentry::NoActionReason;
use serde_json::{Value, json};

use crate::fixtures::{self, PlatformFixture};
use crate::{DEFAULT_KEY, ingest_of, opened, received_at};

/// A policy by which everything pages, resolves and acknowledges.
pub(crate) fn everything() -> Policy {
    Policy { page_on: TriggerKind::ALL.to_vec(), resolve: ResolveScope::All, acknowledge: true, ..Policy::default() }
}

fn by_header(fixture: &PlatformFixture, policy: Policy) -> Decision {
    let resource = Some(fixture.resource.as_str());
    ingest_of("", policy).decide(&Webhook { resource, ..Webhook::of_body(&fixture.webhook, received_at()) })
}

pub(crate) fn destination() -> Destination {
    Destination::v1(ServiceKey::parse(DEFAULT_KEY).unwrap())
}

pub(crate) fn json_of(event: &Event) -> Value {
    serde_json::from_slice(&render(event).bytes).unwrap()
}

fn shown(decision: &Decision) -> Value {
    match decision {
        Decision::Enqueue(enqueue) => match &**enqueue {
            EnqueueRequest::Event { envelope, .. } => {
                json!({ "queue": serde_json::from_slice::<Value>(&envelope.body).unwrap() })
            }
            EnqueueRequest::FollowUp(follow_up) => json!({
                "follow": json_of(&follow_up.event_for(destination())),
                "where nothing is open": follow_up.fallback.as_ref().map(ToString::to_string),
            }),
        },
        Decision::Ignored(reason) => json!({ "ignored": reason.to_string() }),
        Decision::Rejected(reason) => json!({ "rejected": reason.to_string() }),
    }
}

#[test]
fn the_decision_on_every_platform_fixture_is_the_one_that_was_looked_at() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for fixture in fixtures::platform() {
            let by_default = shown(&by_header(&fixture, Policy::default()));
            let on = shown(&by_header(&fixture, everything()));
            let decisions = if by_default == on {
                by_default
            } else {
                json!({ "by default": by_default, "with everything on": on })
            };
            insta::assert_json_snapshot!(fixture.name.replace('/', "-"), decisions);
        }
    });
}

#[test]
fn where_the_header_is_gone_the_shape_tells_the_same() {
    for fixture in fixtures::platform() {
        let by_shape = ingest_of("", everything()).decide(&Webhook::of_body(&fixture.webhook, received_at()));
        assert_eq!(by_shape, by_header(&fixture, everything()), "{}", fixture.name);
    }
}

#[test]
fn every_event_of_one_issue_has_the_key_that_the_legacy_plugin_gives_it() {
    let named = |name: &str| fixtures::platform().into_iter().find(|fixture| fixture.name.ends_with(name)).unwrap();
    let legacy = br#"{"id": "5150", "project": "storefront", "event": {}}"#;
    let legacy = opened(ingest_of("", everything()).decide(&Webhook::of_body(legacy, received_at()))).unwrap();
    for name in ["/event-alert-9.1", "/issue-created-20", "/issue-resolved-9.1", "/issue-assigned-to-person"] {
        let key = match by_header(&named(name), everything()) {
            Decision::Enqueue(enqueue) => enqueue.incident_key().clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(key, legacy.incident_key, "{name}");
    }
}

#[test]
fn a_number_of_a_detector_above_ten_thousand_millions_is_the_same_key_as_text_and_as_a_number() {
    for identifier in [json!(10_088_123_456_u64), json!("10088123456"), json!(10_088_123_456.0)] {
        let alert = json!({ "identifier": identifier, "organization_id": 4_505_518_370_586_624_u64, "title": "x" });
        let body = json!({ "action": "critical", "data": { "metric_alert": alert } }).to_string();
        let decision = ingest_of("", Policy::default()).decide(&Webhook::of_body(body.as_bytes(), received_at()));
        let Ok(envelope) = opened(decision) else { panic!("{identifier}") };
        let key = "incident_4505518370586624_10088123456";
        assert_eq!(envelope.incident_key.as_str(), key, "{identifier}");
    }
}

#[test]
fn a_validation_request_has_no_body_and_is_no_error() {
    let ingest = ingest_of("", Policy::default());
    let empty = Webhook::of_body(b" \n", received_at());
    let validation = Decision::Ignored(IgnoreReason::NoAction(NoActionReason::Validation));
    assert_eq!(ingest.decide(&Webhook { resource: Some("event_alert"), ..empty }), validation);
    assert_eq!(ingest.decide(&Webhook { has_app_signature: true, ..empty }), validation);
    assert!(matches!(ingest.decide(&empty), Decision::Rejected(Rejection::NotJson(_))));

    let fields = br#"{"fields": [{"name": "team", "value": "7"}], "installationId": "3c1b"}"#;
    let fields = Webhook::of_body(fields, received_at());
    assert_eq!(ingest.decide(&Webhook { has_app_signature: true, ..fields }), validation);
    assert_eq!(ingest.decide(&fields), Decision::Rejected(Rejection::NotSentry));
}

#[test]
fn data_of_somebody_else_is_no_webhook_of_sentry() {
    for body in [r#"{"data": {}}"#, r#"{"data": {"build": 1}}"#, r#"{"data": []}"#, r#"{"action": "created"}"#] {
        let decision = ingest_of("", everything()).decide(&Webhook::of_body(body.as_bytes(), received_at()));
        assert_eq!(decision, Decision::Rejected(Rejection::NotSentry), "{body}");
    }
}

#[test]
fn data_beside_an_action_is_of_a_resource_of_tomorrow_whatever_its_type() {
    for data in ["{}", "[]", "\"text\"", "1e300", r#"{"build": 1}"#] {
        for plugins in ["", r#", "id": "1", "project": "a""#] {
            let body = format!(r#"{{"action": "created", "data": {data}{plugins}}}"#);
            let decision = ingest_of("", everything()).decide(&Webhook::of_body(body.as_bytes(), received_at()));
            assert_eq!(decision, Decision::Ignored(IgnoreReason::NoAction(NoActionReason::UnknownResource)), "{body}");
        }
    }
}

#[test]
fn a_header_without_its_data_names_no_issue() {
    for resource in ["event_alert", "error", "issue", "metric_alert"] {
        for body in ["{}", "[]", r#"{"action": "critical", "data": null}"#, r#"{"action": "resolved", "data": {}}"#] {
            let webhook = Webhook { resource: Some(resource), ..Webhook::of_body(body.as_bytes(), received_at()) };
            let decision = ingest_of("", everything()).decide(&webhook);
            assert!(
                matches!(decision, Decision::Rejected(Rejection::NoIssue) | Decision::Ignored(_)),
                "{resource} {body}"
            );
        }
    }
}

/// Ways to damage a value.
#[derive(Clone, Debug)]
enum Damage {
    Remove,
    Replace(Value),
}

fn damage() -> impl Strategy<Value = Damage> {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("x"),
        json!([]),
        json!([[]]),
        json!([null]),
        json!({}),
        json!({ "values": [{}] }),
        json!("\u{0}\u{200b}"),
    ];
    prop_oneof![Just(Damage::Remove), prop::sample::select(values.to_vec()).prop_map(Damage::Replace)]
}

/// Every place in a value that can be damaged, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut under = |name: &str, value: &Value| {
        let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        found.push(at.clone());
        places(value, &at, found);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| under(name, value)),
        Value::Array(elements) => elements.iter().enumerate().for_each(|(n, value)| under(&n.to_string(), value)),
        _ => {}
    }
}

fn damaged(mut body: Value, damages: &[(usize, Damage)]) -> Value {
    for (at, damage) in damages {
        let mut found = Vec::new();
        places(&body, "", &mut found);
        let Some(place) = found.get(at % found.len().max(1)) else { break };
        let (parent, name) = place.rsplit_once('/').unwrap();
        match (damage, body.pointer_mut(parent).unwrap()) {
            (Damage::Remove, Value::Object(members)) => {
                members.shift_remove(&name.replace("~1", "/").replace("~0", "~"));
            }
            (Damage::Remove, Value::Array(elements)) => {
                elements.remove(name.parse().unwrap());
            }
            (Damage::Replace(value), _) => *body.pointer_mut(place).unwrap() = value.clone(),
            (Damage::Remove, _) => unreachable!("only objects and arrays have places"),
        }
    }
    body
}

/// Asserts that PagerDuty would accept the event, by rules that this test implements itself.
fn assert_valid(event: &Event) {
    assert!(render(event).bytes.len() <= 512_000);
    let json = json_of(event);
    assert_eq!(json["service_key"].as_str().map(str::len), Some(32));
    let key = json["incident_key"].as_str().unwrap();
    assert!(!key.trim().is_empty() && key.encode_utf16().count() <= 255, "{key:?}");
    if json["event_type"] == "trigger" {
        assert!(json["details"].is_object());
        assert!(!json["description"].as_str().unwrap().trim().is_empty());
    } else {
        assert!(json.get("client").is_none() && json.get("contexts").is_none(), "{json}");
    }
    if let Some(description) = json["description"].as_str() {
        assert!(description.encode_utf16().count() <= 1024);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn whatever_is_missing_or_of_another_type_the_decision_is_a_valid_event_ignored_or_a_refusal(
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec((any::<usize>(), damage()), 1..6),
        has_header in any::<bool>(),
    ) {
        let fixtures: Vec<_> =
            fixtures::platform().into_iter().filter(|fixture| serde_json::from_slice::<Value>(&fixture.webhook).is_ok()).collect();
        let fixture = which.get(&fixtures);
        let body = damaged(serde_json::from_slice(&fixture.webhook).unwrap(), &damages).to_string();
        let resource = has_header.then_some(fixture.resource.as_str());
        let webhook = Webhook { resource, ..Webhook::of_body(body.as_bytes(), received_at()) };
        let ingest = ingest_of("", everything());
        match ingest.decide(&webhook) {
            Decision::Enqueue(enqueue) => match *enqueue {
                EnqueueRequest::Event { .. } => assert_valid(&ingest.trigger_of(&webhook).unwrap()),
                EnqueueRequest::FollowUp(follow_up) => assert_valid(&follow_up.event_for(destination())),
            },
            Decision::Ignored(_) | Decision::Rejected(Rejection::NotSentry | Rejection::NoIssue) => {}
            Decision::Rejected(Rejection::NotJson(defect)) => panic!("{defect}: {body}"),
        }
    }
}
