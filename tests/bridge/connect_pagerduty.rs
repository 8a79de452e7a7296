//! `connect pagerduty` creates an integration on a named service and prints or stores its key.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pagerduty_sandbox::{Options, RestOptions, ServiceOptions};

use crate::support::{Bridge, KEY, PagerDuty, Run, alert, run};

const API_TOKEN: &str = "u+3rdPartyRestApiKey";

fn pagerduty(read_only: bool) -> PagerDuty {
    let pagerduty = PagerDuty::start();
    let services =
        vec![ServiceOptions::new("PPAY", "Payments", KEY), ServiceOptions::new("PPAX", "Payments EU", "none")];
    let rest = RestOptions { token: Some(API_TOKEN.to_owned()), read_only, services, ..RestOptions::default() };
    pagerduty.set_options(Options { rest, keys: Some([KEY.to_owned()].into()), ..pagerduty.options() });
    pagerduty
}

fn connect(pagerduty: &PagerDuty, args: &[&str]) -> Run {
    let (url, api) = (pagerduty.url(), pagerduty.rest_url());
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", url.as_str()),
        ("BRIDGE_PAGERDUTY_API_URL", api.as_str()),
        ("BRIDGE_PAGERDUTY_API_TOKEN", API_TOKEN),
    ];
    run(&[&["connect", "pagerduty"], args].concat(), &settings)
}

fn posts(pagerduty: &PagerDuty) -> usize {
    pagerduty.read(|records| records.rest_requests().filter(|request| request.method == "POST").count())
}

#[test]
fn a_plan_changes_nothing_and_with_yes_the_key_takes_alerts() {
    let pagerduty = pagerduty(false);
    let planned = connect(&pagerduty, &["--service", "payments"]);
    assert_eq!((planned.code, planned.stderr.as_str()), (Some(0), ""), "{planned:?}");
    assert!(planned.stdout.contains("service Payments (PPAY), enabled"), "{planned:?}");
    assert!(planned.stdout.contains("1. make the integration Sentry (bridge) of Events API v1\n"), "{planned:?}");
    assert!(planned.stdout.ends_with("nothing was changed; --yes does it\n"), "{planned:?}");
    assert_eq!(posts(&pagerduty), 0);

    let done = connect(&pagerduty, &["--service", "PPAY", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let key = done.stdout.lines().find_map(|line| line.strip_prefix("BRIDGE_PAGERDUTY_SERVICE_KEY=")).unwrap();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_PAGERDUTY_SERVICE_KEY", key)]);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for("the alert", |records| records.incident(key, "1").is_some());

    let again = connect(&pagerduty, &["--service", "Payments", "--yes"]);
    assert!(again.stdout.contains("nothing is missing") && again.stdout.contains(key), "{again:?}");
    assert_eq!(posts(&pagerduty), 1);
}

#[test]
fn an_integration_of_the_events_api_v2_takes_alerts_by_it() {
    let pagerduty = pagerduty(false);
    let done = connect(&pagerduty, &["--service", "Payments", "--api", "v2", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("done  1. make the integration Sentry (bridge) of Events API v2\n"), "{done:?}");
    assert!(done.stdout.contains("BRIDGE_PAGERDUTY_EVENTS_API=v2"), "{done:?}");
    let key = done.stdout.lines().find_map(|line| line.strip_prefix("BRIDGE_PAGERDUTY_SERVICE_KEY=")).unwrap();
    let settings = [("BRIDGE_PAGERDUTY_SERVICE_KEY", key), ("BRIDGE_PAGERDUTY_EVENTS_API", "v2")];
    let bridge = Bridge::start_with(&pagerduty.url(), &settings);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for("the alert", |records| records.incident(key, "1").is_some());

    let first_api = connect(&pagerduty, &["--service", "Payments"]);
    assert!(first_api.stdout.contains("1. make the integration Sentry (bridge) of Events API v1\n"), "{first_api:?}");
    let unknown = connect(&pagerduty, &["--service", "Payments", "--api", "v3"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("[possible values: v1, v2]"), "{unknown:?}");
}

#[test]
fn the_key_goes_into_a_new_file_for_the_owner_alone() {
    let (pagerduty, home) = (pagerduty(false), tempfile::tempdir().unwrap());
    let path = home.path().join("key");
    let args = ["--service", "Payments", "--name", "Bridge", "--yes", "--key-file", path.to_str().unwrap()];
    let done = connect(&pagerduty, &args);
    assert_eq!(done.code, Some(0), "{done:?}");
    let key = fs::read_to_string(&path).unwrap();
    assert_eq!((key.trim().len(), fs::metadata(&path).unwrap().permissions().mode() & 0o777), (32, 0o600));
    assert!(!done.stdout.contains(key.trim()), "{done:?}");
    let again = connect(&pagerduty, &args);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), key);
}

#[test]
fn what_it_cannot_do_is_told_and_nothing_is_made() {
    let pagerduty = pagerduty(true);
    let unknown = connect(&pagerduty, &["--service", "Pay", "--yes"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    let hint = "no service that the token shows is called Pay; did you mean Payments, Payments EU?";
    assert!(unknown.stderr.contains(hint), "{unknown:?}");
    let refused = connect(&pagerduty, &["--service", "Payments", "--yes"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("use a REST API key that is not read-only"), "{refused:?}");
    let missing = run(&["connect", "pagerduty", "--service", "Payments"], &[]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("BRIDGE_PAGERDUTY_API_TOKEN is not set"), "{missing:?}");
}
