//! Which bodies become events, which are ignored and which are rejected.

use sentry_pagerduty_bridge::alert::Level;
use sentry_pagerduty_bridge::ingest::{Decision, Rejection};

use crate::{decide, event, fixtures, ingest, opened};

#[test]
fn json_that_is_no_webhook_of_sentry_is_refused_in_words() {
    for body in ["{}", "[]", "[1,2]", "null", "\"text\"", "3", r#"{"id": "5"}"#, r#"{"zen": "Design for failure."}"#] {
        let decision = decide(&ingest("", "", None), body.as_bytes());
        assert_eq!(decision, Decision::Rejected(Rejection::NotSentry), "{body}");
    }
    for body in ["", "{", "id=5", "<html>", r#"{"id": "5", "project": "a""#] {
        let decision = decide(&ingest("", "", None), body.as_bytes());
        let Decision::Rejected(rejection @ Rejection::NotJson(_)) = decision else { panic!("{body}: {decision:?}") };
        assert!(rejection.to_string().starts_with("the body is not JSON: "), "{rejection}");
    }
    let nameless = br#"{"project": "a", "event": {}, "url": "https://sentry.example.test/"}"#;
    assert_eq!(decide(&ingest("", "", None), nameless), Decision::Rejected(Rejection::NoIssue));
}

#[test]
fn the_issue_is_found_in_the_address_where_the_id_is_missing() {
    for id in [r#""id": null,"#, r#""id": "","#, r#""id": [],"#, r#""id": "\u0000","#, ""] {
        let body = format!(r#"{{{id} "project": "a", "url": "https://acme.sentry.io/issues/4338807134/?a=b"}}"#);
        assert_eq!(event(body.as_bytes())["incident_key"], "4338807134", "{id}");
    }
}

#[test]
fn an_incident_key_is_text_whatever_the_id_was() {
    for (id, key) in [("\"42\"", "42"), ("42", "42"), ("42.0", "42"), ("18446744073709551615", "18446744073709551615")]
    {
        let body = format!(r#"{{"id": {id}, "project": "a", "event": null}}"#);
        assert_eq!(event(body.as_bytes())["incident_key"], key);
    }
}

#[test]
fn a_prefix_is_put_before_the_issue() {
    let envelope = opened(decide(&ingest("", "eu-", None), br#"{"id": 42, "project": "a"}"#)).unwrap();
    assert_eq!(envelope.incident_key.as_str(), "eu-42");
}

#[test]
fn alerts_below_the_level_wanted_are_ignored_and_those_of_no_known_level_page() {
    let ingest = ingest("", "", Some(Level::Error));
    let decision = |level: &str| {
        decide(&ingest, format!(r#"{{"id": "1", "project": "a", "level": {level}, "event": {{}}}}"#).as_bytes())
    };
    for level in [r#""error""#, r#""FATAL""#, "null", r#""critical""#, "[]"] {
        assert!(opened(decision(level)).is_ok(), "{level}");
    }
    let Decision::Ignored(reason) = decision(r#""warning""#) else { panic!() };
    assert_eq!(reason.to_string(), "the level warning is below BRIDGE_MIN_LEVEL, which is error");
}

#[test]
fn the_default_level_of_no_limit_lets_every_fixture_through() {
    for fixture in fixtures::all() {
        assert!(opened(decide(&ingest("", "", None), &fixture.webhook)).is_ok(), "{}", fixture.name);
    }
}
