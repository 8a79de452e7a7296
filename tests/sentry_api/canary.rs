//! The canary in each generation of Sentry: it comes back, or an alarm is raised.

use pagerduty_sandbox::IncidentState;
use sentry_twin::{SentryGeneration, TwinFaultKind, World};
use serde_json::{Value, json};

use crate::in_process::{InProcessBridge, Setup, eventually};
use crate::support::{KEY, PagerDuty, alert};

const ALL: [SentryGeneration; 3] = [SentryGeneration::Plugin, SentryGeneration::Apps, SentryGeneration::Workflows];

/// Alarms go to another service key, so that they are distinguished from alerts.
const ALARM: &str = "another0key0for0tests000000000B2";

/// Everything that can open an incident does.
const EVERYTHING: [(&str, &str); 2] =
    [("BRIDGE_PAGE_ON", "alert,metric,issue.created,issue.unresolved,error"), ("BRIDGE_ALARM_SERVICE_KEY", ALARM)];

/// Waits until the first alarm is in this state, and returns its description.
#[track_caller]
fn alarm(pagerduty: &PagerDuty, state: IncidentState) -> String {
    let mut found = None;
    pagerduty.wait_for(&format!("the alarm as {state:?}"), |records| {
        found = records.incident(ALARM, "sentry-pagerduty-bridge/canary").filter(|one| one.state == state).cloned();
        found.is_some()
    });
    let alarms = pagerduty.journal().into_iter().filter(|entry| entry.text("event_type") == Some("trigger"));
    let texts: Vec<_> = alarms.filter_map(|entry| entry.text("description").map(str::to_owned)).collect();
    let text = texts.into_iter().find(|text| text.contains("canary")).unwrap();
    let found = found.unwrap();
    assert_eq!(found.opened, 1, "one incident for an outage: {found:#?}");
    text
}

/// Posts an alert, and asserts that nothing else has ever paged.
#[track_caller]
fn nothing_else_pages(setup: &Setup, bridge: &InProcessBridge) {
    let (status, said) = bridge.post(&alert(77, "Disk full"));
    assert_eq!((status, &said["status"]), (202, &Value::from("queued")), "{said}");
    setup.pagerduty.wait_for("the alert", |records| records.incident(KEY, "77").is_some());
    let paged = setup.pagerduty.incidents();
    let paged: Vec<_> = paged.iter().filter(|one| one.service_key == KEY).map(|one| &one.incident_key).collect();
    assert_eq!(paged, ["77"]);
}

#[test]
fn it_goes_round_in_every_generation_and_pages_nobody() {
    for generation in ALL {
        let mut setup = Setup::connected(generation);
        // All other webhooks about the canary that an integration can subscribe to come as well.
        setup.twin.world(|world| {
            for app in &mut world.apps {
                app["events"] = json!(["issue", "error"]);
                app["webhookEvents"] = json!(["issue.created", "error.created"]);
            }
        });
        let bridge = setup.start(&EVERYTHING);
        bridge.wait_for_returns(3);
        let status = bridge.status();
        assert_eq!((&status["status"], &status["canary"]["state"]), (&json!("healthy"), &json!("returns")), "{status}");
        assert!(status["canary"]["round_trip_seconds"].as_f64().is_some_and(|took| took < 60.0), "{status}");
        assert_eq!(status["last_webhook_at"], Value::Null, "the bridge's own canary is no sign of other alerts");
        nothing_else_pages(&setup, &bridge);
        let issues = setup.twin.world(|world| world.events.len());
        assert!(issues >= 3, "{generation:?}");
        if generation != SentryGeneration::Plugin {
            assert!(bridge.metrics().contains("bridge_webhooks_total{answer=\"canary\",source=\"platform\"}"));
        }
    }
}

#[test]
fn it_goes_round_on_a_sentry_that_knows_no_filters_yet() {
    let mut setup = Setup::new(SentryGeneration::Apps);
    setup.twin.world(|world| world.rule_filters = false);
    setup.connect(&["--secret-file", setup.home.path().join("secret").to_str().unwrap()]);
    let rules = setup.twin.world(|world| world.project("shop").unwrap().rules.clone());
    let canary = rules.iter().find(|rule| rule["name"] == "sentry-pagerduty-bridge canary").unwrap();
    assert_eq!(canary["conditions"].as_array().map(Vec::len), Some(2), "a filter would be ignored: {canary}");
    let bridge = setup.start(&EVERYTHING);
    bridge.wait_for_returns(2);
}

#[test]
fn without_its_alert_it_is_lost_which_is_one_incident_until_it_comes_back() {
    for generation in ALL {
        let mut setup = Setup::connected(generation);
        let bridge = setup.start(&EVERYTHING);
        bridge.wait_for_returns(1);
        let removed = setup.twin.world(|world: &mut World| {
            let workflows = std::mem::take(&mut world.workflows);
            (workflows, std::mem::take(&mut world.project("shop").unwrap().rules))
        });
        let text = alarm(&setup.pagerduty, IncidentState::Triggered);
        assert!(text.contains("Sentry took the canary") && text.contains("its webhook did not come"), "{text}");
        setup.twin.world(|world| (world.workflows, world.project("shop").unwrap().rules) = removed);
        alarm(&setup.pagerduty, IncidentState::Resolved);
        nothing_else_pages(&setup, &bridge);
    }
}

#[test]
fn a_sentry_that_takes_no_events_is_told_apart_from_one_that_sends_no_webhook() {
    type Fault = fn(&mut World);
    let faults: [(&str, &str, Fault); 5] = [
        ("disabled", "(403, Project key disabled)", |world| world.project("shop").unwrap().key_enabled = false),
        ("throttled", "(429", |world| world.inject("/store/", 100_000, TwinFaultKind::Throttled(0))),
        ("failing", "(503", |world| world.inject("/store/", 100_000, TwinFaultKind::Status(503))),
        ("moved", "a redirect (302)", |world| {
            world.inject("/store/", 100_000, TwinFaultKind::Redirect("http://127.0.0.1:9/".to_owned()));
        }),
        ("gone", "(404", |world| world.inject("/store/", 100_000, TwinFaultKind::Status(404))),
    ];
    for (what, said, fault) in faults {
        let mut setup = Setup::connected(SentryGeneration::Plugin);
        let bridge = setup.start(&EVERYTHING);
        bridge.wait_for_returns(1);
        setup.twin.world(fault);
        let text = alarm(&setup.pagerduty, IncidentState::Triggered);
        assert!(text.contains("Sentry does not take the canary's events") && text.contains(said), "{what}: {text}");
        setup.twin.world(|world| {
            world.faults.clear();
            world.project("shop").unwrap().key_enabled = true;
        });
        alarm(&setup.pagerduty, IncidentState::Resolved);
        assert!(bridge.metric("bridge_canaries_sent_total{taken=\"no\"}") >= 1.0);
    }
}

#[test]
fn a_canary_that_comes_late_twice_or_after_a_restart_pages_nobody() {
    for generation in ALL {
        let mut setup = Setup::connected(generation);
        setup.twin.world(|world| world.holds_webhooks = true);
        let bridge = setup.start(&EVERYTHING);
        eventually("a canary", || setup.twin.world(|world| !world.held.is_empty()));
        alarm(&setup.pagerduty, IncidentState::Triggered);
        let held = setup.twin.world(|world| world.held.clone());
        let ignored = |bridge: &InProcessBridge| {
            for delivery in &held {
                let (status, said) = bridge.deliver(delivery);
                assert_eq!((status, &said["status"]), (202, &json!("ignored")), "{generation:?}: {said}");
                assert!(said["reason"].as_str().unwrap().contains("the canary that the bridge sent"), "{said}");
            }
        };
        ignored(&bridge);
        let returned = bridge.returned();
        assert!(returned >= 1.0, "the late one counts");
        ignored(&bridge);
        assert!((bridge.returned() - returned).abs() < 0.1, "and the second time it does not");
        bridge.end();
        let bridge = setup.start(&[("BRIDGE_CANARY_DSN", ""), EVERYTHING[0], EVERYTHING[1]]);
        ignored(&bridge);
        nothing_else_pages(&setup, &bridge);
    }
}

#[test]
fn a_canary_that_was_held_during_a_rotation_has_come_back_once_it_is_admitted() {
    let mut setup = Setup::connected(SentryGeneration::Apps);
    let before =
        [("BRIDGE_SENTRY_CLIENT_SECRET", "the-client-secret-before-the-rotation"), EVERYTHING[0], EVERYTHING[1]];
    let bridge = setup.start(&before);
    eventually("a held canary", || bridge.metric("bridge_queue_events{state=\"held\"}") >= 1.0);
    assert_eq!(bridge.status()["canary"]["round_trip_seconds"], Value::Null);
    bridge.end();
    // From now on no webhook comes that could be the canary's.
    setup.twin.world(|world| world.holds_webhooks = true);
    let bridge = setup.start(&EVERYTHING);
    eventually("its return", || bridge.status()["canary"]["round_trip_seconds"].is_number());
    assert!(bridge.returned() < 0.1, "it did not come by a webhook");
}

#[test]
fn a_stranger_cannot_pass_an_alert_off_as_a_canary() {
    let mut setup = Setup::connected(SentryGeneration::Plugin);
    let bridge = setup.start(&EVERYTHING);
    bridge.wait_for_returns(1);
    setup.twin.world(|world| world.holds_webhooks = true);
    eventually("a canary", || setup.twin.world(|world| !world.held.is_empty()));
    let mut body: Value = serde_json::from_str(&setup.twin.world(|world| world.held[0].body.clone())).unwrap();
    // Everything but the id of the event, which only the bridge can generate.
    body["event"]["event_id"] = json!("01a218fc25fa7d25b36e354b122a34ce");
    let (status, said) = bridge.post(body.to_string().as_bytes());
    assert_eq!((status, &said["status"]), (202, &json!("queued")), "{said}");
}

#[test]
fn canaries_do_not_end_a_silence() {
    let mut setup = Setup::connected(SentryGeneration::Plugin);
    let bridge = setup.start(&[("BRIDGE_SILENCE_ALARM", "1s"), EVERYTHING[1]]);
    bridge.wait_for_returns(3);
    setup
        .pagerduty
        .wait_for("the silence", |records| records.incident(ALARM, "sentry-pagerduty-bridge/silence").is_some());
}
