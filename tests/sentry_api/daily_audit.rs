//! The daily audit of a running bridge.

use sentry_twin::{SentryGeneration, TwinFaultKind};
use serde_json::{Value, json};

use crate::in_process::{InProcessBridge, Setup, eventually};

/// Starts a bridge that queries Sentry's API and sends no canaries.
fn start(setup: &mut Setup, settings: &[(&str, &str)]) -> InProcessBridge {
    let url = setup.twin.url();
    let api = [
        ("BRIDGE_SENTRY_URL", url.as_str()),
        ("BRIDGE_SENTRY_ORG", sentry_twin::ORGANIZATION),
        ("BRIDGE_SENTRY_API_TOKEN", sentry_twin::TOKEN),
        ("BRIDGE_CANARY_DSN", ""),
    ];
    setup.start(&[api.as_slice(), settings].concat())
}

fn kinds(status: &Value) -> Option<Vec<String>> {
    let findings = status["audit"]["last"]["findings"].as_array()?;
    Some(findings.iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn it_finds_what_audit_finds_and_says_whose_token_it_used() {
    for generation in [SentryGeneration::Plugin, SentryGeneration::Apps, SentryGeneration::Workflows] {
        let mut setup = Setup::connected(generation);
        let bridge = start(&mut setup, &[]);
        eventually("an audit without findings", || kinds(&bridge.status()).is_some_and(|kinds| kinds.is_empty()));
        let status = bridge.status();
        let token = status["audit"]["last"]["token"].as_str().unwrap();
        assert!(token.starts_with("member@example.com, with the scopes org:read"), "{token}");
        assert_eq!(status["audit"]["last"]["projects"][0]["pages"], true);
        assert_eq!((&status["canary"], &status["status"]), (&Value::Null, &json!("healthy")));

        // Only the canary's alert is left, which does not make the project page.
        setup.twin.world(|world| {
            world.project("shop").unwrap().rules.retain(|rule| rule["name"] == "sentry-pagerduty-bridge canary");
            world.workflows.retain(|workflow| workflow["name"] == "sentry-pagerduty-bridge canary");
        });
        eventually("the finding", || kinds(&bridge.status()) == Some(vec!["project-without-page".to_owned()]));
        assert!((bridge.metric("bridge_audit_findings{kind=\"project-without-page\"}") - 1.0).abs() < 0.1);
        assert!(bridge.metric("bridge_audit_findings{kind=\"quiet\"}").abs() < 0.1);
        assert!(bridge.metric("bridge_audit_last_run_timestamp_seconds") > 1.7e9);
        let status = bridge.status();
        assert_eq!((&status["status"], &status["troubles"]), (&json!("healthy"), &json!([])), "a finding pages nobody");
        assert!(setup.pagerduty.incidents().is_empty());
    }
}

#[test]
fn one_that_fails_is_shown_beside_what_the_last_one_found_and_pages_nobody() {
    let mut setup = Setup::connected(SentryGeneration::Workflows);
    let bridge = start(&mut setup, &[]);
    eventually("an audit", || kinds(&bridge.status()).is_some());
    assert!(bridge.metric("bridge_audit_failed").abs() < 0.1);
    setup.twin.world(|world| world.inject("/projects/", 100_000, TwinFaultKind::Status(403)));
    eventually("the failure", || bridge.status()["audit"]["failure"].is_string());
    let status = bridge.status();
    let failure = status["audit"]["failure"].as_str().unwrap();
    assert!(failure.contains("the token may not do GET /api/0/organizations/acme/projects/ (403)"), "{failure}");
    assert!(status["audit"]["failed_at"].is_string() && kinds(&status).is_some(), "{status}");
    assert!((bridge.metric("bridge_audit_failed") - 1.0).abs() < 0.1);
    assert_eq!(status["troubles"], json!([]));
    setup.twin.world(|world| world.faults.clear());
    eventually("the next audit", || bridge.status()["audit"]["failure"].is_null());
}

#[test]
fn without_its_settings_it_is_off() {
    let mut setup = Setup::new(SentryGeneration::Plugin);
    let bridge = setup.start(&[("BRIDGE_CANARY_DSN", ""), ("BRIDGE_SENTRY_URL", &setup.twin.url())]);
    let status = bridge.status();
    assert_eq!((&status["audit"], &status["canary"]), (&Value::Null, &Value::Null));
    assert!(!bridge.metrics().contains("bridge_audit_"));
    assert!(setup.twin.calls().is_empty());
}
