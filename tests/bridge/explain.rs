//! `explain` prints the event that would be sent, and sends nothing.

use serde_json::Value;

use crate::support::{KEY, OTHER_KEY, ROUTES, TOKEN, alert_of_level, fixtures, run, run_with_input};

const SETTINGS: [(&str, &str); 3] = [("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_WEBHOOK_TOKEN", TOKEN), ROUTES];

#[test]
fn the_text_tells_route_key_and_event_with_the_keys_masked() {
    let explained = run_with_input(&["explain", "-"], &SETTINGS, &alert_of_level("fatal", 7, "Disk gone"));
    assert_eq!((explained.code, explained.stderr.as_str()), (Some(0), ""));
    let expected = "standard input\n  route    line 1: level is `fatal`\n  key      …00B2, that line's key\n";
    assert!(explained.stdout.starts_with(expected), "{}", explained.stdout);
    assert!(explained.stdout.contains("event    trigger of incident 7, "));
    assert!(explained.stdout.contains("\"description\": \"Disk gone\""));
    assert!(explained.stdout.contains("\"service_key\": \"…00B2\""));
    assert!(!explained.stdout.contains(KEY) && !explained.stdout.contains(OTHER_KEY));
}

#[test]
fn a_line_that_did_not_match_says_why() {
    let explained = run_with_input(&["explain", "-"], &SETTINGS, &alert_of_level("error", 7, "Disk full"));
    let expected = "  route    line 1: level is `error`, not `fatal`\n  key      …00A1, the default key\n";
    assert!(explained.stdout.contains(expected), "{}", explained.stdout);
}

#[test]
fn keys_are_shown_whole_to_those_who_ask() {
    let body = alert_of_level("fatal", 7, "Disk gone");
    for args in [&["explain", "--show-keys", "-"][..], &["explain", "--show-keys", "--json", "-"]] {
        assert!(run_with_input(args, &SETTINGS, &body).stdout.contains(OTHER_KEY), "{args:?}");
    }
}

#[test]
fn json_is_the_event_alone_on_one_line_each() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/legacy-other");
    let explained = run(&["explain", "--json", folder], &SETTINGS);
    assert_eq!((explained.code, explained.stderr.as_str()), (Some(0), ""));
    assert!(!explained.stdout.contains(KEY));
    let events: Vec<Value> = explained.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), fixtures("legacy-other").len());
    assert!(events.iter().all(|event| event["event_type"] == "trigger" && event["incident_key"].is_string()));
}

#[test]
fn what_had_to_be_cut_is_told() {
    let fixtures = fixtures("legacy-9.1");
    let long = fixtures.iter().find(|fixture| fixture.name == "message-of-8192-characters").unwrap();
    let explained = run_with_input(&["explain", "-"], &SETTINGS, &long.body);
    assert!(
        explained.stdout.contains("  cut      description: cut from 8192 to 1024 characters"),
        "{}",
        explained.stdout
    );
}

#[test]
fn a_payload_the_bridge_would_refuse_is_told_with_its_reason_and_fails() {
    for (body, reason) in [("{}", "not a Sentry webhook"), ("hello", "JSON")] {
        let text = run_with_input(&["explain", "-"], &SETTINGS, body.as_bytes());
        assert_eq!(text.code, Some(1));
        assert!(text.stdout.contains("  refused  ") && text.stdout.contains(reason), "{}", text.stdout);
        let json = run_with_input(&["explain", "--json", "-"], &SETTINGS, body.as_bytes());
        assert_eq!((json.code, json.stdout.as_str()), (Some(1), ""));
        assert!(json.stderr.starts_with("standard input: refused: "), "{}", json.stderr);
    }
}

#[test]
fn an_ignored_payload_is_no_failure() {
    let settings = [&SETTINGS[..], &[("BRIDGE_MIN_LEVEL", "error")]].concat();
    let explained = run_with_input(&["explain", "-"], &settings, &alert_of_level("info", 7, "Disk fine"));
    assert_eq!(explained.code, Some(0));
    assert!(explained.stdout.contains("  ignored  the level info is below BRIDGE_MIN_LEVEL"), "{}", explained.stdout);
}

#[test]
fn without_any_settings_stand_ins_serve_and_wrong_settings_are_named() {
    let body = alert_of_level("error", 7, "Disk full");
    let explained = run_with_input(&["explain", "-"], &[], &body);
    assert_eq!(explained.code, Some(0));
    for name in ["BRIDGE_PAGERDUTY_SERVICE_KEY", "BRIDGE_WEBHOOK_TOKEN"] {
        assert!(
            explained.stderr.contains(&format!("{name} is not set, so a placeholder is used")),
            "{}",
            explained.stderr
        );
    }
    let wrong = run_with_input(&["explain", "-"], &[("BRIDGE_MIN_LEVEL", "loud")], &body);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""));
    assert!(wrong.stderr.contains("BRIDGE_MIN_LEVEL is `loud`"), "{}", wrong.stderr);
}
