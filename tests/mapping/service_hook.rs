//! Service hooks, which are created through Sentry's API only: their `project`, `group` and `event` have the form of that
//! API.

use sentry_pagerduty_bridge::ingest::{Decision, Rejection};
use serde_json::{Value, json};

use crate::{decide, event, fixtures, ingest, opened};

fn hook(name: &str) -> Vec<u8> {
    let name = format!("legacy-other/{name}");
    fixtures::all().into_iter().find(|fixture| fixture.name == name).unwrap_or_else(|| panic!("{name} is gone")).webhook
}

#[test]
fn a_service_hook_pages_like_a_legacy_alert_of_the_same_event() {
    let hook = event(&hook("service-hook-9.1"));
    let legacy = json!({
        "id": "417", "project": "checkout", "project_name": "Checkout & Cart", "project_slug": "checkout", "level": "error",
        "message": "", "culprit": "shop.pay in charge", "url": "http://sentry.example.test:9000/acme/checkout/issues/417/",
        "event": {
            "event_id": "5be1c0de5be1c0de5be1c0de5be1c0de", "title": "CardDeclined: issuer said no", "platform": "python",
            "timestamp": 1_556_789_412.25, "culprit": "shop.pay in charge",
            "tags": [["environment", "production"], ["level", "error"], ["release", "shop@3.0"],
                ["server_name", "web-02.example.test"], ["team", "payments"]],
            "user": {"id": "77", "username": "kim", "ip_address": "192.0.2.7"},
            "exception": {"values": [
                {"type": "GatewayTimeout", "value": "no answer after 3 s"},
                {"type": "CardDeclined", "value": "issuer said no", "stacktrace": {"frames": [
                    {"filename": "django/core/handlers/base.py", "function": "get_response", "lineno": 126, "in_app": false},
                    {"abs_path": "/srv/shop/views.py", "module": "shop.views", "function": "checkout", "lineno": 31, "in_app": true},
                    {"filename": "shop/pay.py", "function": "charge", "lineno": 47, "in_app": true}]}}]},
        },
    });
    assert_eq!(hook, event(legacy.to_string().as_bytes()));
    assert_eq!(hook["details"]["frames"], json!(["shop/pay.py:47 in charge", "/srv/shop/views.py:31 in checkout"]));
}

#[test]
fn the_message_of_a_service_hook_is_the_log_message_and_not_the_text_that_sentry_searches() {
    let log = event(&hook("service-hook-23.7"));
    assert_eq!(log["description"], "Disk 97 % full on /srv since midnight");
    assert_eq!((&log["details"]["level"], &log["details"]["logger"]), (&json!("warning"), &json!("backup")));
    assert_eq!(event(&hook("service-hook-9.1"))["description"], "CardDeclined: issuer said no");

    let bare = json!({"project": {"slug": "a"}, "group": {"id": 7, "level": "fatal", "culprit": "a.b"}, "event": {"message": "only this"}});
    let bare = event(bare.to_string().as_bytes());
    assert_eq!((&bare["description"], &bare["incident_key"]), (&json!("only this"), &json!("7")));
    assert_eq!((&bare["details"]["level"], &bare["details"]["culprit"]), (&json!("fatal"), &json!("a.b")));
    assert_eq!(bare["details"]["project"], "a");
}

#[test]
fn the_issue_of_a_service_hook_is_found_wherever_it_is_named_and_refused_where_it_is_not() {
    let key = |group: Value, event: Value| match opened(decide(
        &ingest("", "", None),
        json!({"project": {"slug": "a"}, "group": group, "event": event}).to_string().as_bytes(),
    )) {
        Ok(envelope) => Ok(envelope.incident_key.to_string()),
        Err(Decision::Rejected(rejection)) => Err(rejection),
        Err(other) => panic!("{other:?}"),
    };
    let found = || Ok("5".to_owned());
    assert_eq!(key(json!({"id": "5"}), json!({})), found());
    assert_eq!(key(json!({"url": "https://sentry.example.test/organizations/o/issues/5/"}), json!({})), found());
    assert_eq!(key(json!({"permalink": "https://sentry.example.test/organizations/o/issues/5/"}), json!({})), found());
    assert_eq!(key(json!({}), json!({"groupID": "5"})), found());
    assert_eq!(
        key(json!({}), json!({"url": "https://sentry.example.test/organizations/o/issues/5/events/0a/"})),
        found()
    );
    for group in [json!({}), json!(null), json!([]), json!({"id": ""}), json!("5")] {
        assert_eq!(key(group, json!({"title": "a"})), Err(Rejection::NoIssue));
    }
}
