//! Texts from outside cannot send control characters to a terminal, nor forge a line of the log.

use serde_json::Value;

use crate::support::{Bridge, KEY, PagerDuty, Run, TOKEN, alert, make_dead_letter, run_with_input};

/// ESC, NUL, the C1 CSI, DEL, a carriage return, characters that change the writing direction, and a line separator.
const COMMANDS: [char; 9] = ['\u{1b}', '\0', '\u{9b}', '\u{7f}', '\r', '\u{202e}', '\u{2066}', '\u{200f}', '\u{2028}'];

/// A text that would clear the screen, reverse the direction of the text after it and begin a new line.
fn evil() -> String {
    COMMANDS.iter().flat_map(|command| [*command, '[', '2', 'J']).chain("\nforged: line".chars()).collect()
}

#[track_caller]
fn is_harmless(text: &str) {
    let found: Vec<_> = COMMANDS.iter().filter(|command| text.contains(**command)).collect();
    assert!(found.is_empty(), "{found:?} in {text:?}");
}

/// An alert with that text in every field that an attacker of the application can influence.
fn evil_alert(id: &str) -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&alert(7, "Disk full")).unwrap();
    for member in ["culprit", "message", "project", "project_slug", "level"] {
        body[member] = evil().into();
    }
    body["id"] = id.into();
    body["event"]["tags"] = serde_json::json!([["team", evil()], [evil(), "value"]]);
    body["event"]["title"] = evil().into();
    body["event"]["level"] = evil().into();
    body.to_string().into_bytes()
}

#[track_caller]
fn explain(args: &[&str], body: &[u8]) -> Run {
    let settings = [
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
        ("BRIDGE_PAGERDUTY_ROUTES", "team,db,another0key0for0tests000000000B2"),
    ];
    run_with_input(&[&["explain", "-"], args].concat(), &settings, body)
}

#[test]
fn explain_prints_what_a_stranger_wrote_without_its_commands() {
    let body = evil_alert(&format!("7{}", evil()));
    let explained = explain(&[], &body);
    assert_eq!((explained.code, explained.stderr.as_str()), (Some(0), ""));
    is_harmless(&explained.stdout);
    assert!(explained.stdout.contains("\\u{1b}[2J"), "what was there is shown: {}", explained.stdout);
    assert!(!explained.stdout.lines().any(|line| line.trim_start().starts_with("forged")), "{}", explained.stdout);

    let printed = explain(&["--json"], &body).stdout;
    is_harmless(&printed);
    let event: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(event["details"]["tags"]["team"], evil(), "JSON says the very text");
}

#[test]
fn the_queue_is_printed_without_the_commands_of_strangers() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    make_dead_letter(&bridge, &pagerduty);
    bridge.queue(&evil_alert(&format!("8{}", evil())));
    bridge.wait_for_log("delivered");
    let rejected = format!("{{\"hello\": \"{}\"", evil());
    bridge.reject(rejected.as_bytes(), 400);

    let database = bridge.database_url();
    let queue = |args: &[&str]| {
        let run = run_with_input(&[&["queue"], args].concat(), &[("BRIDGE_DATABASE_URL", &database)], b"");
        assert_eq!(run.code, Some(0), "{run:?}");
        is_harmless(&run.stdout);
        run.stdout
    };
    let list = queue(&["list", "--state", "delivered,dead,rejected"]);
    assert!(!list.lines().any(|line| line.starts_with("forged")), "{list}");
    let json: Value = serde_json::from_str(&queue(&["list", "--json", "--state", "delivered"])).unwrap();
    assert_eq!(json[0]["incident_key"].as_str().unwrap().lines().last(), Some("forged: line"), "{json}");
    let shown = queue(&["show", "2"]);
    assert!(shown.contains("\\u{1b}[2J") || shown.contains("\\u001b[2J"), "{shown}");
    assert!(!shown.lines().any(|line| line.starts_with("forged")), "{shown}");
    let json: Value = serde_json::from_str(&queue(&["show", "2", "--json"])).unwrap();
    assert_eq!(json["event"]["details"]["tags"]["team"], evil());
    assert!(queue(&["show", "r1"]).contains("\\u{1b}[2J"), "the body of a rejected webhook");
    let json: Value = serde_json::from_str(&queue(&["show", "r1", "--json"])).unwrap();
    assert_eq!(json["body"], rejected);
    let exported = queue(&["export", "-", "--state", "rejected"]);
    assert_eq!(serde_json::from_str::<Value>(exported.trim()).unwrap()["body"], rejected);
}

#[test]
fn a_whole_queue_with_the_texts_of_strangers_moves_through_pipes() {
    let pagerduty = PagerDuty::start();
    let mut bridge = Bridge::start(&pagerduty.url());
    bridge.queue(&evil_alert("8"));
    pagerduty.wait_for_accepted(1);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));

    let (before, home) = (bridge.database_url(), tempfile::tempdir().unwrap());
    let after = format!("sqlite:{}", home.path().join("other.db").display());
    let queue = |database: &str, args: &[&str], input: &str| {
        let run = run_with_input(&[&["queue"], args].concat(), &[("BRIDGE_DATABASE_URL", database)], input.as_bytes());
        assert_eq!(run.code, Some(0), "{run:?}");
        run.stdout
    };
    let exported = queue(&before, &["export", "--complete", "-"], "");
    is_harmless(&exported);
    queue(&after, &["import", "-"], &exported);
    let shown = ["list", "--json", "--state", "delivered"];
    assert_eq!(queue(&after, &shown, ""), queue(&before, &shown, ""));
}

#[test]
fn no_text_of_a_stranger_forges_a_line_of_the_log_or_commands_the_terminal() {
    for format in ["text", "json"] {
        let pagerduty = PagerDuty::start();
        let settings = [("BRIDGE_LOG_FORMAT", format), ("RUST_LOG", "debug")];
        let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);
        bridge.queue(&evil_alert(&format!("8{}", evil())));
        pagerduty.wait_for_accepted(1);
        assert_eq!(bridge.terminate("TERM").code(), Some(0));
        let lines = bridge.process.stderr.all();
        let log = lines.join("\n");
        is_harmless(&log);
        assert!(lines.iter().any(|line| line.contains("forged")), "the incident is named: {lines:#?}");
        assert!(!lines.iter().any(|line| line.starts_with("forged")), "{lines:#?}");
        assert!(lines.iter().all(|line| line.starts_with(['[', '{'])), "{lines:#?}");
    }
}
