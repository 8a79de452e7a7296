//! `connect --canary` creates the alert that sends the canary back.

use sentry_twin::{SentryGeneration, Twin};
use serde_json::Value;

use crate::connect::{assert_done, projects};
use crate::support::Run;
use crate::twin::{BRIDGE, findings, run, run_with};

const CANARY: &str = "sentry-pagerduty-bridge canary";
const ALL: [SentryGeneration; 3] = [SentryGeneration::Plugin, SentryGeneration::Apps, SentryGeneration::Workflows];

fn connect(twin: &Twin, args: &[&str]) -> Run {
    let args = [&["connect", "--bridge", BRIDGE, "--no-test"], args].concat();
    run_with(twin, &args, &[("BRIDGE_CANARY_DSN", &twin.dsn("web"))])
}

/// The names of all alerts in Sentry, sorted.
fn alerts(twin: &Twin) -> Vec<String> {
    let mut names: Vec<_> = twin.world(|world| {
        let rules = world.projects.iter().flat_map(|one| one.rules.iter().map(|rule| (one.slug.clone(), rule)));
        let rules = rules.map(|(slug, rule)| format!("{slug}: {}", rule["name"].as_str().unwrap()));
        let workflows = world.workflows.iter().map(|one| one["name"].as_str().unwrap().to_owned());
        rules.chain(workflows).collect()
    });
    names.sort();
    names
}

fn has_canary(twin: &Twin) -> bool {
    alerts(twin).iter().any(|name| name.ends_with(CANARY))
}

#[test]
fn it_is_planned_made_once_and_found_again() {
    for generation in ALL {
        let twin = projects(generation);
        assert_done(&connect(&twin, &["--yes"]));
        assert!(!has_canary(&twin), "nobody asked for it");
        let planned = connect(&twin, &["--canary"]);
        assert_done(&planned);
        assert!(planned.stdout.contains(&format!("\"{CANARY}\"")), "{generation:?}: {planned:?}");
        assert!(planned.stdout.contains("web"), "it is of the project of the DSN: {planned:?}");
        assert!(!has_canary(&twin));
        assert_done(&connect(&twin, &["--canary", "--yes"]));
        assert!(has_canary(&twin));
        let again = connect(&twin, &["--canary", "--yes"]);
        assert_done(&again);
        assert!(again.stdout.contains("\nnothing is missing\n"), "{generation:?}: {again:?}");
        let audited = run(&twin, &["audit", "--json", "--bridge", BRIDGE]);
        assert_eq!(findings(&audited), Vec::<String>::new());
    }
}

#[test]
fn it_is_no_alert_that_pages_its_project() {
    for generation in ALL {
        let twin = projects(generation);
        assert_done(&connect(&twin, &["--canary", "--project", "shop", "--yes"]));
        let audited = run(&twin, &["audit", "--json", "--bridge", BRIDGE]);
        assert_eq!(findings(&audited), ["project-without-page web -"], "{generation:?}");
        let more = connect(&twin, &["--yes"]);
        assert_done(&more);
        assert_eq!(findings(&run(&twin, &["audit", "--json", "--bridge", BRIDGE])), Vec::<String>::new(), "{more:?}");
    }
}

#[test]
fn undo_takes_back_the_canarys_alert_alone_or_with_everything() {
    for generation in ALL {
        let twin = projects(generation);
        twin.world(|world| world.deletes_apps = true);
        assert_done(&connect(&twin, &["--yes"]));
        let before = alerts(&twin);
        assert_done(&connect(&twin, &["--canary", "--yes"]));
        let planned = connect(&twin, &["--canary", "--undo"]);
        assert_eq!(planned.stdout.matches(". ").count(), 1, "one step: {planned:?}");
        assert_done(&connect(&twin, &["--canary", "--undo", "--yes"]));
        assert_eq!(alerts(&twin), before, "{generation:?}");

        assert_done(&connect(&twin, &["--canary", "--yes"]));
        assert_done(&connect(&twin, &["--undo", "--yes"]));
        assert_eq!(alerts(&twin), Vec::<String>::new(), "{generation:?}");
    }
}

#[test]
fn the_canary_of_another_dsn_keeps_its_alert() {
    for generation in ALL {
        let twin = projects(generation);
        assert_done(&connect(&twin, &["--canary", "--yes"]));
        let other = twin.dsn("shop");
        let args = ["connect", "--bridge", BRIDGE, "--no-test", "--canary", "--yes"];
        assert_done(&run_with(&twin, &args, &[("BRIDGE_CANARY_DSN", &other)]));
        let canaries = alerts(&twin).iter().filter(|name| name.ends_with(CANARY)).count();
        assert_eq!(canaries, 2, "{generation:?}");
    }
}

#[test]
fn what_it_lacks_is_said_before_anything_is_changed() {
    let twin = projects(SentryGeneration::Plugin);
    let args = ["connect", "--bridge", BRIDGE, "--no-test", "--canary", "--yes"];
    let unset = run(&twin, &args);
    assert_eq!(unset.code, Some(2));
    assert!(unset.stderr.contains("--canary wants BRIDGE_CANARY_DSN"), "{unset:?}");
    let dsn = "http://0123abcd@sentry.example.com/999999";
    let elsewhere = run_with(&twin, &args, &[("BRIDGE_CANARY_DSN", dsn)]);
    assert_eq!(elsewhere.code, Some(2));
    assert!(elsewhere.stderr.contains("the token sees no project with the number 999999"), "{elsewhere:?}");
    assert!(!elsewhere.stderr.contains("0123abcd"), "{elsewhere:?}");
    assert_eq!(twin.changes(), Vec::<String>::new());
}

#[test]
fn a_workflow_fires_for_every_canary_and_is_never_quiet() {
    let twin = projects(SentryGeneration::Workflows);
    assert_done(&connect(&twin, &["--canary", "--yes"]));
    let workflow = twin.world(|world| world.workflows.iter().find(|one| one["name"] == CANARY).unwrap().clone());
    assert_eq!(
        (&workflow["config"]["frequency"], &workflow["triggers"]["conditions"]),
        (&Value::from(0), &Value::Array(Vec::new()))
    );
    assert_eq!(workflow["actionFilters"][0]["conditions"][0]["comparison"]["key"], "bridge_canary");
}
