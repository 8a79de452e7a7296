//! The commands `check` and `healthcheck`.

use std::path::Path;

use pagerduty_sandbox::{Fault, IncidentState, Verdict};

use crate::support::{Bridge, ClosedPort, KEY, OTHER_KEY, PagerDuty, ROUTES, Run, TOKEN, run};

/// Runs `check` against `pagerduty` with a queue in `folder`.
fn check(args: &[&str], pagerduty: &str, folder: &Path) -> Run {
    let database = format!("sqlite:{}", folder.join("bridge.db").display());
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", pagerduty),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
        ("BRIDGE_DATABASE_URL", &database),
        ("BRIDGE_INCIDENT_KEY_PREFIX", "eu-"),
        ROUTES,
    ];
    let checked = run(&[&["check"], args].concat(), &settings);
    assert!(!checked.stdout.contains(TOKEN) && !checked.stdout.contains(KEY), "{checked:?}");
    checked
}

#[track_caller]
fn has_lines(checked: &Run, beginnings: &[&str]) {
    let lines: Vec<_> = checked.stdout.lines().collect();
    assert_eq!(lines.len(), beginnings.len(), "{checked:?}");
    for (line, beginning) in lines.iter().zip(beginnings) {
        assert!(line.starts_with(beginning), "{beginning}: {checked:?}");
    }
}

#[test]
fn when_all_is_well_every_line_says_so() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let checked = check(&[], &pagerduty.url(), home.path());
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    has_lines(
        &checked,
        &[
            "ok      settings: read; 2 service keys",
            "ok      alarms: paged on the key …00A1: not for silence (BRIDGE_SILENCE_ALARM), an event that waits for 15m, \
             dead letters, a database that cannot be written",
            "ok      canary: off, because BRIDGE_CANARY_DSN is not set",
            "ok      queue: ",
            "ok      PagerDuty: http",
            "ok      PagerDuty's REST API: not used, because BRIDGE_PAGERDUTY_API_TOKEN is not set",
        ],
    );
    assert!(pagerduty.journal().iter().all(|entry| entry.request.method == "GET" && entry.request.body.is_empty()));
}

#[test]
fn it_tells_what_pages_and_whom() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let told = |more: &[(&str, &str)]| {
        let database = format!("sqlite:{}", home.path().join("bridge.db").display());
        let url = pagerduty.url();
        let usual = [
            ("BRIDGE_PAGERDUTY_URL", url.as_str()),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_SENTRY_CLIENT_SECRET", "client-secret-of-the-integration"),
            ("BRIDGE_DATABASE_URL", &database),
        ];
        let checked = run(&["check"], &[&usual, more].concat());
        assert_eq!(checked.code, Some(0), "{checked:?}");
        checked.stdout.lines().find(|line| line.contains(" alarms: ")).unwrap().to_owned()
    };
    assert_eq!(
        told(&[("BRIDGE_SILENCE_ALARM", "12h"), ("BRIDGE_ALARM_SERVICE_KEY", OTHER_KEY)]),
        "ok      alarms: paged on the key …00B2: no webhook for 12h, an event that waits for 15m, dead letters, wrong \
         signatures, a database that cannot be written"
    );
    assert!(told(&[("BRIDGE_ALARMS", "off")]).starts_with("ok      alarms: off, by BRIDGE_ALARMS"));
}

#[test]
fn it_tells_where_the_canary_is_sent_and_not_by_which_key() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let (url, database) = (pagerduty.url(), format!("sqlite:{}", home.path().join("bridge.db").display()));
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", url.as_str()),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
        ("BRIDGE_DATABASE_URL", &database),
        ("BRIDGE_CANARY_DSN", "https://0123abcd@sentry.example.com/7"),
    ];
    let checked = run(&["check"], &settings);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(
        checked.stdout.contains("ok      canary: sent to project 7 at https://sentry.example.com every 10m;"),
        "{checked:?}"
    );
    assert!(checked.stdout.contains(", a canary that does not come back,"), "{checked:?}");
    assert!(!checked.stdout.contains("0123abcd"), "{checked:?}");
}

#[test]
fn an_unreachable_pagerduty_and_a_queue_that_cannot_be_are_both_told() {
    let home = tempfile::tempdir().unwrap();
    let checked = check(&[], &ClosedPort::new().url(), &home.path().join("absent"));
    assert_eq!(checked.code, Some(1));
    has_lines(
        &checked,
        &[
            "ok      settings: ",
            "ok      alarms: ",
            "ok      canary: off",
            "FAILED  queue: ",
            "FAILED  PagerDuty: http",
            "ok      PagerDuty's REST API: not used",
        ],
    );
    assert!(checked.stdout.contains("no connection"), "{checked:?}");
}

#[test]
fn it_leaves_nothing_behind() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let checked = check(&[], &pagerduty.url(), home.path());
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("bridge.db does not exist yet, `serve` creates it; a new one there commits in "));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn wrong_settings_are_wrong_usage() {
    let checked = run(&["check"], &[("BRIDGE_WEBHOOK_TOKEN", "short")]);
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(2), ""));
    for name in ["BRIDGE_PAGERDUTY_SERVICE_KEY is not set", "BRIDGE_WEBHOOK_TOKEN has 5 characters"] {
        assert!(checked.stderr.contains(name), "{}", checked.stderr);
    }
}

#[test]
fn the_queue_of_a_running_bridge_is_in_use_and_that_is_well() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let checked = check(&[], &pagerduty.url(), bridge.database().parent().unwrap());
    assert_eq!(checked.code, Some(0));
    has_lines(
        &checked,
        &[
            "ok      settings: ",
            "ok      alarms: ",
            "ok      canary: off",
            "ok      queue: ",
            "ok      PagerDuty: ",
            "ok      PagerDuty's REST API: ",
        ],
    );
    assert!(checked.stdout.contains("is locked by a running bridge; run `healthcheck`"), "{checked:?}");
}

#[test]
fn with_page_it_opens_one_incident_and_resolves_it() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let checked = check(&["--page"], &pagerduty.url(), home.path());
    assert_eq!(checked.code, Some(0), "{checked:?}");
    has_lines(
        &checked,
        &[
            "ok      settings",
            "ok      alarms",
            "ok      canary",
            "ok      queue",
            "ok      PagerDuty",
            "ok      test incident: eu-bridge-check-",
            "ok      PagerDuty's REST API: not used",
        ],
    );
    let incidents = pagerduty.incidents();
    assert_eq!(incidents.len(), 1);
    let incident = &incidents[0];
    assert_eq!((incident.service_key.as_str(), incident.state, incident.events), (KEY, IncidentState::Resolved, 2));
    assert!(incident.incident_key.starts_with("eu-bridge-check-"));
    let events: Vec<_> = pagerduty.journal().into_iter().filter(|entry| entry.request.method == "POST").collect();
    assert!(events.iter().all(|entry| entry.warnings.is_empty() && entry.violations.is_empty()), "{events:#?}");
    assert!(events.iter().all(|entry| matches!(entry.verdict, Verdict::Accepted { .. })));
}

#[test]
fn with_page_it_says_what_pagerduty_did_not_take() {
    let pagerduty = PagerDuty::with_fault(Fault::status(400));
    let home = tempfile::tempdir().unwrap();
    let checked = check(&["--page"], &pagerduty.url(), home.path());
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(
        checked.stdout.contains("FAILED  test incident: the trigger was not accepted: answered 400"),
        "{checked:?}"
    );
}

#[test]
fn healthcheck_tells_whether_the_bridge_is_ready() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_SHUTDOWN_DRAIN", "5m")]);
    let listen = bridge.address.to_string();
    let settings =
        [("BRIDGE_LISTEN", listen.as_str()), ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_WEBHOOK_TOKEN", TOKEN)];
    let asked = run(&["healthcheck"], &settings);
    assert_eq!((asked.code, asked.stdout.as_str(), asked.stderr.as_str()), (Some(0), "", ""));
    // A running bridge does not stop when such a file is missing, either.
    let with_missing_file = [&settings[..], &[("BRIDGE_ADMIN_TOKEN_FILE", "missing")]].concat();
    assert_eq!(run(&["healthcheck"], &with_missing_file).code, Some(0));

    bridge.process.signal("TERM");
    bridge.wait_for_log("stopping");
    let asked = run(&["healthcheck"], &settings);
    assert_eq!((asked.code, asked.stderr.as_str()), (Some(1), "error: the bridge is not ready: stopping\n"));
}

#[test]
fn healthcheck_fails_where_no_bridge_is() {
    let port = ClosedPort::new();
    let listen = port.url().replace("http://", "");
    let settings =
        [("BRIDGE_LISTEN", listen.as_str()), ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_WEBHOOK_TOKEN", TOKEN)];
    let asked = run(&["healthcheck"], &settings);
    assert_eq!(asked.code, Some(1));
    assert!(asked.stderr.starts_with(&format!("error: no bridge answers at http://{listen}/readyz: ")), "{asked:?}");
}
