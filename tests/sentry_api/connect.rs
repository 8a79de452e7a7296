//! What `connect` creates in each generation of Sentry.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sentry_twin::{SentryGeneration, Twin};
use serde_json::{Value, json};

use crate::support::Run;
use crate::twin::{BRIDGE, app_action, findings, legacy_url, run, run_in, run_with, service, twin};

const NAME: &str = "sentry-pagerduty-bridge";

pub(crate) fn projects(generation: SentryGeneration) -> Twin {
    twin(generation, |world| {
        world.add_project("shop");
        world.add_project("web");
    })
}

/// Runs `connect` without testing the webhook.
pub(crate) fn connect(twin: &Twin, args: &[&str]) -> Run {
    run(twin, &[&["connect", "--bridge", BRIDGE, "--no-test"], args].concat())
}

#[track_caller]
pub(crate) fn assert_done(run: &Run) {
    assert_eq!(run.code, Some(0), "{run:?}");
}

/// The lines of a plan without their numbers.
fn steps(run: &Run) -> Vec<String> {
    let is_step = |line: &&str| line.starts_with(|character: char| character.is_ascii_digit());
    run.stdout
        .lines()
        .filter(is_step)
        .filter_map(|line| line.split_once(". "))
        .map(|(_, step)| step.to_owned())
        .collect()
}

/// Asserts that the audit has no findings.
#[track_caller]
fn assert_everything_pages(twin: &Twin) {
    let run = run(twin, &["audit", "--json", "--bridge", BRIDGE]);
    assert_eq!(findings(&run), Vec::<String>::new());
}

#[test]
fn it_shows_a_plan_and_changes_nothing_without_yes() {
    for generation in [SentryGeneration::Plugin, SentryGeneration::Apps, SentryGeneration::Workflows] {
        let twin = projects(generation);
        let run = connect(&twin, &[]);
        assert_done(&run);
        assert!(!steps(&run).is_empty(), "{run:?}");
        assert!(run.stdout.ends_with("\nnothing was changed; --yes does it\n"), "{run:?}");
        assert_eq!(twin.changes(), Vec::<String>::new());
    }
}

#[test]
fn after_it_every_project_pages_and_a_second_run_has_nothing_to_do() {
    for generation in [SentryGeneration::Plugin, SentryGeneration::Apps, SentryGeneration::Workflows] {
        let twin = projects(generation);
        assert_done(&connect(&twin, &["--yes"]));
        assert_everything_pages(&twin);
        let changes = twin.changes().len();
        let again = connect(&twin, &["--yes"]);
        assert_done(&again);
        assert!(again.stdout.contains("\nnothing is missing\n"), "{generation:?}: {again:?}");
        assert_eq!(twin.changes().len(), changes, "{generation:?}");
    }
}

#[test]
fn the_plugin_of_sentry_9_keeps_its_other_addresses_and_gets_a_rule() {
    let twin = projects(SentryGeneration::Plugin);
    twin.world(|world| world.project("shop").unwrap().urls = vec!["https://hooks.example/1".to_owned()]);
    let run = connect(&twin, &["--project", "shop", "--yes"]);
    assert_eq!(
        steps(&run),
        [
            "shop: add https://bridge.example.com/sentry/… to the addresses of its WebHooks, where the other one stays",
            "shop: enable its WebHooks",
            "shop: make the alert rule \"sentry-pagerduty-bridge\": new issues and regressions call the bridge",
        ]
    );
    let shop = twin.world(|world| world.project("shop").unwrap().clone());
    assert_eq!(shop.urls, ["https://hooks.example/1".to_owned(), legacy_url()]);
    assert!(shop.hook_enabled);
    assert_eq!(shop.rules[0]["actions"], service("webhooks"));
    let web = twin.world(|world| world.project("web").unwrap().clone());
    assert!(web.urls.is_empty() && web.rules.is_empty(), "nobody asked for it");
}

#[test]
fn an_alert_that_calls_the_bridge_already_is_enough() {
    let all = json!([{"id": "sentry.rules.actions.notify_event.NotifyEventAction"}]);
    let twin = projects(SentryGeneration::Plugin);
    twin.world(|world| {
        world.add_rule("shop", "Send a notification for new issues", &all);
        world.add_rule("web", "Send a notification for new issues", &all);
    });
    assert_done(&connect(&twin, &["--yes"]));
    assert!(!twin.changes().iter().any(|change| change.contains("/rules/")), "{:?}", twin.changes());
    assert_everything_pages(&twin);
}

#[test]
fn an_alert_that_is_named_is_extended_and_keeps_all_it_had() {
    let twin = projects(SentryGeneration::Apps);
    let mail = json!([{"id": "sentry.mail.actions.NotifyEmailAction", "targetType": "Team"}]);
    twin.world(|world| {
        world.add_rule("shop", "On call", &mail);
        world.project("shop").unwrap().rules[0]["environment"] = json!("production");
    });
    assert_done(&connect(&twin, &["--project", "shop", "--rule", "On call", "--yes"]));
    let rules = twin.world(|world| world.project("shop").unwrap().rules.clone());
    assert_eq!(rules.len(), 1);
    assert_eq!((&rules[0]["environment"], &rules[0]["actions"][0]), (&json!("production"), &mail[0]));
    assert_eq!(rules[0]["actions"].as_array().unwrap().len(), 2);

    let twin = projects(SentryGeneration::Workflows);
    twin.world(|world| {
        let detectors = world.detectors.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        world.add_workflow(
            "On call",
            &detectors,
            &[],
            &json!([{"id": "9", "type": "email", "config": {}, "data": {}}]),
        );
    });
    assert_done(&connect(&twin, &["--rule", "On call", "--yes"]));
    let workflows = twin.world(|world| world.workflows.clone());
    assert_eq!(workflows.len(), 1);
    assert_eq!(workflows[0]["actionFilters"][0]["actions"].as_array().unwrap().len(), 2);
    assert_everything_pages(&twin);

    let nobody = connect(&twin, &["--rule", "Of call"]);
    assert_eq!(nobody.code, Some(2));
    assert!(nobody.stderr.contains("no alert of these projects is called `Of call`"), "{nobody:?}");
}

#[test]
fn the_integration_may_and_hears_exactly_what_the_bridge_needs() {
    let made = |generation, settings: &[(&str, &str)]| {
        let twin = projects(generation);
        assert_done(&run_with(&twin, &["connect", "--bridge", BRIDGE, "--yes"], settings));
        let app = twin.world(|world| world.apps[0].clone());
        assert_eq!((&app["isAlertable"], &app["scopes"]), (&json!(true), &json!(["event:read"])));
        assert_eq!(app["webhookUrl"], format!("{BRIDGE}/sentry"));
        if generation == SentryGeneration::Apps { app["events"].clone() } else { app["webhookEvents"].clone() }
    };
    assert_eq!(made(SentryGeneration::Apps, &[]), json!(["issue"]));
    assert_eq!(made(SentryGeneration::Workflows, &[]), json!(["issue.resolved", "issue.unresolved"]));
    let more = [("BRIDGE_ACKNOWLEDGE", "on"), ("BRIDGE_PAGE_ON", "alert,issue.created,error")];
    assert_eq!(
        made(SentryGeneration::Workflows, &more),
        json!(["issue.resolved", "issue.unresolved", "issue.assigned", "issue.created", "error.created"])
    );
}

#[test]
fn where_single_events_are_not_known_yet_the_integration_hears_of_all_of_an_issue() {
    let twin = projects(SentryGeneration::Workflows);
    twin.world(|world| world.single_events = false);
    assert_done(&connect(&twin, &["--yes"]));
    assert_eq!(twin.world(|world| world.apps[0]["events"].clone()), json!(["issue"]));
    assert_everything_pages(&twin);
    assert!(connect(&twin, &[]).stdout.contains("\nnothing is missing\n"));
}

#[test]
fn one_workflow_opens_and_closes_and_is_connected_to_what_comes_later() {
    let twin = projects(SentryGeneration::Workflows);
    assert_done(&connect(&twin, &["--yes"]));
    let workflow = twin.world(|world| world.workflows[0].clone());
    let triggers: Vec<&str> = workflow["triggers"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["type"].as_str().unwrap())
        .collect();
    assert_eq!(triggers, ["first_seen_event", "regression_event", "reappeared_event", "issue_resolved_trigger"]);
    assert_eq!(workflow["detectorIds"].as_array().unwrap().len(), 2);

    twin.world(|world| world.add_project("admin"));
    let run = connect(&twin, &["--yes"]);
    assert_eq!(steps(&run), ["connect the alert \"sentry-pagerduty-bridge\" to admin as well"]);
    let workflows = twin.world(|world| world.workflows.clone());
    assert_eq!((workflows.len(), workflows[0]["detectorIds"].as_array().unwrap().len()), (1, 3));
}

#[test]
fn legacy_webhooks_of_a_sentry_with_workflows_are_set_up_too() {
    let twin = projects(SentryGeneration::Workflows);
    assert_done(&connect(&twin, &["--by", "legacy", "--yes"]));
    assert_everything_pages(&twin);
    let (urls, enabled) = twin.world(|world| {
        let shop = world.project("shop").unwrap();
        (shop.urls.clone(), shop.hook_enabled)
    });
    assert_eq!((urls, enabled), (vec![legacy_url()], true));
    assert!(twin.world(|world| world.apps.is_empty()));
}

#[test]
fn the_client_secret_goes_into_a_new_file_of_its_owner_alone() {
    for generation in [SentryGeneration::Apps, SentryGeneration::Workflows] {
        let (twin, home) = (projects(generation), tempfile::tempdir().unwrap());
        let args = ["connect", "--bridge", BRIDGE, "--secret-file", "secret", "--yes"];
        let run = run_in(home.path(), &twin, &args, &[]);
        assert_done(&run);
        let secret = twin.world(|world| world.apps[0]["clientSecret"].as_str().unwrap().to_owned());
        let path = home.path().join("secret");
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{secret}\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!run.stdout.contains(&secret), "{run:?}");
        assert!(run.stdout.contains("BRIDGE_SENTRY_CLIENT_SECRET_FILE=secret"), "{run:?}");
    }
}

#[test]
fn without_a_file_the_client_secret_is_printed_once() {
    let twin = projects(SentryGeneration::Apps);
    let run = connect(&twin, &["--yes"]);
    let secret = twin.world(|world| world.apps[0]["clientSecret"].as_str().unwrap().to_owned());
    assert_eq!(run.stdout.matches(&secret).count(), 1, "{run:?}");
    assert!(!connect(&twin, &["--yes"]).stdout.contains(&secret));
}

#[test]
fn no_integration_is_made_whose_secret_could_not_be_stored() {
    let (twin, home) = (projects(SentryGeneration::Apps), tempfile::tempdir().unwrap());
    let args = |file: &'static str| ["connect", "--bridge", BRIDGE, "--secret-file", file, "--yes"];
    fs::write(home.path().join("secret"), "another").unwrap();
    let there = run_in(home.path(), &twin, &args("secret"), &[]);
    assert_eq!(there.code, Some(2));
    assert!(there.stderr.contains("secret is there already"), "{there:?}");
    let nowhere = run_in(home.path(), &twin, &args("no/such/folder"), &[]);
    assert_eq!(nowhere.code, Some(1));
    assert_eq!(twin.changes(), Vec::<String>::new());
    assert_eq!(fs::read_to_string(home.path().join("secret")).unwrap(), "another");
}

#[test]
fn a_secret_that_sentry_does_not_show_any_more_is_told_and_leaves_no_file() {
    let (twin, home) = (projects(SentryGeneration::Workflows), tempfile::tempdir().unwrap());
    assert_done(&connect(&twin, &["--yes"]));
    let args = ["connect", "--bridge", BRIDGE, "--secret-file", "secret", "--yes"];
    twin.world(|world| world.shows_secrets = false);
    let run = run_in(home.path(), &twin, &args, &[]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("does not show the Client Secret of sentry-pagerduty-bridge-"), "{run:?}");
    assert!(!home.path().join("secret").exists());
    // On the first day of the integration Sentry still shows it.
    twin.world(|world| world.shows_secrets = true);
    assert_done(&run_in(home.path(), &twin, &args, &[]));
    assert!(home.path().join("secret").exists());
}

#[test]
fn what_failed_half_way_goes_on_where_it_ended() {
    let twin = projects(SentryGeneration::Plugin);
    twin.world(|world| world.add_token("token-that-only-reads", None, &["org:read", "project:read"]));
    let settings = [("BRIDGE_SENTRY_API_TOKEN", "token-that-only-reads")];
    let args = ["connect", "--bridge", BRIDGE, "--no-test", "--yes"];
    let run = run_with(&twin, &args, &settings);
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.contains("step 1 failed (0 are done and kept; run it again to go on, or with --undo)"),
        "{run:?}"
    );
    assert!(run.stderr.contains("it needs the scope project:write"), "{run:?}");
    twin.world(|world| {
        // As if it had been interrupted after the first URL.
        world.project("shop").unwrap().urls.push(legacy_url());
    });
    assert_done(&connect(&twin, &["--yes"]));
    assert_everything_pages(&twin);
    assert_eq!(twin.world(|world| world.project("shop").unwrap().urls.clone()), [legacy_url()], "once");
}

#[test]
fn an_integration_of_another_bridge_is_not_taken_over() {
    let twin = projects(SentryGeneration::Workflows);
    twin.world(|world| world.add_app(NAME, "https://other-bridge.example.com/sentry"));
    let run = connect(&twin, &["--yes"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.contains("posts to https://other-bridge.example.com/sentry, which is not this bridge"),
        "{run:?}"
    );
    assert_eq!(twin.changes(), Vec::<String>::new());
}

#[test]
fn an_integration_that_lacks_something_gets_it_and_keeps_what_it_has() {
    let twin = projects(SentryGeneration::Apps);
    twin.world(|world| {
        world.add_app("Pager", &format!("{BRIDGE}/sentry"));
        world.apps[0]["isAlertable"] = json!(false);
        world.apps[0]["events"] = json!(["comment"]);
        world.apps[0]["scopes"] = json!(["event:read", "org:read"]);
    });
    assert_done(&connect(&twin, &["--yes"]));
    let app = twin.world(|world| world.apps[0].clone());
    assert_eq!(app["events"], json!(["comment", "issue"]));
    assert_eq!((&app["isAlertable"], &app["scopes"]), (&json!(true), &json!(["event:read", "org:read"])));
    assert_everything_pages(&twin);
}

#[test]
fn what_cannot_be_done_is_told_before_anything_is() {
    let refused = |run: &Run, part: &str| {
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains(part), "{run:?}");
    };
    let plugin = projects(SentryGeneration::Plugin);
    refused(&connect(&plugin, &["--by", "integration"]), "this Sentry has no integrations: use `--by legacy`");
    refused(&connect(&plugin, &["--project", "shopp"]), "the token sees no project `shopp`");
    let args = ["connect", "--bridge", BRIDGE];
    refused(
        &run_with(&plugin, &args, &[("BRIDGE_WEBHOOK_TOKEN", "")]),
        "legacy webhooks need a token in their address",
    );
    for bridge in ["https://bridge.example.com/sentry", "ftp://bridge.example.com", "https://me:x@bridge.example.com"] {
        refused(
            &run(&plugin, &["connect", "--bridge", bridge]),
            "--bridge must be the root under which Sentry reaches",
        );
    }
    plugin.world(|world| world.add_token("token-that-sees-little", None, &["org:read"]));
    let little = run_with(&plugin, &args, &[("BRIDGE_SENTRY_API_TOKEN", "token-that-sees-little")]);
    refused(&little, "the token does not see enough to plan with");
}

#[test]
fn the_smallest_token_of_the_guide_can_connect_every_generation_and_undo_it() {
    let both = ["org:read", "project:read", "project:write", "project:admin"];
    for (generation, more) in [
        (SentryGeneration::Plugin, [].as_slice()),
        (SentryGeneration::Apps, &["org:write", "event:read"]),
        (SentryGeneration::Workflows, &["org:write", "event:read", "alerts:read", "alerts:write"]),
    ] {
        let twin = projects(generation);
        twin.world(|world| {
            world.deletes_apps = true;
            world.add_token("the-smallest-token-of-all", Some("me@example.com"), &[&both, more].concat());
        });
        let settings = [("BRIDGE_SENTRY_API_TOKEN", "the-smallest-token-of-all")];
        for last in ["--yes", "--undo"] {
            let args = ["connect", "--bridge", BRIDGE, "--no-test", "--yes", last];
            let args = if last == "--yes" { &args[..5] } else { &args[..] };
            assert_done(&run_with(&twin, args, &settings));
        }
        assert!(
            twin.calls().iter().all(|call| !matches!(call.status, 401 | 403)),
            "{generation:?}: {:?}",
            twin.calls()
        );
    }
}

#[test]
fn a_token_that_is_nobodys_cannot_make_an_integration_and_is_told_so() {
    let twin = projects(SentryGeneration::Workflows);
    let scopes = ["org:read", "org:write", "project:read", "event:read", "alerts:read", "alerts:write"];
    twin.world(|world| world.add_token("token-of-an-integration", None, &scopes));
    let settings = [("BRIDGE_SENTRY_API_TOKEN", "token-of-an-integration")];
    let run = run_with(&twin, &["connect", "--bridge", BRIDGE, "--yes"], &settings);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("the token may not do POST /api/0/sentry-apps/ (403)"), "{run:?}");
    assert!(twin.world(|world| world.apps.is_empty() && world.workflows.is_empty()));
}

#[test]
fn a_workflow_of_somebody_else_that_calls_the_bridge_is_left_and_enough() {
    let twin = projects(SentryGeneration::Workflows);
    twin.world(|world| {
        let (_, app) = world.add_app("Pager", &format!("{BRIDGE}/sentry"));
        let detectors: Vec<String> =
            world.detectors.iter().filter_map(|one| one["id"].as_str()).map(str::to_owned).collect();
        world.add_workflow("By hand", &detectors, &[], &app_action(app));
    });
    let before: Vec<Value> = twin.world(|world| world.workflows.clone());
    let run = connect(&twin, &["--yes"]);
    assert!(run.stdout.contains("\nnothing is missing\n"), "{run:?}");
    assert_eq!(twin.world(|world| world.workflows.clone()), before);
    assert_done(&connect(&twin, &["--undo", "--yes"]));
    assert_eq!(twin.world(|world| world.workflows.clone()), before, "undo leaves what connect did not make");
}
