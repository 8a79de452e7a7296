//! The Events API v2: its rules, its answers, and the incidents that it shares with v1.

use pagerduty_sandbox::{
    Effect, EventsApiVersion, Fault, FaultRule, IncidentState, Options, PATH_V2, Sandbox, ThrottleOptions, Verdict,
};
use serde_json::{Value, json};

use super::{Answer, KEY, client, post, send, start};

fn event_v2(action: &str) -> Value {
    let mut event = json!({"routing_key": KEY, "event_action": action, "dedup_key": "42"});
    if action == "trigger" {
        event["payload"] = json!({"summary": "Disk full", "source": "db-1", "severity": "warning"});
    }
    event
}

async fn post_v2(sandbox: &Sandbox, event: &Value) -> Answer {
    let request = client().post(format!("{}{PATH_V2}", sandbox.url())).content_type("application/json");
    send(request, event.to_string()).await.unwrap()
}

fn unhurried() -> Options {
    Options { throttle: ThrottleOptions { limit: 10_000, ..ThrottleOptions::default() }, ..Options::default() }
}

/// The event of `action` with the field at a path such as `payload.source` changed; `None` removes it.
fn with(action: &str, path: &str, value: Option<Value>) -> Value {
    let mut event = event_v2(action);
    let (object, member) = match path.split_once('.') {
        Some((object, member)) => (&mut event[object], member),
        None => (&mut event, path),
    };
    let members = object.as_object_mut().unwrap();
    match value {
        Some(value) => members.insert(member.to_owned(), value),
        None => members.remove(member),
    };
    event
}

#[actix_web::test]
async fn each_rule_refuses_what_breaks_it_and_says_so() {
    let sandbox = start(unhurried());
    let severity =
        "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')";
    let rows = [
        ("trigger", "routing_key", None, "'routing_key' is missing or blank"),
        (
            "trigger",
            "routing_key",
            Some(json!(&KEY[1..])),
            "Length of 'routing_key' is incorrect (should be 32 characters)",
        ),
        (
            "trigger",
            "routing_key",
            Some(json!(KEY.replace('7', "-"))),
            "'routing_key' cannot contain non-alphanumeric characters.",
        ),
        ("trigger", "event_action", None, "'event_action' is missing or blank"),
        (
            "trigger",
            "event_action",
            Some(json!("Trigger")),
            "'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')",
        ),
        ("trigger", "dedup_key", Some(json!(42)), "'dedup_key' is invalid (must be a string)"),
        ("trigger", "dedup_key", Some(json!("é".repeat(256))), "'dedup_key' is too long (maximum is 255 characters)"),
        ("resolve", "dedup_key", None, "'dedup_key' is missing or blank"),
        ("acknowledge", "dedup_key", Some(json!(" ")), "'dedup_key' is missing or blank"),
        ("trigger", "payload", None, "'payload' is missing or blank"),
        ("resolve", "payload", Some(json!("text")), "'payload' is invalid (must be an object)"),
        ("trigger", "payload.summary", Some(json!(" \n")), "'payload.summary' is missing or blank"),
        (
            "trigger",
            "payload.summary",
            Some(json!("x".repeat(1025))),
            "'summary' is too long (maiximum is 1024 characters)",
        ),
        ("trigger", "payload.source", None, "'payload.source' is missing or blank"),
        ("trigger", "payload.source", Some(json!(7)), "'payload.source' is missing or blank"),
        ("trigger", "payload.severity", None, "'payload.severity' is missing or blank"),
        ("trigger", "payload.severity", Some(json!("fatal")), severity),
        ("trigger", "payload.severity", Some(json!("Error")), severity),
        ("trigger", "payload.timestamp", Some(json!("yesterday")), "'payload.timestamp' is invalid"),
        ("trigger", "payload.timestamp", Some(json!(1_800_000_000)), "'payload.timestamp' is invalid"),
        ("trigger", "payload.component", Some(json!(null)), "'payload.component' is invalid (must be a string)"),
        (
            "trigger",
            "payload.custom_details",
            Some(json!([])),
            "'payload.custom_details' is invalid (must be an object)",
        ),
        ("trigger", "links", Some(json!({})), "'links' is invalid (must be an array)"),
        ("trigger", "links", Some(json!([{"text": "a"}])), "'link href' is missing or blank"),
        ("trigger", "links", Some(json!([{"href": "https://a.test", "type": "link"}])), "'link type' is invalid"),
        ("trigger", "images", Some(json!([{"src": " "}])), "'image src' is missing or blank"),
        ("trigger", "images", Some(json!([{"src": "http://a.test"}])), "'image src' is invalid (must be HTTPS)"),
        ("trigger", "client", Some(json!(1)), "'client' is invalid (must be a string)"),
        ("trigger", "client_url", Some(json!("a.test")), "'client_url' is invalid"),
    ];
    for (action, path, value, error) in rows {
        let answer = post_v2(&sandbox, &with(action, path, value.clone())).await;
        let expected = json!({"status": "invalid event", "message": "Event object is invalid", "errors": [error]});
        assert_eq!((answer.status, answer.json()), (400, expected), "{action} {path} {value:?}");
    }
    assert_eq!(sandbox.counters().opened, 0);
}

#[actix_web::test]
async fn what_pagerduty_documents_is_taken_and_what_it_does_not_is_a_warning() {
    let sandbox = start(unhurried());
    for time in ["2026-11-26T08:42:58.315+0000", "2026-11-26T08:42:58Z", "2026-11-26T08:42:58+01:00"] {
        let whole = json!({
            "routing_key": KEY, "event_action": "trigger", "dedup_key": "42",
            "payload": {
                "summary": "Disk full", "source": "db-1", "severity": "critical", "timestamp": time, "component": "postgres",
                "group": "production", "class": "disk", "custom_details": {"free": 0, "nested": {"a": [1]}},
            },
            "images": [{"src": "https://a.test/i.png", "href": "https://a.test", "alt": "i"}],
            "links": [{"href": "https://a.test", "text": "a"}], "client": "sentry", "client_url": "https://a.test",
        });
        assert_eq!(post_v2(&sandbox, &whole).await.status, 202, "{time}");
    }
    assert_eq!((sandbox.counters().warnings, sandbox.counters().violations), (0, 0));
    for (action, path) in [("trigger", "event_type"), ("trigger", "payload.details"), ("resolve", "client")] {
        assert_eq!(post_v2(&sandbox, &with(action, path, Some(json!("x")))).await.status, 202, "{path}");
    }
    assert_eq!(sandbox.counters().warnings, 3);
}

#[actix_web::test]
async fn both_apis_share_their_incidents_unless_they_are_to_be_apart() {
    let v1 = |event_type: &str| super::event(event_type);
    let sandbox = start(unhurried());
    assert_eq!(post(&sandbox, &v1("trigger")).await.status, 200);
    let logged = post_v2(&sandbox, &event_v2("trigger")).await;
    let success = json!({"status": "success", "message": "Event processed", "dedup_key": "42"});
    assert_eq!((logged.status, logged.json()), (202, success));
    assert_eq!(post_v2(&sandbox, &event_v2("resolve")).await.status, 202);
    let incident = sandbox.read(|records| records.incident(KEY, "42").cloned()).unwrap();
    assert_eq!((incident.state, incident.opened, incident.events), (IncidentState::Resolved, 1, 3));
    let entry = sandbox.journal().remove(1);
    assert_eq!(
        (entry.api, entry.verdict.clone()),
        (Some(EventsApiVersion::V2), Verdict::Accepted { effect: Effect::Logged })
    );
    assert_eq!(
        (entry.service_key(), entry.event_type(), entry.description()),
        (Some(KEY), Some("trigger"), Some("Disk full"))
    );

    let apart = start(Options { separate_apis: true, ..unhurried() });
    post(&apart, &v1("trigger")).await;
    assert_eq!(post_v2(&apart, &event_v2("resolve")).await.status, 202);
    post_v2(&apart, &event_v2("trigger")).await;
    assert_eq!((apart.counters().opened, apart.counters().dropped_resolves), (2, 1));
    post(&apart, &v1("resolve")).await;
    let open = apart.incidents().iter().filter(|incident| incident.state == IncidentState::Triggered).count();
    assert_eq!(open, 1);
}

#[actix_web::test]
async fn the_rate_of_a_key_is_that_of_both_apis_and_v2_answers_429() {
    let throttle = ThrottleOptions { limit: 2, ..ThrottleOptions::default() };
    let sandbox = start(Options { throttle, ..Options::default() });
    assert_eq!(post(&sandbox, &super::event("trigger")).await.status, 200);
    assert_eq!(post_v2(&sandbox, &event_v2("trigger")).await.status, 202);
    assert_eq!(post(&sandbox, &super::event("trigger")).await.status, 403);
    let throttled = post_v2(&sandbox, &event_v2("trigger")).await;
    assert_eq!((throttled.status, &throttled.json()["errors"]), (429, &json!(["Enhance Your Calm."])));
}

#[actix_web::test]
async fn faults_know_the_members_of_v2() {
    let sandbox = start(unhurried());
    let of_resolves = FaultRule {
        service_key: Some(KEY.to_owned()),
        incident_key: Some("42".to_owned()),
        event_type: Some(pagerduty_sandbox::EventType::Resolve),
        ..FaultRule::new(Fault::status(503))
    };
    sandbox.inject(of_resolves).unwrap();
    assert_eq!(post_v2(&sandbox, &event_v2("trigger")).await.status, 202);
    assert_eq!(post_v2(&sandbox, &event_v2("resolve")).await.status, 503);
}
