//! The findings of `audit` in each generation of Sentry.

use sentry_twin::{SentryGeneration, Twin, TwinFaultKind, World};
use serde_json::json;

use crate::twin::{BRIDGE, app_action, document, findings, legacy_url, run, run_in, run_with, service, twin};

const RESOLVED: [&str; 3] = ["first_seen_event", "regression_event", "issue_resolved_trigger"];

/// A Sentry with one project `shop`, whose rule calls the WebHooks plugin, which calls the bridge.
fn by_plugin(change: impl FnOnce(&mut World)) -> Twin {
    twin(SentryGeneration::Plugin, |world| {
        world.add_project("shop");
        world.add_rule("shop", "Page somebody", &service("webhooks"));
        let project = world.project("shop").unwrap();
        (project.hook_enabled, project.urls) = (true, vec!["https://hooks.example/1".to_owned(), legacy_url()]);
        change(world);
    })
}

/// A Sentry with one project `shop` whose rule calls the bridge's integration.
fn by_app(change: impl FnOnce(&mut World)) -> Twin {
    twin(SentryGeneration::Apps, |world| {
        world.add_project("shop");
        let (slug, _) = world.add_app("Pager", &format!("{BRIDGE}/sentry"));
        world.add_rule("shop", "Page somebody", &service(&slug));
        change(world);
    })
}

/// A Sentry with one project `shop` that a workflow connects to the bridge's integration.
fn by_workflow(change: impl FnOnce(&mut World)) -> Twin {
    twin(SentryGeneration::Workflows, |world| {
        let shop = world.add_project("shop");
        let (_, app) = world.add_app("Pager", &format!("{BRIDGE}/sentry"));
        let detectors = [world.detector(shop, "error")];
        world.add_workflow("Page somebody", &detectors, &RESOLVED, &app_action(app));
        change(world);
    })
}

#[track_caller]
fn found(twin: &Twin) -> Vec<String> {
    let run = run(twin, &["audit", "--json", "--bridge", BRIDGE]);
    let found = findings(&run);
    assert_eq!(run.code, Some(i32::from(!found.is_empty())), "{run:?}");
    found
}

#[test]
fn what_is_printed_is_json_whatever_people_write() {
    const NAME: &str = "Page \u{200f}somebody\u{7f}";
    let twin = by_plugin(|world| drop(world.add_rule("shop", NAME, &service("webhooks"))));
    let document = document(&run(&twin, &["audit", "--json"]));
    assert!(document["projects"][0]["alerts"].to_string().contains(NAME), "{document:#}");
}

#[test]
fn a_sentry_in_which_everything_pages_has_no_findings_in_any_generation() {
    let none = Vec::<String>::new();
    assert_eq!(found(&by_plugin(|_| ())), none);
    assert_eq!(found(&by_app(|_| ())), none);
    assert_eq!(found(&by_workflow(|_| ())), none);

    let run = run(&by_workflow(|_| ()), &["audit"]);
    assert_eq!(run.code, Some(0));
    assert!(run.stdout.contains("organization acme: workflows, as Sentry since 2026\n"), "{run:?}");
    assert!(run.stdout.contains("\npages   shop  Page somebody\n"), "{run:?}");
    assert!(run.stdout.ends_with("\n1 of 1 projects page, nothing found\n"), "{run:?}");
}

#[test]
fn a_project_whose_rule_was_removed_pages_nobody() {
    assert_eq!(
        found(&by_plugin(|world| world.project("shop").unwrap().rules.clear())),
        ["project-without-page shop -"]
    );
    assert_eq!(found(&by_app(|world| world.project("shop").unwrap().rules.clear())), ["project-without-page shop -"]);
    assert_eq!(found(&by_workflow(|world| world.workflows.clear())), ["project-without-page shop -"]);
}

#[test]
fn the_remedy_stands_beside_the_finding() {
    let run = run(&by_plugin(|world| world.project("shop").unwrap().rules.clear()), &["audit"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("\nNOBODY  shop\n"), "{run:?}");
    assert!(
        run.stdout
            .contains("\n1. shop: no rule of it calls the bridge\n   remedy: run `connect --project` with its slug"),
        "{run:?}"
    );
    assert!(run.stdout.ends_with("\n0 of 1 projects page, 1 finding\n"), "{run:?}");
}

#[test]
fn a_plugin_that_is_disabled_or_calls_somebody_else_is_found_behind_the_rule() {
    let expected = ["project-without-page shop -", "nothing-behind-webhook shop Page somebody"];
    assert_eq!(found(&by_plugin(|world| world.project("shop").unwrap().hook_enabled = false)), expected);
    let elsewhere =
        |world: &mut World| world.project("shop").unwrap().urls = vec!["https://hooks.example/sentry".to_owned()];
    assert_eq!(found(&by_plugin(elsewhere)), expected);
    // The same by the action for all legacy integrations.
    let all = json!([{"id": "sentry.rules.actions.notify_event.NotifyEventAction"}]);
    let twin = by_plugin(|world| {
        world.project("shop").unwrap().rules.clear();
        world.add_rule("shop", "Page somebody", &all);
    });
    assert_eq!(found(&twin), Vec::<String>::new());
    twin.world(|world| world.project("shop").unwrap().hook_enabled = false);
    assert_eq!(found(&twin), expected);
}

#[test]
fn an_address_with_a_token_that_the_bridge_would_refuse_is_found() {
    let url = format!("{BRIDGE}/sentry/a-token-of-last-year");
    let twin = by_plugin(|world| world.project("shop").unwrap().urls = vec![url]);
    assert_eq!(found(&twin), ["project-without-page shop -", "wrong-token shop Page somebody"]);
    let printed = run(&twin, &["audit"]).stdout;
    assert!(!printed.contains("a-token-of-last-year"), "{printed}");
}

#[test]
fn trouble_of_the_integration_is_told_once_and_its_projects_page_nobody() {
    let expected = ["project-without-page shop -", "app-trouble - Pager"];
    for (name, value) in [
        ("isAlertable", json!(false)),
        ("webhookUrl", json!("https://bridge.example.com/other")),
        ("webhookUrl", json!(null)),
        ("installed", json!(false)),
    ] {
        let change = |world: &mut World| {
            // `connect` gives its integration this name, by which the audit finds it whatever its webhook URL is.
            world.apps[0]["name"] = json!("sentry-pagerduty-bridge");
            world.apps[0][name] = value.clone();
        };
        let expected = expected.map(|finding| finding.replace("Pager", "sentry-pagerduty-bridge"));
        assert_eq!(found(&by_app(change)), expected, "{name}");
    }
    assert_eq!(found(&by_workflow(|world| world.apps[0]["isDisabled"] = json!(true))), expected);
}

#[test]
fn what_is_switched_off_is_found() {
    let expected = ["project-without-page shop -", "disabled shop Page somebody"];
    assert_eq!(found(&by_app(|world| world.project("shop").unwrap().rules[0]["status"] = json!("disabled"))), expected);
    assert_eq!(found(&by_app(|world| world.project("shop").unwrap().rules[0]["snooze"] = json!(true))), expected);
    assert_eq!(found(&by_workflow(|world| world.workflows[0]["enabled"] = json!(false))), expected);
    let action = |world: &mut World| world.workflows[0]["actionFilters"][0]["actions"][0]["status"] = json!("disabled");
    assert_eq!(found(&by_workflow(action)), expected);
    assert_eq!(found(&by_workflow(|world| world.detectors[0]["enabled"] = json!(false))), expected);
}

#[test]
fn a_workflow_that_is_connected_to_nothing_fires_for_nothing() {
    let twin = by_workflow(|world| world.workflows[0]["detectorIds"] = json!([]));
    assert_eq!(found(&twin), ["project-without-page shop -", "fires-for-nothing - Page somebody"]);
}

#[test]
fn a_project_that_no_workflow_is_connected_to_is_found_beside_one_that_is() {
    let twin = by_workflow(|world| {
        world.add_project("web");
    });
    assert_eq!(found(&twin), ["project-without-page web -"]);
    let run = run(&twin, &["audit", "--json", "--project", "shop"]);
    assert_eq!(run.code, Some(0), "only the projects that were asked for: {run:?}");
    let unknown = run_with(&twin, &["audit", "--project", "shopp"], &[]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("the token sees no project `shopp` in acme"), "{unknown:?}");
}

#[test]
fn an_alert_of_one_environment_is_found_unless_a_route_names_it() {
    let change = |world: &mut World| world.workflows[0]["environment"] = json!("staging");
    assert_eq!(found(&by_workflow(change)), ["one-environment shop Page somebody"]);
    let route = ("BRIDGE_PAGERDUTY_ROUTES", "environment,staging,0123456789abcdef0123456789abcdef");
    assert_eq!(run_with(&by_workflow(change), &["audit"], &[route]).code, Some(0));
    let rule = |world: &mut World| world.project("shop").unwrap().rules[0]["environment"] = json!("staging");
    assert_eq!(found(&by_plugin(rule)), ["one-environment shop Page somebody"]);
}

#[test]
fn more_than_an_hour_of_quiet_is_found() {
    let workflow = |world: &mut World| world.workflows[0]["config"]["frequency"] = json!(1440);
    assert_eq!(found(&by_workflow(workflow)), ["quiet shop Page somebody"]);
    let rule = |world: &mut World| world.project("shop").unwrap().rules[0]["frequency"] = json!(61);
    assert_eq!(found(&by_app(rule)), ["quiet shop Page somebody"]);
}

#[test]
fn alerts_that_nothing_resolves_are_found() {
    let unsubscribed = |world: &mut World| world.apps[0]["events"] = json!([]);
    assert_eq!(found(&by_app(unsubscribed)), ["never-resolves shop -"]);
    assert_eq!(found(&by_workflow(unsubscribed)), Vec::<String>::new(), "the workflow has the trigger");
    let neither = |world: &mut World| {
        unsubscribed(world);
        world.workflows[0]["triggers"]["conditions"] = json!([]);
    };
    assert_eq!(found(&by_workflow(neither)), ["never-resolves shop -"]);
    let single = |world: &mut World| {
        neither(world);
        world.apps[0]["webhookEvents"] = json!(["issue.resolved"]);
    };
    assert_eq!(found(&by_workflow(single)), Vec::<String>::new());
    let another = |world: &mut World| {
        neither(world);
        world.apps[0]["events"] = json!(["issue"]);
        world.apps[0]["webhookEvents"] = json!(["issue.created"]);
    };
    assert_eq!(found(&by_workflow(another)), ["never-resolves shop -"]);
}

#[test]
fn a_workflow_that_never_fired_is_found_where_there_are_new_issues() {
    let never = |world: &mut World| world.workflows[0]["lastTriggered"] = json!(null);
    assert_eq!(found(&by_workflow(never)), Vec::<String>::new());
    let with_issues = |world: &mut World| {
        never(world);
        world.project("shop").unwrap().has_new_issues = true;
    };
    assert_eq!(found(&by_workflow(with_issues)), ["never-fired shop Page somebody"]);
}

#[test]
fn actions_of_legacy_plugins_are_found_and_legacy_webhooks_with_nothing_behind_them() {
    let plugin = json!([{"id": "5", "type": "plugin", "data": {}, "config": {}, "status": "active"}]);
    let twin = by_workflow(|world| {
        let detectors = [world.detectors[0]["id"].as_str().unwrap().to_owned()];
        world.add_workflow("From 2023", &detectors, &[], &plugin);
    });
    assert_eq!(found(&twin), ["dead-action - From 2023"]);

    let webhook = json!([{"id": "6", "type": "webhook", "data": {}, "config": {"targetIdentifier": "webhooks"}, "status": "active"}]);
    let twin = by_workflow(|world| world.workflows[0]["actionFilters"][0]["actions"] = webhook);
    assert_eq!(found(&twin), ["project-without-page shop -", "nothing-behind-webhook shop Page somebody"]);
    twin.world(|world| {
        let project = world.project("shop").unwrap();
        (project.hook_enabled, project.urls) = (true, vec![legacy_url()]);
    });
    assert_eq!(found(&twin), Vec::<String>::new());
}

#[test]
fn rules_that_never_became_workflows_are_found_where_sentry_shows_them() {
    let twin = by_workflow(|world| {
        world.keeps_rules = true;
        let id = world.add_rule("shop", "Migrated", &service("webhooks"));
        world.migrated.push((id, "1".to_owned()));
        world.add_rule("shop", "Left behind", &service("webhooks"));
    });
    assert_eq!(found(&twin), ["unmigrated-rule shop Left behind"]);
    twin.world(|world| world.features.push("workflow-engine-rule-serializers".to_owned()));
    let run = run(&twin, &["audit"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("note: this Sentry makes its list of rules out of workflows: old rules"), "{run:?}");
}

#[test]
fn where_sentry_has_both_its_version_decides_or_the_user() {
    let both = |version: &str| {
        let version = version.to_owned();
        by_app(|world| {
            world.has_workflows_early = true;
            world.version = version;
        })
    };
    let generation = |twin: &Twin, args: &[&str]| {
        let text = document(&run(twin, &[&["audit", "--json"], args].concat()))["generation"].clone();
        text.as_str().unwrap().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(generation(&both("26.6.1"), &[]), "alert");
    assert_eq!(generation(&both("26.6.1"), &["--alerts", "workflows"]), "workflows,");
    let new = by_workflow(|world| {
        world.keeps_rules = true;
        world.version = "26.7.0".to_owned();
        world.add_rule("shop", "Left behind", &service("webhooks"));
    });
    assert_eq!(generation(&new, &[]), "workflows,");
    assert_eq!(generation(&new, &["--alerts", "rules"]), "alert");
}

#[test]
fn rules_that_are_gone_for_the_length_of_a_brown_out_are_as_gone_as_with_404() {
    let twin = by_workflow(|world| world.inject("/rules/", 10, TwinFaultKind::BrownOut));
    assert_eq!(found(&twin), Vec::<String>::new());
    let asked = twin.calls().iter().filter(|call| call.path.ends_with("/rules/")).count();
    assert_eq!(asked, 1, "what is gone is not asked for again");
}

#[test]
fn what_an_upgrade_of_sentry_lost_is_found_against_the_saved_audit() {
    let home = tempfile::tempdir().unwrap();
    let before = by_app(|world| {
        world.add_project("web");
        let slug = world.apps[0]["slug"].as_str().unwrap().to_owned();
        world.add_rule("web", "Page for web", &service(&slug));
        world.add_rule("web", "Second page for web", &service(&slug));
    });
    let saved = run_in(home.path(), &before, &["audit", "--save", "before.json"], &[]);
    assert_eq!(saved.code, Some(0), "{saved:?}");

    let after = by_workflow(|world| {
        let web = world.add_project("web");
        let detectors = [world.detector(web, "error")];
        let app = world.apps[0]["sentryAppId"].as_u64().unwrap();
        world.add_workflow("Page for web", &detectors, &RESOLVED, &app_action(app));
    });
    let run = run_in(home.path(), &after, &["audit", "--json", "--against", "before.json"], &[]);
    assert_eq!((run.code, findings(&run)), (Some(1), vec!["lost-since-saved web Second page for web".to_owned()]));

    after.world(|world| world.projects.retain(|project| project.slug == "shop"));
    let run = run_in(home.path(), &after, &["audit", "--json", "--against", "before.json"], &[]);
    assert_eq!(findings(&run), ["project-gone web -"]);

    let nonsense = run_in(home.path(), &after, &["audit", "--against", "nothing.json"], &[]);
    assert_eq!(nonsense.code, Some(1));
    assert!(nonsense.stderr.contains("nothing.json cannot be read"), "{nonsense:?}");
}
