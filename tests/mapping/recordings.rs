//! Webhooks of Sentry 9.1.2, 23.7.1 and 2026, compared with the decisions in `fixtures/INDEX.md`.

use sentry_pagerduty_bridge::ingest::{Decision, Policy, Webhook};
use serde_json::{Value, json};

use crate::fixtures::{self, Recording};
use crate::{ingest_of, opened, received_at};

/// The default policy with `BRIDGE_ACKNOWLEDGE` on, so that all three event types occur.
fn policy() -> Policy {
    Policy { acknowledge: true, ..Policy::default() }
}

/// The only route of the plugin in the recorded Sentry 23.7.1.
const ROUTE: &str = "environment,production,0000000000000000000000000000000a";

fn decision(recording: &Recording, resource: Option<&str>) -> Decision {
    ingest_of(ROUTE, policy()).decide(&Webhook { resource, ..Webhook::of_body(&recording.webhook, received_at()) })
}

fn event_of(recording: &Recording) -> Value {
    match opened(decision(recording, recording.resource.as_deref())) {
        Ok(envelope) => serde_json::from_slice(&envelope.body).unwrap(),
        Err(other) => panic!("{} does not page: {other:?}", recording.name),
    }
}

/// The decision in the notation of the index; resolves and acknowledges go wherever the incident is open.
fn answer(decision: &Decision) -> String {
    match decision {
        Decision::Enqueue(enqueue) => format!("{} {}", enqueue.event_type(), enqueue.incident_key()),
        Decision::Ignored(_) => "ignored".to_owned(),
        Decision::Rejected(rejection) => format!("422 {rejection}"),
    }
}

#[test]
fn every_recording_is_answered_as_the_index_says_with_its_header_and_without() {
    let recordings = fixtures::recordings();
    for recording in &recordings {
        let by_header = decision(recording, recording.resource.as_deref());
        assert_eq!(answer(&by_header), recording.answer, "{}", recording.name);
        assert_eq!(decision(recording, None), by_header, "{} by shape", recording.name);
    }
    let answers = |kind: &str| recordings.iter().filter(|recording| recording.answer.starts_with(kind)).count();
    assert!(answers("trigger ") > 50 && answers("resolve ") > 15 && answers("acknowledge ") > 4);
    assert!(answers("ignored") > 25);
}

/// The fixtures whose description differs from the plugin's, and how.
const DESCRIPTIONS: &[(&str, Difference)] = &[
    ("recorded-23.7/legacy-controls", Difference::OneLine),
    ("recorded-23.7/legacy-unicode", Difference::OneLine),
    ("recorded-23.7/legacy-long", Difference::Ellipsis),
];

#[derive(Clone, Copy, Debug)]
enum Difference {
    /// The bridge replaces line ends and control characters by spaces.
    OneLine,
    /// The bridge ends a cut description with an ellipsis.
    Ellipsis,
}

#[test]
fn the_eight_details_are_those_of_sentrys_own_plugin_in_23_7_as_well() {
    let mut compared = 0;
    for recording in fixtures::recordings() {
        let Some(plugins) = &recording.plugin else { continue };
        let (name, ours) = (recording.name.as_str(), event_of(&recording));
        let plugins: Value = serde_json::from_slice(plugins).unwrap();
        for field in ["service_key", "event_type", "incident_key", "client", "client_url"] {
            assert_eq!(ours[field], plugins[field], "{field} of {name}");
        }
        // The plugin of this version calls the link `View Sentry Issue Details`.
        assert_eq!(ours["contexts"][0]["href"], plugins["contexts"][0]["href"], "{name}");
        let eight = plugins["details"].as_object().unwrap();
        assert_eq!(eight.len(), 8, "{name}");
        for (detail, value) in eight {
            assert_eq!(&ours["details"][detail], value, "details.{detail} of {name}");
        }
        let said = plugins["description"].as_str().unwrap();
        let wanted = match DESCRIPTIONS.iter().find(|(other, _)| *other == name) {
            None => said.to_owned(),
            Some((_, Difference::OneLine)) => {
                let spaced = said.replace(|c: char| c.is_control() || c == '\u{2028}', " ");
                spaced.split_whitespace().collect::<Vec<_>>().join(" ")
            }
            Some((_, Difference::Ellipsis)) => said.chars().take(1023).chain(['…']).collect(),
        };
        assert_eq!(ours["description"], json!(wanted), "{name}");
        let is_listed = DESCRIPTIONS.iter().any(|(other, _)| *other == name);
        assert_eq!(wanted != said, is_listed, "{name} is listed as different if and only if it is");
        compared += 1;
    }
    assert_eq!(compared, 13, "every event of the plugin is compared");
}

#[test]
fn the_culprit_is_that_of_the_event_and_not_of_the_issue_it_repeats() {
    let culprit = |name: &str| event_of(&fixtures::recording(name))["details"]["culprit"].clone();
    assert_eq!(culprit("recorded-23.7/legacy-twice"), "first.view");
    assert_eq!(culprit("recorded-23.7/legacy-twice-2"), "second.view");

    // If the event has no culprit, as in older versions, the plugin takes that of the issue.
    let of = |event: &str, issue: &str| {
        let body = format!(r#"{{"id": "1", "project": "a", "culprit": {issue}, "event": {{"culprit": {event}}}}}"#);
        crate::event(body.as_bytes())["details"]["culprit"].clone()
    };
    for told in ["null", "\"\"", "\" \"", "[]"] {
        assert_eq!(of(told, r#""of.the.issue""#), "of.the.issue", "{told}");
    }
    assert_eq!(of(r#""of.the.event""#, "null"), "of.the.event");
    assert_eq!(of("\"\"", "null"), "");
    assert_eq!(of("null", "\"\""), "");
    assert_eq!(of("null", "null"), Value::Null);
}

#[test]
fn an_issue_whose_webhook_holds_no_address_has_no_link_and_is_told_by_its_short_id() {
    let policy = crate::platform::everything();
    for (name, short_id) in [
        ("recorded-23.7/both-issue-created", "LEGACY-3C"),
        ("recorded-9.1-platform/alert-exception-issue-created", "JAVA-SERVICE-E"),
    ] {
        let recording = fixtures::recording(name);
        let webhook = Webhook { resource: Some("issue"), ..Webhook::of_body(&recording.webhook, received_at()) };
        let Ok(envelope) = opened(ingest_of("", policy.clone()).decide(&webhook)) else { panic!("{name}") };
        let event: Value = serde_json::from_slice(&envelope.body).unwrap();
        assert!(event.get("contexts").is_none() && event.get("client_url").is_none(), "{event}");
        assert_eq!(event["details"]["url"], Value::Null, "{name}");
        assert_eq!(event["details"]["short_id"], short_id, "{name}");
    }
}
