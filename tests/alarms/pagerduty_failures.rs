//! When PagerDuty closes connections, rejects events, does not answer, throttles or is unreachable, the right health, alarm
//! and metrics appear, and they end when PagerDuty works again. The bridge is the real binary with its real intervals.

use std::thread::{self, Builder, Scope};
use std::time::Duration;

use pagerduty_sandbox::{CloseMode, Fault, FaultRule, ThrottleStatus};

use crate::observation::{ADMIN_TOKEN, Observation, wait_for};
use crate::support::{Bridge, ClosedPort, Connection, KEY, OTHER_KEY, PagerDuty, alert, run};
use crate::{ALARM_KEY, ON, causes, wait_for_alarm, wait_until_resolved};

/// A fault for the alerts only; the bridge's own alarms are accepted.
fn for_alerts(fault: Fault) -> FaultRule {
    FaultRule { service_key: Some(KEY.to_owned()), ..FaultRule::new(fault) }
}

fn closes_connections() -> Fault {
    Fault::Close { apply: false, cut: CloseMode::default() }
}

fn does_not_answer() -> Fault {
    Fault::Hang { lasts: Duration::from_mins(1) }
}

fn throttles() -> Fault {
    Fault::Throttled { status: ThrottleStatus::Forbidden, retry_after: None }
}

fn start(pagerduty: &str, waiting_alarm: &str) -> Bridge {
    let settings = [
        ON,
        ALARM_KEY,
        ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN),
        ("BRIDGE_WAITING_ALARM", waiting_alarm),
        ("BRIDGE_PAGERDUTY_TIMEOUT", "1s"),
    ];
    let bridge = Bridge::start_with(pagerduty, &settings);
    assert_healthy(&Observation::of(bridge.address));
    bridge
}

#[track_caller]
fn assert_healthy(observed: &Observation) {
    assert_eq!(
        (observed.health(), observed.troubles(), observed.trouble_metrics()),
        ("healthy", vec![], vec![]),
        "{observed:#?}"
    );
}

/// Waits until this is the only trouble, according to the status and the metrics.
#[track_caller]
fn wait_for_trouble(bridge: &Bridge, health: &str, cause: &str) -> Observation {
    let observed = wait_for(bridge.address, &format!("{health} for {cause}"), |observed| {
        observed.health() == health && observed.troubles() == [cause] && observed.trouble_metrics() == [cause]
    });
    assert!(!observed.status["troubles"][0]["sentence"].as_str().unwrap().is_empty(), "{observed:#?}");
    observed
}

/// Waits until the bridge is healthy and has delivered `delivered` events, counting the alarm and its resolve.
#[track_caller]
fn wait_until_healthy(bridge: &Bridge, delivered: u64, outcome: &str) -> Observation {
    let observed = wait_for(bridge.address, "the end of all trouble", |observed| {
        observed.sample("bridge_events_delivered_total") >= delivered && observed.health() == "healthy"
    });
    assert_healthy(&observed);
    assert_eq!(observed.sample("bridge_events_delivered_total"), delivered, "{observed:#?}");
    assert_eq!(observed.outcomes(), ["delivered", outcome], "{observed:#?}");
    observed
}

/// An alert waits because its attempts end with this outcome: the alarm `waiting` is raised, and resolved after the
/// delivery.
fn waits(fault: Fault, outcome: &str) {
    let pagerduty = PagerDuty::with_fault(for_alerts(fault));
    let bridge = start(&pagerduty.url(), "1s");
    bridge.queue(&alert(1, "Disk full"));
    wait_for_trouble(&bridge, "failing", "waiting");
    wait_for_alarm(&pagerduty, OTHER_KEY, "waiting");
    wait_for(bridge.address, outcome, |observed| observed.outcomes() == ["delivered", outcome]);
    wait_for_trouble(&bridge, "failing", "waiting");
    assert!(pagerduty.incidents().iter().all(|incident| incident.service_key == OTHER_KEY));

    pagerduty.clear_faults();
    // The pause grows with the number of failures, and the trouble has to be over for a while before the alarm is resolved.
    assert_healthy(&wait_for(bridge.address, "the alert's delivery", |observed| observed.health() == "healthy"));
    pagerduty.wait_for("the alert", |records| records.incident(KEY, "1").is_some());
    wait_until_resolved(&pagerduty, OTHER_KEY, "waiting");
    wait_until_healthy(&bridge, 3, outcome);
    assert_eq!(causes(&pagerduty), ["waiting"]);
}

fn waits_for_one_that_is_not_there() {
    let port = ClosedPort::new();
    let bridge = start(&port.url(), "1s");
    bridge.queue(&alert(1, "Disk full"));
    wait_for_trouble(&bridge, "failing", "waiting");
    let observed =
        wait_for(bridge.address, "the alarm in the queue", |observed| observed.status["queue"]["waiting"] == 2);
    assert_eq!(observed.outcomes(), ["unreachable"], "{observed:#?}");

    let pagerduty = port.open();
    pagerduty.wait_for("the alert", |records| records.incident(KEY, "1").is_some());
    wait_until_resolved(&pagerduty, OTHER_KEY, "waiting");
    wait_until_healthy(&bridge, 3, "unreachable");
    assert_eq!(causes(&pagerduty), ["waiting"]);
}

fn is_refused() {
    let pagerduty = PagerDuty::with_fault(for_alerts(Fault::status(400)));
    let bridge = start(&pagerduty.url(), "15m");
    bridge.queue(&alert(1, "Disk full"));
    let observed = wait_for_trouble(&bridge, "failing", "dead_letters");
    assert_eq!(observed.sample("bridge_events_dead_total"), 1);
    wait_for_alarm(&pagerduty, OTHER_KEY, "dead_letters");

    pagerduty.clear_faults();
    // A delivered event shows that PagerDuty accepts events again. The rejected one is still a dead letter.
    bridge.queue(&alert(2, "Disk full"));
    wait_for_trouble(&bridge, "degraded", "dead_letters");
    let request = format!(
        "POST /api/retry HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Length: 16\r\n\r\n{{\"all\":[\"dead\"]}}",
        bridge.address
    );
    let mut connection = Connection::open(bridge.address);
    connection.send(request.as_bytes());
    assert_eq!(connection.answer().status, 200);
    assert_healthy(&wait_for(bridge.address, "the alert's delivery", |observed| observed.health() == "healthy"));
    pagerduty.wait_for("the alert", |records| records.incident(KEY, "1").is_some());
    wait_until_resolved(&pagerduty, OTHER_KEY, "dead_letters");
    let observed = wait_until_healthy(&bridge, 4, "refused");
    assert_eq!(observed.sample("bridge_delivery_attempts_total{outcome=\"refused\"}"), 1);
    assert_eq!(causes(&pagerduty), ["dead_letters"]);
}

/// Starts a scenario on a thread of its own; `name` is in the message if it fails.
fn spawn_scenario<'scope>(scope: &'scope Scope<'scope, '_>, name: &str, scenario: impl FnOnce() + Send + 'scope) {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, scenario).unwrap();
}

#[test]
fn whatever_pagerduty_does_the_right_word_alarm_and_metric_appear_and_go_when_it_is_well() {
    // They spend most of their time waiting, so they run in parallel.
    thread::scope(|scope| {
        spawn_scenario(scope, "dropped", || waits(closes_connections(), "dropped"));
        spawn_scenario(scope, "timeout", || waits(does_not_answer(), "timeout"));
        spawn_scenario(scope, "throttled", || waits(throttles(), "throttled"));
        spawn_scenario(scope, "error", || waits(Fault::status(503), "error"));
        spawn_scenario(scope, "unreachable", waits_for_one_that_is_not_there);
        spawn_scenario(scope, "refused", is_refused);
    });
}

/// An alert waits for a short time because its attempts end with this outcome: the health is degraded, and nobody is paged.
fn degrades(fault: Fault, outcome: &str) {
    let pagerduty = PagerDuty::with_fault(for_alerts(fault));
    let bridge = start(&pagerduty.url(), "15m");
    bridge.queue(&alert(1, "Disk full"));
    let observed = wait_for(bridge.address, "degraded", |observed| observed.health() == "degraded");
    assert_eq!(
        (observed.troubles(), observed.trouble_metrics()),
        (vec!["delivery"], vec!["delivery"]),
        "{observed:#?}"
    );
    pagerduty.clear_faults();
    wait_until_healthy(&bridge, 1, outcome);
    assert_eq!(causes(&pagerduty), [""; 0]);
}

#[test]
fn what_waits_only_for_a_moment_degrades_the_health_and_pages_nobody() {
    thread::scope(|scope| {
        spawn_scenario(scope, "dropped", || degrades(closes_connections(), "dropped"));
        spawn_scenario(scope, "timeout", || degrades(does_not_answer(), "timeout"));
        spawn_scenario(scope, "throttled", || degrades(throttles(), "throttled"));
    });
}

#[test]
fn what_pagerduty_answers_with_success_and_drops_is_delivered_to_all_that_can_be_seen_from_here() {
    let pagerduty = PagerDuty::with_fault(for_alerts(Fault::SilentDrop));
    let bridge = start(&pagerduty.url(), "1s");
    bridge.queue(&alert(1, "Disk full"));
    let observed = wait_for(bridge.address, "the delivery", |observed| observed.status["queue"]["delivered"] == 1);
    assert_healthy(&observed);
    let observed =
        wait_for(bridge.address, "its count", |observed| observed.sample("bridge_events_delivered_total") == 1);
    assert_eq!(observed.outcomes(), ["delivered"]);
    assert_eq!(pagerduty.incidents().len(), 0);

    // The test incident of `check --page` is accepted and dropped as well. `check` says which incident to look for in
    // PagerDuty.
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", pagerduty.url()),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY.to_owned()),
        ("BRIDGE_WEBHOOK_TOKEN", crate::support::TOKEN.to_owned()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let check = run(&["check", "--page"], &settings);
    assert_eq!(check.code, Some(0), "{check:?}");
    let sought = pagerduty.journal().last().unwrap().text("incident_key").unwrap().to_owned();
    let hint = format!(
        "{sought} was opened and resolved on the key …00A1, according to PagerDuty's answers; look there whether"
    );
    assert!(check.stdout.contains(&hint), "{hint}: {check:?}");
    assert_eq!(pagerduty.incidents().len(), 0);
    assert!(
        include_str!("../../docs/alarms.md")
            .contains("run `check --page` and look in PagerDuty whether its test incident")
    );
}
