//! What `check` and `serve` report about a PostgreSQL database.

use serde_json::Value;

use crate::support::{Bridge, ClosedPort, KEY, PagerDuty, Run, TOKEN, run};

const PASSWORD: &str = "password-of-the-database";

/// Runs a command with its queue in this database.
fn run_on(command: &str, pagerduty: &str, database: &str) -> Run {
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", pagerduty),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
        ("BRIDGE_LISTEN", "127.0.0.1:0"),
        ("BRIDGE_DATABASE_URL", database),
        ("BRIDGE_DATABASE_TIMEOUT", "10s"),
    ];
    let ended = run(&[command], &settings);
    assert!(!ended.stdout.contains(PASSWORD) && !ended.stderr.contains(PASSWORD), "{ended:?}");
    ended
}

/// The URL of a database at which nothing listens.
fn unreachable_database() -> String {
    ClosedPort::new().url().replace("http://", &format!("postgres://bridge:{PASSWORD}@")) + "/bridge"
}

#[test]
fn check_times_a_commit_also_while_bridges_run_and_says_what_an_alert_survives() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let checked = run_on("check", &pagerduty.url(), &bridge.database_url());
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let line = checked.stdout.lines().find(|line| line.contains(" queue: ")).unwrap();
    assert!(line.starts_with("ok ") && line.contains("commits in "), "{line}");
    // The PostgreSQL of the tests runs with `fsync` off.
    assert!(checked.stdout.contains("fsync=off"), "{checked:?}");
    assert!(bridge.end().is_empty(), "it left something behind");
}

#[test]
fn check_tells_that_the_server_cannot_be_reached() {
    let checked = run_on("check", &PagerDuty::start().url(), &unreachable_database());
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let line = checked.stdout.lines().find(|line| line.contains(" queue: ")).unwrap();
    assert!(line.starts_with("FAILED ") && line.contains("check that PostgreSQL runs there"), "{line}");
}

#[test]
fn a_bridge_that_cannot_reach_the_server_at_its_start_says_so_in_a_sentence_and_ends() {
    let refused = run_on("serve", &PagerDuty::start().url(), &unreachable_database());
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("check that PostgreSQL runs there"), "{refused:?}");
}

#[test]
fn the_log_begins_with_the_database_and_without_its_password() {
    let pagerduty = PagerDuty::start();
    let usual = Bridge::start(&pagerduty.url());
    // The server of the tests does not ask for a password.
    let database = usual.database_url().replace("//bridge@", &format!("//bridge:{PASSWORD}@"));
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_DATABASE_URL", &database)]);
    let lines = bridge.process.stderr.all();
    let line = lines.iter().find(|line| line.contains("\"message\":\"settings: ")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let shown = line["database"].as_str().unwrap();
    assert!(shown.starts_with("postgres://") && shown.contains("127.0.0.1"), "{line}");
    assert!(lines.iter().all(|line| !line.contains(PASSWORD)), "{lines:?}");
}
