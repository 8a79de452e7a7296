//! Catch-up finds alerts that fired and whose webhooks never came, with a real bridge between the twin of Sentry and the
//! sandbox.

use std::collections::BTreeSet;

use chrono::Utc;
use sentry_pagerduty_bridge::ingest::CanaryMark;
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_twin::{AlertFiring, ORGANIZATION, SentryGeneration, TOKEN, Twin, TwinFaultKind, World};
use serde_json::{Value, json};

use crate::in_process::eventually;
use crate::support::{Bridge, KEY, OTHER_KEY, PagerDuty, TOKEN as WEBHOOK_TOKEN, alert, get_with};
use crate::twin::{app_action, document, run_in, service, twin};

const RESOLVED: [&str; 2] = ["first_seen_event", "issue_resolved_trigger"];
const ADMIN: &str = "admin-token-for-tests-alone";

/// A Sentry, and the id of the alert that calls the bridge.
struct Shop {
    twin: Twin,
    alert: String,
}

/// A Sentry with the project `shop`, whose alert calls the bridge.
fn shop(generation: SentryGeneration) -> Shop {
    let mut made_alert = String::new();
    let twin = twin(generation, |world| made_alert = add_alert(world));
    Shop { twin, alert: made_alert }
}

fn add_alert(world: &mut World) -> String {
    let shop = world.add_project("shop");
    let legacy = format!("https://bridge.example.com/sentry/{WEBHOOK_TOKEN}");
    match world.generation {
        SentryGeneration::Plugin => {
            let project = world.project("shop").unwrap();
            (project.hook_enabled, project.urls) = (true, vec![legacy]);
            world.add_rule("shop", "Page somebody", &service("webhooks"))
        }
        SentryGeneration::Apps => {
            let (slug, _) = world.add_app("Pager", "https://bridge.example.com/sentry");
            world.add_rule("shop", "Page somebody", &service(&slug))
        }
        SentryGeneration::Workflows => {
            let (_, app) = world.add_app("Pager", "https://bridge.example.com/sentry");
            let detectors = [world.detector(shop, "error")];
            world.add_workflow("Page somebody", &detectors, &RESOLVED, &app_action(app))
        }
    }
}

impl Shop {
    /// Starts a bridge that queries this Sentry, and waits until its catch-up has begun.
    #[track_caller]
    fn bridge(&self, pagerduty: &PagerDuty, settings: &[(&str, &str)]) -> Bridge {
        let url = self.twin.url();
        let api = [
            ("BRIDGE_SENTRY_URL", url.as_str()),
            ("BRIDGE_SENTRY_ORG", ORGANIZATION),
            ("BRIDGE_SENTRY_API_TOKEN", TOKEN),
            ("BRIDGE_ADMIN_TOKEN", ADMIN),
        ];
        let settings: Vec<_> = api.into_iter().chain(settings.iter().copied()).collect();
        let bridge = Bridge::start_with(&pagerduty.url(), &settings);
        bridge.wait_for_log("catch-up begins");
        bridge
    }

    /// Adds `issues` new issues for which the alert fired five minutes ago.
    fn fire(&self, issues: usize) -> Vec<u64> {
        self.twin.world(|world| {
            (0..issues)
                .map(|number| {
                    let at = five_minutes_ago();
                    let issue = world.add_issue("shop", &format!("Payment {number} failed"), at);
                    world.fire(&self.alert, issue, at);
                    issue
                })
                .collect()
        })
    }
}

fn five_minutes_ago() -> i64 {
    Utc::now().timestamp() - 300
}

/// Calls `meanwhile` while the bridge is stopped, and waits until the restarted bridge has queried Sentry.
#[track_caller]
fn restart_after(bridge: &mut Bridge, meanwhile: impl FnOnce()) {
    assert!(bridge.terminate("TERM").success());
    meanwhile();
    bridge.restart();
    bridge.wait_for_log("asked Sentry what fired since");
}

/// The incident keys of all triggers that PagerDuty accepted, in order.
fn keys(pagerduty: &PagerDuty) -> Vec<String> {
    pagerduty.triggers().into_iter().map(|(key, _)| key).collect()
}

fn texts(issues: &[u64]) -> Vec<String> {
    issues.iter().map(u64::to_string).collect()
}

fn status(bridge: &Bridge) -> Value {
    let authorization = format!("Bearer {ADMIN}");
    get_with(bridge.address, "/api/status", &[("Authorization", &authorization)]).json()
}

#[test]
fn five_issues_of_a_time_without_a_bridge_are_found_once_in_every_generation_that_records_firings() {
    for generation in [SentryGeneration::Apps, SentryGeneration::Workflows] {
        let (shop, pagerduty) = (shop(generation), PagerDuty::start());
        let mut bridge = shop.bridge(&pagerduty, &[]);
        let mut issues = Vec::new();
        restart_after(&mut bridge, || issues = shop.fire(5));
        pagerduty.wait_for_accepted(5);
        assert_eq!(keys(&pagerduty), texts(&issues), "{generation:?}");
        let triggers = pagerduty.triggers();
        assert_eq!(triggers[0].1, "Payment 0 failed");
        let details = pagerduty.journal()[0].event.clone().unwrap()["details"].clone();
        let caught_up = details["caught_up"].as_str().unwrap();
        assert!(caught_up.starts_with("its webhook did not come; found in Sentry 5m"), "{caught_up}");
        assert_eq!((&details["rules"], &details["environment"]), (&json!(["Page somebody"]), &json!("production")));

        let catch_up = &status(&bridge)["catch_up"];
        assert_eq!(
            (&catch_up["found"], &catch_up["enqueued"], &catch_up["is_exact"]),
            (&json!(5), &json!(5), &json!(true))
        );
        for _ in 0..2 {
            restart_after(&mut bridge, || ());
        }
        assert_eq!(status(&bridge)["catch_up"]["found"], 0);
        assert_eq!(bridge.end().len(), 5, "none is found twice");
    }
}

#[test]
fn where_sentry_records_no_firings_new_issues_are_reported_and_page_nobody() {
    for generation in [SentryGeneration::Plugin, SentryGeneration::Apps] {
        let (shop, pagerduty) = (shop(generation), PagerDuty::start());
        shop.twin.world(|world| world.keeps_history = false);
        let mut bridge = shop.bridge(&pagerduty, &[]);
        restart_after(&mut bridge, || {
            shop.fire(5);
            // Older issues, and issues of a project that does not page.
            shop.twin.world(|world| {
                world.add_issue("shop", "Yesterday's", five_minutes_ago() - 86_400);
                world.add_project("quiet");
                world.add_issue("quiet", "Nobody's", five_minutes_ago());
            });
        });
        let catch_up = &status(&bridge)["catch_up"];
        assert_eq!((&catch_up["reported"], &catch_up["is_exact"]), (&json!(5), &json!(false)), "{generation:?}");
        let titles: BTreeSet<_> =
            catch_up["missing"].as_array().unwrap().iter().map(|one| one["title"].as_str().unwrap()).collect();
        assert_eq!(titles.len(), 5);
        assert!(titles.contains("Payment 4 failed"), "{titles:?}");
        restart_after(&mut bridge, || ());
        assert_eq!(status(&bridge)["catch_up"]["reported"], 0, "none is reported twice");
        assert!(bridge.end().is_empty());
    }
}

#[test]
fn what_is_resolved_or_archived_by_now_or_came_by_webhook_pages_nobody() {
    let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let mut bridge = shop.bridge(&pagerduty, &[]);
    let issues = shop.fire(4);
    bridge.queue(&alert(issues[0], "Payment 0 failed"));
    pagerduty.wait_for_accepted(1);
    restart_after(&mut bridge, || {
        shop.twin.world(|world| {
            world.resolve(issues[1], Utc::now().timestamp());
            world.issue(issues[2]).unwrap()["status"] = json!("ignored");
            // The workflow fired when a person resolved it, and another person reopened it.
            let issue = world.add_issue("shop", "Open again by hand", five_minutes_ago());
            world.firings.push(AlertFiring {
                alert: shop.alert.clone(),
                issue,
                event: "17".to_owned(),
                at: five_minutes_ago(),
            });
        });
    });
    pagerduty.wait_for_accepted(2);
    assert_eq!(keys(&pagerduty), texts(&[issues[0], issues[3]]));
    assert_eq!(bridge.end().len(), 2);
}

#[test]
fn the_issue_of_the_canary_is_no_alert_that_is_missing() {
    let title = CanaryMark::new(&ServiceKey::parse(KEY).unwrap()).title();
    for (generation, keeps_history) in [
        (SentryGeneration::Plugin, false),
        (SentryGeneration::Apps, false),
        (SentryGeneration::Apps, true),
        (SentryGeneration::Workflows, true),
    ] {
        let (shop, pagerduty) = (shop(generation), PagerDuty::start());
        shop.twin.world(|world| world.keeps_history = keeps_history);
        let mut bridge = shop.bridge(&pagerduty, &[]);
        restart_after(&mut bridge, || {
            shop.fire(1);
            shop.twin.world(|world| {
                let canary = world.add_issue("shop", &title, five_minutes_ago());
                world.fire(&shop.alert, canary, five_minutes_ago());
                // The rule of the canary alone does not make the project page.
                if generation == SentryGeneration::Plugin {
                    world.add_project("quiet");
                    let urls = world.project("shop").unwrap().urls.clone();
                    let quiet = world.project("quiet").unwrap();
                    (quiet.hook_enabled, quiet.urls) = (true, urls);
                    world.add_rule("quiet", "sentry-pagerduty-bridge canary", &service("webhooks"));
                    world.add_issue("quiet", "Nobody's", five_minutes_ago());
                }
            });
        });
        let catch_up = &status(&bridge)["catch_up"];
        assert_eq!((&catch_up["found"], &catch_up["is_exact"]), (&json!(1), &json!(keeps_history)), "{generation:?}");
        assert_eq!(bridge.end().len(), usize::from(keeps_history), "{generation:?}");
    }
}

#[test]
fn a_webhook_that_comes_after_all_is_recognised() {
    let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let mut bridge = shop.bridge(&pagerduty, &[]);
    let mut issues = Vec::new();
    restart_after(&mut bridge, || issues = shop.fire(1));
    pagerduty.wait_for_accepted(1);
    let event = shop.twin.world(|world| world.firings[0].event.clone());
    let mut late: Value = serde_json::from_slice(&alert(issues[0], "Payment 0 failed")).unwrap();
    late["event"]["event_id"] = json!(event);
    let (code, said) = bridge.post(late.to_string().as_bytes()).status_and_json();
    assert_eq!((code, &said["status"]), (202, &json!("ignored")), "{said}");
    // Another event of the issue goes to the same incident.
    bridge.queue(&alert(issues[0], "Payment 0 failed again"));
    pagerduty.wait_for_accepted(2);
    assert_eq!(keys(&pagerduty), texts(&[issues[0], issues[0]]));
}

#[test]
fn a_storm_of_five_thousand_firings_of_forty_issues_is_forty_incidents() {
    let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let mut bridge = shop.bridge(&pagerduty, &[]);
    let mut issues = Vec::new();
    restart_after(&mut bridge, || {
        issues = shop.fire(40);
        shop.twin.world(|world| {
            world.page = 7;
            for number in 0..4_960 {
                let at = five_minutes_ago();
                world.fire(&shop.alert, issues[number % 40], at);
            }
        });
    });
    pagerduty.wait_for_accepted(40);
    assert_eq!(keys(&pagerduty).into_iter().collect::<BTreeSet<_>>(), texts(&issues).into_iter().collect());
    let pages = shop.twin.calls().iter().filter(|call| call.path.ends_with("/group-history/")).count();
    assert_eq!(pages, 6);
    assert_eq!(bridge.end().len(), 40);
}

#[test]
fn beyond_a_hundred_the_rest_is_one_summarizing_incident() {
    let (shop, pagerduty) = (shop(SentryGeneration::Apps), PagerDuty::start());
    let mut bridge = shop.bridge(&pagerduty, &[]);
    restart_after(&mut bridge, || drop(shop.fire(120)));
    pagerduty.wait_for_accepted(101);
    let triggers = pagerduty.triggers();
    let (key, line) = triggers.iter().find(|(key, _)| key.contains('/')).unwrap();
    assert_eq!(key, "sentry-pagerduty-bridge/catch-up");
    assert!(line.contains("Sentry fired alerts for 20 more issues"), "{line}");
    let catch_up = &status(&bridge)["catch_up"];
    assert_eq!((&catch_up["enqueued"], &catch_up["summarized"]), (&json!(100), &json!(20)));
    restart_after(&mut bridge, || ());
    assert_eq!(bridge.end().len(), 101, "the rest is not enqueued by the next run");
}

#[test]
fn routes_and_levels_hold_for_what_is_caught_up() {
    let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let route = format!("rule,Page somebody,{OTHER_KEY}");
    let settings = [("BRIDGE_PAGERDUTY_ROUTES", route.as_str()), ("BRIDGE_MIN_LEVEL", "error")];
    let mut bridge = shop.bridge(&pagerduty, &settings);
    let mut issues = Vec::new();
    restart_after(&mut bridge, || {
        issues = shop.fire(2);
        shop.twin.world(|world| world.issue(issues[0]).unwrap()["level"] = json!("info"));
    });
    pagerduty.wait_for_accepted(1);
    assert_eq!(keys(&pagerduty), texts(&issues[1..]));
    let records = bridge.end();
    assert_eq!((records.len(), records[0].summary.service_key.expose()), (1, OTHER_KEY));
}

#[test]
fn rate_limits_half_pages_and_slow_answers_are_waited_for() {
    for fault in [
        TwinFaultKind::Throttled(1),
        TwinFaultKind::HalfPage,
        TwinFaultKind::Slow(std::time::Duration::from_millis(500)),
    ] {
        let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
        let mut bridge = shop.bridge(&pagerduty, &[]);
        restart_after(&mut bridge, || {
            shop.fire(1);
            shop.twin.world(|world| world.inject("/group-history/", 1, fault.clone()));
        });
        pagerduty.wait_for_accepted(1);
        let metrics = String::from_utf8(bridge.get("/metrics").body).unwrap();
        let failed = "bridge_catch_up_runs_total{outcome=\"failed\"} 0\n";
        assert!(metrics.contains(failed), "{fault:?} failed a whole run: {metrics}");
    }
}

#[test]
fn a_brown_out_of_the_record_is_no_record_and_pages_nobody() {
    let (shop, pagerduty) = (shop(SentryGeneration::Apps), PagerDuty::start());
    let mut bridge = shop.bridge(&pagerduty, &[]);
    restart_after(&mut bridge, || {
        shop.fire(1);
        shop.twin.world(|world| world.inject("/group-history/", 1, TwinFaultKind::BrownOut));
    });
    let catch_up = &status(&bridge)["catch_up"];
    assert_eq!((&catch_up["reported"], &catch_up["is_exact"]), (&json!(1), &json!(false)));
    assert!(bridge.end().is_empty());
}

#[test]
fn a_sentry_that_does_not_answer_is_shown_and_asked_again() {
    let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let mut bridge = shop.bridge(&pagerduty, &[]);
    assert!(bridge.terminate("TERM").success());
    shop.fire(1);
    // One run makes four requests if they fail with 5xx.
    shop.twin.world(|world| world.inject("/projects/", 4, TwinFaultKind::Status(502)));
    bridge.restart();
    bridge.wait_for_log("catch-up failed, so alerts whose webhooks did not come may be missing");
    let failure = status(&bridge)["catch_up"]["failure"].as_str().unwrap().to_owned();
    assert!(failure.contains("502"), "{failure}");
    bridge.wait_for_log("asked Sentry what fired since");
    pagerduty.wait_for_accepted(1);
    assert_eq!(status(&bridge)["catch_up"]["failure"], Value::Null);
}

#[test]
fn an_event_that_sentry_does_not_show_costs_details_and_no_page() {
    let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let mut bridge = shop.bridge(&pagerduty, &[]);
    let mut issues = Vec::new();
    restart_after(&mut bridge, || {
        issues = shop.fire(2);
        shop.twin.world(|world| {
            world.inject("/events/", 2, TwinFaultKind::Html);
            world.event_rows.retain(|event| event["groupID"] != issues[1].to_string().as_str());
        });
    });
    pagerduty.wait_for_accepted(2);
    assert_eq!(keys(&pagerduty), texts(&issues));
    assert_eq!(pagerduty.triggers()[1].1, "Payment 1 failed");
}

#[test]
fn a_proxy_that_answers_404_for_all_of_sentry_deletes_no_issue() {
    let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let mut bridge = shop.bridge(&pagerduty, &[]);
    assert!(bridge.terminate("TERM").success());
    let issues = shop.fire(1);
    // The proxy answers after the bridge has learned what fired.
    shop.twin.world(|world| world.inject("/group-history/", 1, TwinFaultKind::Slow(std::time::Duration::from_secs(2))));
    bridge.restart();
    eventually("the call", || shop.twin.calls().iter().any(|call| call.path.contains("/group-history/")));
    shop.twin.world(|world| world.inject("/api/0/", 10_000, TwinFaultKind::Status(404)));
    bridge.wait_for_log("catch-up failed, so alerts whose webhooks did not come may be missing");
    shop.twin.world(|world| world.faults.clear());
    pagerduty.wait_for_accepted(1);
    assert_eq!(keys(&pagerduty), texts(&issues));
}

#[test]
fn an_issue_whose_request_breaks_off_or_is_withdrawn_every_time_keeps_none_from_being_enqueued() {
    for fault in [TwinFaultKind::HalfPage, TwinFaultKind::BrownOut] {
        let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
        let mut bridge = shop.bridge(&pagerduty, &[]);
        let mut issues = Vec::new();
        restart_after(&mut bridge, || {
            issues = shop.fire(2);
            shop.twin.world(|world| world.inject(&format!("/issues/{}/", issues[0]), 1000, fault.clone()));
        });
        pagerduty.wait_for_accepted(2);
        assert_eq!(keys(&pagerduty), texts(&issues), "{fault:?}");
    }
}

#[test]
fn reporting_shows_what_is_missing_and_off_asks_nobody() {
    let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let mut bridge = shop.bridge(&pagerduty, &[("BRIDGE_CATCH_UP", "report")]);
    restart_after(&mut bridge, || drop(shop.fire(2)));
    let catch_up = status(&bridge)["catch_up"].clone();
    assert_eq!((&catch_up["mode"], &catch_up["reported"]), (&json!("report"), &json!(2)));
    let metrics = String::from_utf8(bridge.get("/metrics").body).unwrap();
    assert!(metrics.contains("bridge_catch_up_alerts_total{outcome=\"reported\"} 2\n"), "{metrics}");
    assert!(bridge.end().is_empty());

    let url = shop.twin.url();
    let settings = [
        ("BRIDGE_SENTRY_URL", url.as_str()),
        ("BRIDGE_SENTRY_ORG", ORGANIZATION),
        ("BRIDGE_SENTRY_API_TOKEN", TOKEN),
        ("BRIDGE_ADMIN_TOKEN", ADMIN),
        ("BRIDGE_CATCH_UP", "off"),
    ];
    let asked = shop.twin.calls().len();
    let bridge = Bridge::start_with(&pagerduty.url(), &settings);
    assert_eq!(status(&bridge)["catch_up"], Value::Null);
    assert_eq!(shop.twin.calls().len(), asked);
}

#[test]
fn the_command_shows_what_is_missing_and_enqueues_it_beside_a_running_bridge() {
    let (shop, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let bridge = Bridge::start(&pagerduty.url());
    let issues = shop.fire(3);
    bridge.queue(&alert(issues[0], "Payment 0 failed"));
    pagerduty.wait_for_accepted(1);
    let home = bridge.database().parent().unwrap().to_owned();
    let pagerduty_url = pagerduty.url();
    let settings = [
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_PAGERDUTY_URL", pagerduty_url.as_str()),
        ("BRIDGE_WEBHOOK_TOKEN", WEBHOOK_TOKEN),
    ];
    let unknown = run_in(&home, &shop.twin, &["catch-up", "--dry-run"], &settings);
    let since = ["catch-up", "--since", "1h"];
    let dry = run_in(&home, &shop.twin, &[&since[..], &["--dry-run", "--json"]].concat(), &settings);
    assert_eq!(dry.code, Some(0), "{dry:?} {unknown:?}");
    let shown = document(&dry);
    assert_eq!((&shown["fired"], shown["missing"].as_array().unwrap().len()), (&json!(3), 2));
    assert_eq!(shown["missing"][0]["action"], "would be enqueued");
    assert_eq!(pagerduty.counters().accepted, 1, "a dry run enqueues nothing");

    let done = run_in(&home, &shop.twin, &since, &settings);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("alerts fired for 3 issues, as Sentry recorded them; 2 of them missing"), "{done:?}");
    assert_eq!(done.stdout.matches(": enqueued as event ").count(), 2, "{done:?}");
    pagerduty.wait_for_accepted(3);
    assert_eq!(keys(&pagerduty).into_iter().collect::<BTreeSet<_>>(), texts(&issues).into_iter().collect());
    let again = run_in(&home, &shop.twin, &since, &settings);
    assert!(again.stdout.contains("; 0 of them missing"), "{again:?}");
    let future = run_in(&home, &shop.twin, &["catch-up", "--since", "2999-01-01T00:00:00Z"], &settings);
    assert_eq!(future.code, Some(2), "{future:?}");
    assert_eq!(bridge.end().len(), 3);
}

#[test]
fn the_smallest_token_of_the_guide_can_catch_up_in_every_generation() {
    for (generation, scopes) in [
        (SentryGeneration::Plugin, ["org:read", "project:read", "event:read"].as_slice()),
        (SentryGeneration::Apps, &["org:read", "project:read", "event:read"]),
        (SentryGeneration::Workflows, &["org:read", "project:read", "event:read", "alerts:read"]),
    ] {
        let (shop, pagerduty) = (shop(generation), PagerDuty::start());
        shop.twin.world(|world| world.add_token("the-smallest-token-of-all", None, scopes));
        let mut bridge = shop.bridge(&pagerduty, &[("BRIDGE_SENTRY_API_TOKEN", "the-smallest-token-of-all")]);
        restart_after(&mut bridge, || drop(shop.fire(1)));
        assert_eq!(status(&bridge)["catch_up"]["found"], 1, "{generation:?}");
        let refused: Vec<_> = shop.twin.calls().into_iter().filter(|call| matches!(call.status, 401 | 403)).collect();
        assert!(refused.is_empty(), "{refused:?}");
    }
}
