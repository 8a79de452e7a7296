//! `connect` makes Sentry send its test webhook, and reports whether a real bridge received it.

use std::net::SocketAddr;

use sentry_twin::{SentryGeneration, Twin};
use serde_json::json;

use crate::connect::{assert_done, connect, projects};
use crate::support::{Bridge, PagerDuty, Run};
use crate::twin::{BRIDGE, run, run_with};

/// Runs `connect` for a bridge on this machine.
fn connect_to(address: SocketAddr, twin: &Twin, args: &[&str], settings: &[(&str, &str)]) -> Run {
    let (listen, root) = (address.to_string(), format!("http://{address}"));
    let settings: Vec<_> = settings.iter().copied().chain([("BRIDGE_LISTEN", listen.as_str())]).collect();
    run_with(twin, &[&["connect", "--bridge", &root, "--yes"], args].concat(), &settings)
}

#[test]
fn sentrys_own_test_webhook_arrives_at_the_bridge_and_pages() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let twin = projects(SentryGeneration::Plugin);
    let run = connect_to(bridge.address, &twin, &[], &[]);
    assert_done(&run);
    assert!(run.stdout.contains("\nok      test webhook: it came, and the bridge took it\n"), "{run:?}");
    pagerduty.wait_for_accepted(1);
    assert_eq!(pagerduty.triggers()[0].1, "This is an example Python exception");
}

#[test]
fn a_signed_test_webhook_arrives_once_the_bridge_has_the_secret() {
    for generation in [SentryGeneration::Apps, SentryGeneration::Workflows] {
        let twin = projects(generation);
        let (address, home) = (SocketAddr::from(([127, 0, 0, 1], 9)), tempfile::tempdir().unwrap());
        let file = home.path().join("secret");
        let made = connect_to(address, &twin, &["--secret-file", file.to_str().unwrap()], &[]);
        assert_done(&made);
        assert!(made.stdout.contains("start the bridge with that secret, then run this again"), "{made:?}");
        let tests = twin.changes().iter().filter(|change| change.contains("actions")).count();
        assert_eq!(tests, 0, "its signature would be refused");

        let pagerduty = PagerDuty::start();
        let bridge =
            Bridge::start_with(&pagerduty.url(), &[("BRIDGE_SENTRY_CLIENT_SECRET_FILE", file.to_str().unwrap())]);
        twin.world(|world| world.apps[0]["webhookUrl"] = json!(format!("http://{}/sentry", bridge.address)));
        let run = connect_to(bridge.address, &twin, &[], &[]);
        assert_done(&run);
        assert!(run.stdout.contains("\nnothing is missing\n"), "{generation:?}: {run:?}");
        assert!(
            run.stdout.contains("\nok      test webhook: it came, and the bridge took it\n"),
            "{generation:?}: {run:?}"
        );
        pagerduty.wait_for_accepted(1);
    }
}

#[test]
fn a_sentry_that_cannot_test_an_alert_of_an_integration_is_no_failure() {
    let twin = projects(SentryGeneration::Apps);
    twin.world(|world| world.tests_rule_actions = false);
    assert_done(&connect(&twin, &["--yes"]));
    let run = run(&twin, &["connect", "--bridge", BRIDGE, "--yes"]);
    assert_done(&run);
    assert!(run.stdout.contains("this Sentry cannot send a test webhook of an integration's alert"), "{run:?}");
}

#[test]
fn a_test_webhook_that_the_bridge_refuses_is_told_with_the_answer() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let twin = projects(SentryGeneration::Plugin);
    let run = connect_to(bridge.address, &twin, &[], &[("BRIDGE_WEBHOOK_TOKEN", "a-token-that-the-bridge-lacks")]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("FAILED  test webhook: it came, and the bridge refused it: wrong_token"), "{run:?}");
}

#[test]
fn where_no_bridge_tells_the_test_webhook_is_said_to_be_unproven() {
    let twin = projects(SentryGeneration::Plugin);
    let run = connect_to(SocketAddr::from(([127, 0, 0, 1], 9)), &twin, &[], &[]);
    assert_done(&run);
    assert!(run.stdout.contains("sent    test webhook; it is not known whether it arrived"), "{run:?}");
}
