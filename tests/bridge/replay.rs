//! `replay` posts payload files to a running bridge.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Bridge, ClosedPort, PagerDuty, Run, TOKEN, alert, alert_of_level, fixtures, run};

/// Runs `replay`; its output must not contain the webhook token.
#[track_caller]
fn replay(args: &[&str]) -> Run {
    let replayed = run(&[&["replay"], args].concat(), &[]);
    assert!(!replayed.stdout.contains(TOKEN) && !replayed.stderr.contains(TOKEN), "{replayed:?}");
    replayed
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_folder_of_payloads_becomes_incidents() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/legacy-other");
    let number = fixtures("legacy-other").len();
    let replayed = replay(&["--to", &bridge.webhook(), folder]);
    assert_eq!((replayed.code, replayed.stderr.as_str()), (Some(0), ""));
    assert_eq!(replayed.stdout, format!("{number} posted: {number} queued, 0 ignored, 0 refused\n"));
    pagerduty.wait_for_accepted(number as u64);
}

#[test]
fn lines_of_ndjson_are_posted_in_order_as_often_as_asked() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("alerts.ndjson");
    fs::write(&file, [alert(7, "one"), b"\n\n".to_vec(), alert(8, "two")].concat()).unwrap();
    let args = ["--repeat", "2", "--rate", "1000/s", "--json", "--to", &bridge.webhook(), path(&file)];
    let replayed = replay(&args);
    assert_eq!(replayed.code, Some(0));
    let summary: Value = serde_json::from_str(&replayed.stdout).unwrap();
    assert_eq!(summary, json!({"posted": 4, "queued": 4, "ignored": 0, "refused": 0, "unreachable": 0}));
    // A repeated alert is folded if the first was not sent yet.
    let records = bridge.end();
    assert_eq!(records.iter().map(|record| record.summary.count).sum::<u32>(), 4);
    let incidents: Vec<_> = records.iter().map(|record| record.summary.incident_key.as_str()).collect();
    assert!(incidents.starts_with(&["7", "8"]), "{incidents:?}");
}

#[test]
fn a_dry_run_posts_nothing() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("one.json"), alert(7, "one")).unwrap();
    let webhook = bridge.webhook();
    for target in [&[][..], &["--to", &webhook]] {
        let replayed = replay(&[target, &["--dry-run", "--repeat", "3", path(home.path())]].concat());
        assert_eq!(replayed.code, Some(0));
        assert!(replayed.stdout.contains("one.json ("), "{}", replayed.stdout);
        assert!(replayed.stdout.ends_with("1 payload would be posted, 3 times each\n"), "{}", replayed.stdout);
    }
    assert!(bridge.end().is_empty());
}

#[test]
fn what_is_refused_is_named_and_makes_it_fail() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_MIN_LEVEL", "error")]);
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a.json"), alert(7, "one")).unwrap();
    fs::write(home.path().join("b.json"), alert_of_level("info", 8, "two")).unwrap();
    fs::write(home.path().join("c.json"), "{}").unwrap();
    let replayed = replay(&["--to", &bridge.webhook(), path(home.path())]);
    assert_eq!(replayed.code, Some(1));
    assert_eq!(replayed.stdout, "3 posted: 1 queued, 1 ignored, 1 refused\n");
    assert!(
        replayed.stderr.contains("c.json: answered 422: the body is JSON, but not a Sentry webhook"),
        "{}",
        replayed.stderr
    );

    let replayed = replay(&["--to", &format!("{}-and-more", bridge.webhook()), path(&home.path().join("a.json"))]);
    assert_eq!(replayed.code, Some(1));
    assert!(replayed.stderr.contains("a.json: answered 401: the token is wrong"), "{}", replayed.stderr);
}

#[test]
fn a_bridge_that_is_not_there_is_a_failure() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a.json"), alert(7, "one")).unwrap();
    let port = ClosedPort::new();
    let replayed = replay(&["--to", &format!("{}/sentry/{TOKEN}", port.url()), path(home.path())]);
    assert_eq!(replayed.code, Some(1));
    assert!(replayed.stderr.contains(&format!("a.json: no answer from {}", port.url())), "{}", replayed.stderr);
    assert_eq!(replayed.stdout, "1 posted: 0 queued, 0 ignored, 0 refused, 1 not answered\n");
}

#[test]
fn a_host_and_a_port_are_enough_where_the_token_is_set() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a.json"), alert(7, "one")).unwrap();
    let address = bridge.address.to_string();
    let replayed = run(&["replay", "--to", &address, path(home.path())], &[("BRIDGE_WEBHOOK_TOKEN", TOKEN)]);
    assert_eq!((replayed.code, replayed.stdout.as_str()), (Some(0), "1 posted: 1 queued, 0 ignored, 0 refused\n"));
    let replayed = run(&["replay", "--to", &address, path(home.path())], &[]);
    assert_eq!(replayed.code, Some(1));
    assert!(replayed.stderr.contains("answered 401"), "{replayed:?}");
}

#[test]
fn with_the_secret_of_an_integration_payloads_are_signed() {
    const SECRET: &str = "client-secret-of-the-integration";
    let pagerduty = PagerDuty::start();
    let bridge =
        Bridge::start_with(&pagerduty.url(), &[("BRIDGE_WEBHOOK_TOKEN", ""), ("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)]);
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("right", &format!("{SECRET}\n")), file("wrong", "another-secret-of-the-integration"));
    let (short, absent) = (file("short", "short"), home.path().join("absent").to_str().unwrap().to_owned());
    let payload = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/platform/event-alert-26.json");
    let to = bridge.address.to_string();
    let posted = |secret: &[&str]| replay(&[&["--to", &to, payload], secret].concat());
    assert!(posted(&[]).stderr.contains("answered 401"));
    assert!(posted(&["--secret-file", &wrong]).stderr.contains("answered 401: the signature is wrong"));
    let replayed = posted(&["--secret-file", &right]);
    assert_eq!(replayed.stdout, "1 posted: 1 queued, 0 ignored, 0 refused\n", "{replayed:?}");
    assert_eq!(posted(&["--secret-file", &short]).code, Some(2));
    assert_eq!(posted(&["--secret-file", &absent]).code, Some(1));
}

#[test]
fn nothing_to_post_and_nowhere_to_post_it_are_wrong_usage() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(replay(&["--to", "http://127.0.0.1:1/sentry/x", path(home.path())]).code, Some(2));
    assert_eq!(replay(&[path(home.path())]).code, Some(2));
    assert_eq!(replay(&["--to", "http://127.0.0.1:1/sentry/x", path(&home.path().join("absent.json"))]).code, Some(1));
}
