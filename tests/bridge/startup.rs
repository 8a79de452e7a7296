//! The settings at start, and the errors if they are wrong.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{KEY, PagerDuty, Process, Run, TOKEN, alert, post, program, run};

const ENOUGH: [(&str, &str); 3] =
    [("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_WEBHOOK_TOKEN", TOKEN), ("BRIDGE_LISTEN", "127.0.0.1:0")];

/// Starts a bridge that has to refuse, and returns its error.
#[track_caller]
fn refused(settings: &[(&str, &str)], code: i32) -> String {
    let Run { code: found, stdout, stderr } = run(&["serve"], settings);
    assert_eq!((found, stdout.as_str()), (Some(code), ""), "{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains(TOKEN) && !stderr.contains(KEY), "{stderr}");
    // If the output is not a terminal, all lines are JSON.
    let lines = stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let errors = lines.filter(|line| line["level"] == "error");
    errors.map(|line| line["message"].as_str().unwrap().to_owned() + "\n").collect()
}

#[test]
fn a_setting_nobody_knows_is_refused_with_the_one_that_was_meant() {
    let said = refused(&[&ENOUGH[..], &[("BRIDGE_WEBHOOK_TOKENS", TOKEN)]].concat(), 2);
    assert_eq!(said, "BRIDGE_WEBHOOK_TOKENS is an unknown setting; did you mean BRIDGE_WEBHOOK_TOKEN?\n");
}

#[test]
fn everything_that_is_missing_or_wrong_is_named_at_once() {
    let said = refused(&[("BRIDGE_LISTEN", "here"), ("BRIDGE_PAGERDUTY_RATE", "0"), ("BRIDGE_WEBHOOK_TOKEN", " ")], 2);
    for name in
        ["BRIDGE_PAGERDUTY_SERVICE_KEY is not set", "BRIDGE_WEBHOOK_TOKEN is not set", "BRIDGE_LISTEN is `here`"]
    {
        assert!(said.contains(name), "{said}");
    }
    assert!(said.contains("BRIDGE_PAGERDUTY_RATE is `0`"), "{said}");
}

#[test]
fn secrets_that_will_not_do_are_not_repeated() {
    let key = format!("{KEY}0");
    let token = format!("{TOKEN} ?");
    refused(&[("BRIDGE_PAGERDUTY_SERVICE_KEY", &key), ("BRIDGE_WEBHOOK_TOKEN", &token)], 2);
}

#[test]
fn an_address_that_is_taken_is_named_in_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(&[ENOUGH[0], ENOUGH[1], ("BRIDGE_LISTEN", &address)], 1);
    let sentence =
        format!("BRIDGE_LISTEN: cannot listen on {address}: the address is in use, perhaps by another bridge; ");
    assert!(said.starts_with(&sentence), "{said}");
    assert_eq!(said.matches("in use").count(), 1, "{said}");
    let elsewhere = refused(&[ENOUGH[0], ENOUGH[1], ("BRIDGE_LISTEN", "192.0.2.1:8080")], 1);
    assert!(
        elsewhere.starts_with("BRIDGE_LISTEN: cannot listen on 192.0.2.1:8080: this machine has no"),
        "{elsewhere}"
    );
    let admin = [ENOUGH[0], ENOUGH[1], ENOUGH[2], ("BRIDGE_ADMIN_LISTEN", &address)];
    assert!(refused(&admin, 1).starts_with("BRIDGE_ADMIN_LISTEN: cannot listen on"));
}

#[test]
fn why_it_does_not_start_is_text_where_the_log_is_text() {
    let refused = run(&["serve"], &[("BRIDGE_LOG_FORMAT", "text"), ("BRIDGE_LISTEN", "here")]);
    assert!(refused.stderr.starts_with("error: BRIDGE_PAGERDUTY_SERVICE_KEY is not set: "), "{refused:?}");
    // Other commands print errors as text.
    assert!(run(&["check"], &[]).stderr.starts_with("error: "));
}

#[test]
fn the_log_begins_with_what_the_settings_amount_to() {
    let home = tempfile::tempdir().unwrap();
    let more = [("BRIDGE_SENTRY_CLIENT_SECRET", "client-secret-of-the-integration"), ("BRIDGE_LISTEN", "localhost:0")];
    let bridge = Process::spawn(program().current_dir(&home).envs(ENOUGH).envs(more));
    bridge.stderr.wait_for("the start", |line| line.contains("listening on http://127.0.0.1:").then_some(()));
    let lines = bridge.stderr.all();
    let line = lines.iter().find(|line| line.contains("\"message\":\"settings: ")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    for (member, value) in [
        ("database", Value::from("sqlite:bridge.db")),
        ("authentication", "token and signature".into()),
        ("routes", 0.into()),
        ("service_keys", 1.into()),
        ("status_page", "off".into()),
        ("alarms", "on".into()),
    ] {
        assert_eq!(line[member], value, "{line}");
    }
}

#[test]
fn a_queue_that_cannot_be_is_named_in_a_sentence() {
    let said = refused(&[&ENOUGH[..], &[("BRIDGE_DATABASE_URL", "sqlite:no/such/folder/bridge.db")]].concat(), 1);
    assert!(said.contains("no/such/folder/bridge.db") && said.contains("BRIDGE_DATABASE_URL"), "{said}");
}

#[test]
fn certificates_that_cannot_be_read_are_wrong_settings() {
    let said = refused(&[&ENOUGH[..], &[("BRIDGE_PAGERDUTY_CA_FILE", "no/such/file.pem")]].concat(), 2);
    assert!(said.contains("BRIDGE_PAGERDUTY_CA_FILE names no/such/file.pem"), "{said}");
}

#[test]
fn bytes_that_are_no_text_are_an_error_in_a_setting_and_nothing_elsewhere() {
    let home = tempfile::tempdir().unwrap();
    let no_text = OsStr::from_bytes(b"\xff\xfe");
    let mut bridge = program();
    bridge.current_dir(&home).envs(ENOUGH).env("LESSOPEN", no_text).env(no_text, "x");
    let bridge = Process::spawn(&mut bridge);
    bridge.stderr.wait_for("the start", |line| line.contains("listening on").then_some(()));

    let mut bridge = program();
    let mut bridge = Process::spawn(bridge.current_dir(&home).envs(ENOUGH).env("BRIDGE_MIN_LEVEL", no_text));
    assert_eq!(bridge.exit().code(), Some(2));
    assert!(bridge.stderr.all()[0].contains("\"message\":\"BRIDGE_MIN_LEVEL is not valid UTF-8\""));
}

/// Starts a bridge in `home` and asserts that it accepts and delivers an alert.
fn takes_an_alert(home: &TempDir, settings: &[(&str, &str)], pagerduty: &PagerDuty) {
    let bridge = Process::spawn(program().current_dir(home).envs(settings.iter().copied()));
    let address = bridge.stderr.wait_for("the bridge's address", |line| {
        line.split_once("listening on http://")?.1.split('"').next()?.parse().ok()
    });
    assert_eq!(post(address, &format!("/sentry/{TOKEN}"), &[], &alert(7, "Disk full")).status, 202);
    pagerduty.wait_for_accepted(1);
    assert_eq!(pagerduty.journal()[0].text("service_key"), Some(KEY));
}

#[test]
fn dotenv_in_the_working_directory_is_read() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let dotenv = format!(
        "# The bridge\nBRIDGE_PAGERDUTY_URL={}\nBRIDGE_PAGERDUTY_SERVICE_KEY='{KEY}'\nexport BRIDGE_WEBHOOK_TOKEN={TOKEN}\nBRIDGE_LISTEN=nowhere\n",
        pagerduty.url()
    );
    fs::write(home.path().join(".env"), dotenv).unwrap();
    takes_an_alert(&home, &[("BRIDGE_LISTEN", "127.0.0.1:0")], &pagerduty);
    assert!(home.path().join("bridge.db").is_file());
}

#[test]
fn a_setting_may_stand_in_a_file() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("token"), format!("{TOKEN}\n")).unwrap();
    fs::write(home.path().join("key"), KEY).unwrap();
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", pagerduty.url()),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY_FILE", "key".to_owned()),
        ("BRIDGE_WEBHOOK_TOKEN_FILE", home.path().join("token").display().to_string()),
        ("BRIDGE_LISTEN", "127.0.0.1:0".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    takes_an_alert(&home, &settings, &pagerduty);
}
