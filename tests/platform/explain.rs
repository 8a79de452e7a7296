//! `explain` with bodies of the integration platform, without their header.

use assert_cmd::Command;
use serde_json::Value;

const KEY: &str = "0000000000000000000000000000000a";

fn explain(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::cargo_bin("sentry-pagerduty-bridge").unwrap();
    let files = arguments.iter().map(|argument| match argument.strip_prefix('@') {
        Some(name) => format!("{}/fixtures/platform/{name}.json", env!("CARGO_MANIFEST_DIR")),
        None => (*argument).to_owned(),
    });
    command.env_clear().envs(variables.iter().copied()).current_dir(folder.path()).arg("explain").args(files);
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

#[test]
fn a_trigger_tells_its_route_even_by_a_tag_that_is_redacted() {
    let routes = format!("level,fatal,{KEY}\nuser,id:812,{KEY}");
    let text = explain(&["@event-alert-26"], &[("BRIDGE_PAGERDUTY_ROUTES", &routes), ("BRIDGE_REDACT", "user")]);
    assert!(text.contains("  route    line 1: level is `error`, not `fatal`\n"), "{text}");
    assert!(text.contains("  route    line 2: user is `id:812`\n"), "{text}");
    assert!(text.contains("  key      …000a, that line's key\n"), "{text}");
    assert!(!text.contains("kim@example.test"), "{text}");
}

#[test]
fn what_follows_an_incident_tells_that_the_bridge_has_to_remember_it() {
    let text = explain(&["@issue-resolved-26"], &[]);
    assert!(
        text.contains(
            "resolve of incident 6811223344: to every key where the running bridge opened it; if there is none, nowhere"
        ),
        "{text}"
    );
    let text = explain(&["@issue-resolved-26"], &[("BRIDGE_RESOLVE", "all")]);
    assert!(text.contains("to every key where the running bridge opened it; if there is none, to …0000"), "{text}");
    let text = explain(&["@issue-archived-23"], &[]);
    assert!(text.contains("  ignored  an issue that is ignored or archived does nothing to its incident"), "{text}");
}

#[test]
fn json_holds_the_events_whose_integration_is_known_and_nothing_else() {
    let text = explain(&["--json", "@metric-critical", "@metric-resolved", "@comment-created"], &[]);
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["incident_key"], "incident_5_77");

    let text = explain(&["--json", "@metric-resolved"], &[("BRIDGE_RESOLVE", "all")]);
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["event_type"], &event["service_key"]), (&Value::from("resolve"), &Value::from("…0000")));
}
