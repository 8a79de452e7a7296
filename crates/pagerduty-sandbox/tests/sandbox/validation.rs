//! Which bodies are valid events and which are not.

use pagerduty_sandbox::{Counting, Options, ThrottleOptions};
use serde_json::{Value, json};

use super::{KEY, event, post, start};

const KEY_MISSING: &str = "Service key is missing or blank";
const KEY_LENGTH: &str = "Service key is the wrong length (should be 32 characters)";
const TYPE_INVALID: &str = "event_type is invalid (must be one of: trigger acknowledge resolve)";
const TEXT_MISSING: &str = "Description is missing or blank";
const TEXT_LONG: &str = "Description is too long (maximum is 1024 characters)";
const NAME_TYPE: &str = "Incident key must be a string";
const NAME_MISSING: &str = "Incident key is missing or blank";
const NAME_LONG: &str = "Incident key is too long (maximum is 255 characters)";
const CONTEXTS: &str = "Contexts is invalid";

fn unhurried() -> Options {
    Options { throttle: ThrottleOptions { limit: 10_000, ..ThrottleOptions::default() }, ..Options::default() }
}

/// The event of `event_type` with one field changed; `None` removes it.
fn with(event_type: &str, member: &str, value: Option<Value>) -> Value {
    let mut event = event(event_type);
    let members = event.as_object_mut().unwrap();
    match value {
        Some(value) => members.insert(member.to_owned(), value),
        None => members.remove(member),
    };
    event
}

#[actix_web::test]
async fn each_rule_refuses_what_breaks_it_and_says_so() {
    let sandbox = start(unhurried());
    let link = |members: Value| Some(json!([members]));
    let rows = [
        ("trigger", "service_key", None, KEY_MISSING),
        ("trigger", "service_key", Some(json!(null)), KEY_MISSING),
        ("trigger", "service_key", Some(json!("")), KEY_MISSING),
        ("trigger", "service_key", Some(json!(7)), KEY_MISSING),
        ("trigger", "service_key", Some(json!(&KEY[1..])), KEY_LENGTH),
        ("trigger", "service_key", Some(json!(format!("{KEY}0"))), KEY_LENGTH),
        (
            "trigger",
            "service_key",
            Some(json!(KEY.replace('7', "-"))),
            "Service key cannot contain non-alphanumeric characters",
        ),
        ("trigger", "event_type", None, TYPE_INVALID),
        ("trigger", "event_type", Some(json!("Trigger")), TYPE_INVALID),
        ("trigger", "event_type", Some(json!("open")), TYPE_INVALID),
        ("trigger", "event_type", Some(json!(1)), TYPE_INVALID),
        ("trigger", "description", None, TEXT_MISSING),
        ("trigger", "description", Some(json!(null)), TEXT_MISSING),
        ("trigger", "description", Some(json!(" \n\u{a0}")), TEXT_MISSING),
        ("trigger", "description", Some(json!(["Disk full"])), "Description must be a string"),
        ("resolve", "description", Some(json!(1)), "Description must be a string"),
        ("resolve", "description", Some(json!("x".repeat(1025))), TEXT_LONG),
        ("trigger", "incident_key", Some(json!(42)), NAME_TYPE),
        ("trigger", "incident_key", Some(json!(true)), NAME_TYPE),
        ("trigger", "incident_key", Some(json!(null)), NAME_TYPE),
        ("acknowledge", "incident_key", Some(json!(["42"])), NAME_TYPE),
        ("resolve", "incident_key", Some(json!({})), NAME_TYPE),
        ("trigger", "incident_key", Some(json!("")), NAME_MISSING),
        ("acknowledge", "incident_key", None, NAME_MISSING),
        ("resolve", "incident_key", None, NAME_MISSING),
        ("trigger", "incident_key", Some(json!("é".repeat(256))), NAME_LONG),
        ("trigger", "details", Some(json!(null)), "Details must be an object"),
        ("trigger", "details", Some(json!([])), "Details must be an object"),
        ("trigger", "client", Some(json!(null)), "Client must be a string"),
        ("trigger", "client_url", Some(json!(1)), "Client url is invalid"),
        ("trigger", "client_url", Some(json!("sentry.example.com")), "Client url is invalid"),
        ("trigger", "client_url", Some(json!("http:sentry")), "Client url is invalid"),
        ("trigger", "client_url", Some(json!("https://")), "Client url is invalid"),
        ("trigger", "client_url", Some(json!("ftp://sentry")), "Client url is invalid"),
        ("trigger", "contexts", Some(json!({})), CONTEXTS),
        ("trigger", "contexts", Some(json!(null)), CONTEXTS),
        ("trigger", "contexts", Some(json!(["link"])), CONTEXTS),
        ("trigger", "contexts", link(json!({"href": "https://a"})), CONTEXTS),
        ("trigger", "contexts", link(json!({"type": "video", "href": "https://a"})), CONTEXTS),
        ("trigger", "contexts", link(json!({"type": "link"})), "Context href is missing or blank"),
        ("trigger", "contexts", link(json!({"type": "link", "href": " "})), "Context href is missing or blank"),
        ("trigger", "contexts", link(json!({"type": "link", "href": "https://a", "text": 1})), CONTEXTS),
        ("trigger", "contexts", link(json!({"type": "link", "href": "https://a", "src": "https://b"})), CONTEXTS),
        ("trigger", "contexts", link(json!({"type": "image"})), "Context src is missing or blank"),
        ("trigger", "contexts", link(json!({"type": "image", "src": "http://a"})), "Context src must be HTTPS"),
        ("trigger", "contexts", link(json!({"type": "image", "src": "https://a", "text": "b"})), CONTEXTS),
    ];
    for (event_type, member, value, error) in rows {
        let event = with(event_type, member, value);
        let answer = post(&sandbox, &event).await;
        assert_eq!(answer.status, 400, "{event}");
        let expected = json!({"status": "invalid event", "message": "Event object is invalid", "errors": [error]});
        assert_eq!(answer.json(), expected, "{event}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    }
    let counters = sandbox.counters();
    assert_eq!((counters.accepted, counters.refused, counters.violations), (0, 46, 0));
}

#[actix_web::test]
async fn all_that_is_wrong_is_said_at_once() {
    let sandbox = start(Options::default());
    let errors = &post(&sandbox, &json!({"event_type": "trigger", "incident_key": 1})).await.json()["errors"];
    assert_eq!(*errors, json!([KEY_MISSING, NAME_TYPE, TEXT_MISSING]));
}

#[actix_web::test]
async fn what_other_senders_send_is_taken() {
    let sandbox = start(Options::default());
    let agent = json!({
        "service_key": KEY, "event_type": "trigger", "incident_key": "srv1/disk", "description": "DISK on srv1",
        "client": "Nagios", "client_url": "https://nagios.example.com/", "details": {"state": "CRITICAL", "n": {"a": [1]}},
        "agent": {"queued_by": "pd-nagios", "queued_at": "2026-11-22T12:00:00Z", "agent_id": "0"},
    });
    let alertmanager = json!({
        "service_key": KEY, "event_type": "resolve", "incident_key": "f".repeat(64), "description": "[RESOLVED] x",
        "client": "Alertmanager", "client_url": "http://localhost:9093", "details": {"firing": ""},
        "event_action": "", "payload": null,
    });
    let contexts = json!([
        {"type": "link", "href": "https://sentry.example.com/issues/42/", "text": "Issue Details"},
        {"type": "image", "src": "https://sentry.example.com/a.png", "href": "https://sentry.example.com", "alt": "A"},
    ]);
    let ruleset =
        json!({"service_key": "R0ABCDEFGHIJKLMNOPQRSTUVWXYZ0123", "event_type": "trigger", "description": "x"});
    let cases = [
        (agent, &["agent is not a field of the Events API v1"][..]),
        (
            alertmanager,
            &[
                "client is only used for trigger",
                "client_url is only used for trigger",
                "event_action is not a field of the Events API v1",
                "payload is not a field of the Events API v1",
            ],
        ),
        (with("trigger", "contexts", Some(contexts)), &[]),
        (with("acknowledge", "description", None), &[]),
        (with("resolve", "description", Some(json!(""))), &[]),
        (ruleset, &[]),
    ];
    for (event, warnings) in cases {
        let answer = post(&sandbox, &event).await;
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("success")), "{event}");
        assert_eq!(sandbox.journal().last().unwrap().warnings, warnings, "{event}");
    }
    assert_eq!((sandbox.counters().accepted, sandbox.counters().warnings), (6, 5));
}

#[actix_web::test]
async fn text_is_measured_in_the_way_that_is_set() {
    let cases = [
        ("x", [(1023, 200, 200), (1024, 200, 200), (1025, 400, 400)]),
        ("é", [(1023, 200, 200), (1024, 200, 200), (1025, 400, 400)]),
        ("🔥", [(512, 200, 200), (513, 200, 400), (1025, 400, 400)]),
    ];
    for (count, place) in [(Counting::CodePoints, 0), (Counting::Utf16, 1)] {
        let sandbox = start(Options { count, ..unhurried() });
        for (character, rows) in cases {
            for (length, points, units) in rows {
                let event = with("trigger", "description", Some(json!(character.repeat(length))));
                let answer = post(&sandbox, &event).await;
                assert_eq!(answer.status, [points, units][place], "{length} x {character} by {count:?}");
                if answer.status == 400 {
                    assert_eq!(answer.json()["errors"], json!([TEXT_LONG]));
                }
            }
        }
        let name = |length: usize| with("trigger", "incident_key", Some(json!("é".repeat(length))));
        assert_eq!((post(&sandbox, &name(255)).await.status, post(&sandbox, &name(256)).await.status), (200, 400));
    }
}

#[actix_web::test]
async fn what_only_pagerdutys_schema_forbids_is_a_warning_where_strictness_is_off() {
    let sandbox = start(Options { strict: false, ..Options::default() });
    let event = with("trigger", "contexts", Some(json!([{"type": "image", "src": "https://a/b.png", "text": "A"}])));
    assert_eq!(post(&sandbox, &event).await.status, 200);
    assert_eq!(sandbox.journal()[0].warnings, ["text is not a field of such a context"]);
}
