//! The control port.

use pagerduty_sandbox::{Options, PATH, Sandbox};
use serde_json::{Value, json};

use super::{Answer, KEY, client, event, listener, post, send, try_post};

fn start() -> Sandbox {
    Sandbox::start(Options::default(), listener(), Some(listener())).unwrap()
}

async fn call(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> Answer {
    let url = format!("{}{path}", sandbox.control_url().unwrap());
    send(client().request(method.parse().unwrap(), url), body).await.unwrap()
}

async fn get(sandbox: &Sandbox, path: &str) -> Value {
    let answer = call(sandbox, "GET", path, "").await;
    assert_eq!(answer.status, 200, "{path}");
    answer.json()
}

#[actix_web::test]
async fn what_happened_can_be_asked_for() {
    let sandbox = start();
    assert_eq!(get(&sandbox, "/healthz").await, json!({"status": "ok"}));
    let mut other = event("trigger");
    other["service_key"] = "0".repeat(32).into();
    for event in [event("trigger"), event("acknowledge"), other] {
        post(&sandbox, &event).await;
    }
    let journal = get(&sandbox, &format!("/journal?service_key={KEY}&limit=1")).await;
    let [entry] = &journal.as_array().unwrap()[..] else { panic!("one entry: {journal}") };
    let expected = json!({
        "number": 2, "verdict": "accepted", "effect": "acknowledged", "status": 200, "incident_key": "42",
        "before": "triggered", "after": "acknowledged", "target": PATH, "body": event("acknowledge").to_string(),
        "event": event("acknowledge"), "extent": "whole", "fault": null,
    });
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(entry[member], *value, "{member}");
    }
    let numbers: Vec<_> =
        get(&sandbox, "/journal").await.as_array().unwrap().iter().map(|entry| entry["number"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let counters = get(&sandbox, "/counters").await;
    assert_eq!((&counters["opened"], &counters["acknowledged"]), (&json!(2), &json!(1)));
    let incidents = get(&sandbox, "/incidents").await;
    let incident = &incidents.as_array().unwrap()[1];
    assert_eq!((&incident["service_key"], &incident["state"]), (&json!(KEY), &json!("acknowledged")));
    assert_eq!(incident["log"][0]["effect"], "opened");
}

#[actix_web::test]
async fn every_kind_of_fault_can_be_written_as_json() {
    let sandbox = start();
    let faults = [
        json!({"kind": "answer", "status": 503}),
        json!({"kind": "answer", "status": 400, "body": {"text": "no"}, "headers": {"x": "y"}, "apply": true}),
        json!({"kind": "answer", "status": 500, "body": {"filler": 10_485_760}}),
        json!({"kind": "throttled", "status": 429, "retry_after": {"seconds": 3}}),
        json!({"kind": "invalid_as_500"}),
        json!({"kind": "silent_drop"}),
        json!({"kind": "close", "apply": true, "cut": "reset"}),
        json!({"kind": "delay", "ms": 100}),
        json!({"kind": "hang", "ms": 100}),
        json!({"kind": "drip", "ms": 100}),
        json!({"kind": "late", "until": "resolved"}),
        json!({"kind": "late", "until": {"ms": 5}, "hang_ms": 100}),
        json!({"kind": "close_idle", "ms": 100}),
    ];
    for (place, fault) in faults.iter().enumerate() {
        let rule = json!({
            "service_key": KEY, "incident_key": "43", "event_type": "trigger", "reused_connection": true,
            "from": 2, "times": 3, "for_ms": 60_000, "fault": fault,
        });
        let answer = call(&sandbox, ["POST", "PUT"][place % 2], "/faults", &rule.to_string()).await;
        assert_eq!((answer.status, answer.json()), (201, json!({"id": place + 1})), "{rule}");
    }
    let standing = get(&sandbox, "/faults").await;
    for (standing, fault) in standing.as_array().unwrap().iter().zip(&faults) {
        for (member, value) in fault.as_object().unwrap() {
            assert_eq!(standing["rule"]["fault"][member], *value);
        }
        assert_eq!((&standing["rule"]["for_ms"], &standing["acted"]), (&json!(60_000), &json!(0)));
    }
    assert_eq!(call(&sandbox, "DELETE", "/faults?id=1", "").await.status, 204);
    assert_eq!(sandbox.faults()[0].id, 2);
    assert_eq!(call(&sandbox, "DELETE", "/faults", "").await.status, 204);
    assert!(sandbox.faults().is_empty());
}

#[actix_web::test]
async fn a_fault_strikes_and_what_it_holds_can_be_released() {
    let sandbox = start();
    call(&sandbox, "POST", "/faults", r#"{"times":1,"fault":{"kind":"late","until":"released"}}"#).await;
    assert!(try_post(&sandbox, &event("trigger")).await.is_err());
    assert_eq!(call(&sandbox, "POST", "/held/release", "").await.json(), json!({"released": 1}));
    assert_eq!(sandbox.counters().opened, 1);
}

#[actix_web::test]
async fn options_can_be_changed_while_it_runs() {
    let sandbox = start();
    let patch = r#"{"throttle":{"limit":1},"oversize":"400json","keys":["73af7a305bd7012d7c06002500d5d1a6"]}"#;
    let answer = call(&sandbox, "PUT", "/options", patch).await;
    assert_eq!((answer.status, &answer.json()["throttle"]["window_ms"]), (200, &json!(60_000)));
    assert_eq!(get(&sandbox, "/options").await, answer.json());
    for status in [200, 403] {
        assert_eq!(post(&sandbox, &event("trigger")).await.status, status);
    }
}

#[actix_web::test]
async fn a_reset_forgets_everything_but_the_options() {
    let sandbox = start();
    call(&sandbox, "PUT", "/options", r#"{"throttle":{"limit":1}}"#).await;
    post(&sandbox, &event("trigger")).await;
    call(&sandbox, "POST", "/faults", r#"{"fault":{"kind":"silent_drop"}}"#).await;
    assert_eq!(call(&sandbox, "POST", "/reset", "").await.status, 204);
    assert!(sandbox.journal().is_empty() && sandbox.incidents().is_empty() && sandbox.faults().is_empty());
    for status in [200, 403] {
        assert_eq!(post(&sandbox, &event("trigger")).await.status, status);
    }
    assert_eq!(sandbox.journal()[0].number, 1);
}

#[actix_web::test]
async fn nonsense_is_refused_with_a_reason_and_changes_nothing() {
    let sandbox = start();
    let nonsense = [
        ("/faults", "{"),
        ("/faults", r#"{"fault":{"kind":"earthquake"}}"#),
        ("/faults", r#"{"fault":{"kind":"answer","status":99}}"#),
        ("/faults", r#"{"fault":{"kind":"silent_drop"},"tims":1}"#),
        ("/options", r#"{"stricked":false}"#),
        ("/options", "[]"),
    ];
    for (path, body) in nonsense {
        let answer = call(&sandbox, "PUT", path, body).await;
        assert_eq!((answer.status, &answer.json()["status"]), (400, &json!("error")), "{body}");
        assert!(!answer.json()["reason"].as_str().unwrap().is_empty());
    }
    assert!(sandbox.faults().is_empty());
    assert_eq!(sandbox.options(), Options::default());
}

#[actix_web::test]
async fn the_two_ports_do_not_answer_for_each_other() {
    let sandbox = start();
    let answer = call(&sandbox, "POST", PATH, &event("trigger").to_string()).await;
    assert_eq!((answer.status, sandbox.counters().requests), (404, 0));
    let answer = send(client().get(format!("{}/journal", sandbox.url())), "").await.unwrap();
    assert_eq!(answer.status, 404);
}
