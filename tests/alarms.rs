//! The bridge's own alarms, as whoever is paged sees them: the real binary, real files, and the sandbox in PagerDuty's
//! place.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

#[path = "bridge/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/bridge, which needs more of it")]
mod support;
#[path = "faults/tls_front.rs"]
#[allow(dead_code, reason = "shared with tests/faults, which needs more of it")]
mod tls_front;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sentry_pagerduty_bridge::queue::State as Stands;
use sentry_pagerduty_bridge::sandbox::{Body, Cut, EventType, Fault, FaultRule, Incident, State, ThrottleStatus};
use sha2::Sha256;

use self::support::{Bridge, Disk, KEY, OTHER_KEY, PagerDuty, alert, post, run};
use self::tls_front::{Authority, Front};

const ON: (&str, &str) = ("BRIDGE_ALARMS", "on");

/// Alarms go another way than the alerts.
const OTHER_WAY: (&str, &str) = ("BRIDGE_ALARM_SERVICE_KEY", OTHER_KEY);

fn incident_key(cause: &str) -> String {
    format!("sentry-pagerduty-bridge/{cause}")
}

/// Waits until the incident of a cause is open.
#[track_caller]
fn is_paged(pagerduty: &PagerDuty, service_key: &str, cause: &str) -> Incident {
    is(pagerduty, service_key, cause, State::Triggered)
}

/// Waits until it is resolved, and asserts that there was one page and nothing more.
#[track_caller]
fn is_over(pagerduty: &PagerDuty, service_key: &str, cause: &str) {
    let incident = is(pagerduty, service_key, cause, State::Resolved);
    assert_eq!(incident.events, 2, "{incident:#?}");
    let incidents = pagerduty.incidents();
    let alarms: Vec<_> = incidents.iter().filter(|incident| incident.incident_key == incident_key(cause)).collect();
    assert_eq!(alarms.len(), 1, "{alarms:#?}");
}

#[track_caller]
fn is(pagerduty: &PagerDuty, service_key: &str, cause: &str, state: State) -> Incident {
    let key = incident_key(cause);
    let mut found = None;
    pagerduty.wait_for(&format!("the incident {key} as {state:?}"), |records| {
        found = records.incident(service_key, &key).filter(|incident| incident.state == state).cloned();
        found.is_some()
    });
    found.unwrap()
}

/// The causes of all alarms that PagerDuty knows of.
fn causes(pagerduty: &PagerDuty) -> Vec<String> {
    let incidents = pagerduty.incidents();
    let names = incidents.iter().filter_map(|incident| incident.incident_key.strip_prefix("sentry-pagerduty-bridge/"));
    names.map(str::to_owned).collect()
}

/// The causes that `/metrics` shows.
fn trouble(bridge: &Bridge) -> Vec<String> {
    let text = String::from_utf8(bridge.get("/metrics").body).unwrap();
    let causes = text.lines().filter_map(|line| line.strip_prefix("bridge_trouble{cause=\"")?.strip_suffix("\"} 1"));
    causes.map(str::to_owned).collect()
}

/// A rule about the events of one service key.
fn for_key(service_key: &str, fault: Fault) -> FaultRule {
    FaultRule { service_key: Some(service_key.to_owned()), ..FaultRule::new(fault) }
}

fn queue(bridge: &Bridge, args: &[&str]) {
    let database = format!("sqlite:{}", bridge.database().display());
    let done = run(
        &[&["queue"], args].concat(),
        &[
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_WEBHOOK_TOKEN", support::TOKEN),
            ("BRIDGE_DATABASE_URL", &database),
        ],
    );
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn silence_is_one_page_and_the_next_webhook_ends_it() {
    let pagerduty = PagerDuty::start();
    let settings = [ON, OTHER_WAY, ("BRIDGE_SILENCE_ALARM", "5s"), ("BRIDGE_INCIDENT_KEY_PREFIX", "")];
    let bridge = Bridge::start_with(&pagerduty.url(), &settings);
    is_paged(&pagerduty, OTHER_KEY, "silence");
    bridge.queue(&alert(1, "Disk full"));
    is_over(&pagerduty, OTHER_KEY, "silence");
    let entry = pagerduty.journal().remove(0);
    let event = entry.event.unwrap();
    let description = event["description"].as_str().unwrap();
    assert!(
        description.starts_with("sentry-pagerduty-bridge: no webhook came since the bridge started, for ")
            && description.contains("BRIDGE_SILENCE_ALARM is 5s"),
        "{description}"
    );
    assert_eq!(event["client"], "sentry-pagerduty-bridge");
    assert_eq!(event["details"]["cause"], "silence");
    assert_eq!(event["details"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(entry.warnings.is_empty() && entry.violations.is_empty(), "{:#?} {:#?}", entry.warnings, entry.violations);
}

#[test]
fn dead_letters_are_one_page_however_many_until_they_are_gone_restarts_or_not() {
    let pagerduty = PagerDuty::start();
    let refused =
        |issue: &str| FaultRule { incident_key: Some(issue.to_owned()), ..FaultRule::new(Fault::status(400)) };
    for issue in ["1", "2", "3"] {
        pagerduty.inject(refused(issue)).unwrap();
    }
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[ON, ("BRIDGE_SILENCE_ALARM", "5s")]);
    bridge.queue(&alert(1, "Disk full"));
    is_paged(&pagerduty, KEY, "dead_letters");
    bridge.queue(&alert(2, "Disk full"));
    pagerduty.wait_for_requests(3);

    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    bridge.restart();
    bridge.queue(&alert(3, "Disk full"));
    bridge.wait_for_log("dead letter: ");
    // That nobody is paged again shows once the bridge has looked: this alarm tells that it has.
    is_paged(&pagerduty, KEY, "silence");
    queue(&bridge, &["discard", "--state", "dead", "--all", "--yes"]);
    is_over(&pagerduty, KEY, "dead_letters");
}

#[test]
fn what_ends_while_the_bridge_is_down_is_resolved_when_it_starts() {
    let pagerduty =
        PagerDuty::with_fault(FaultRule { incident_key: Some("1".to_owned()), ..FaultRule::new(Fault::status(400)) });
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[ON]);
    bridge.queue(&alert(1, "Disk full"));
    is_paged(&pagerduty, KEY, "dead_letters");
    // A kill could come before it is marked as delivered, and then it is sent again, as every event is.
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    queue(&bridge, &["discard", "--state", "dead", "--all", "--yes"]);
    bridge.restart();
    is_over(&pagerduty, KEY, "dead_letters");
}

#[test]
fn an_alarm_that_pagerduty_refuses_does_not_feed_itself() {
    let pagerduty = PagerDuty::with_fault(Fault::status(400));
    let bridge = Bridge::start_with(&pagerduty.url(), &[ON, ("BRIDGE_SILENCE_ALARM", "4s")]);
    bridge.queue(&alert(1, "Disk full"));
    // The alert, the alarm for it, and several looks later that for silence.
    pagerduty.wait_for_requests(3);
    let mut shown = trouble(&bridge);
    shown.sort();
    assert_eq!(shown, ["dead_letters", "silence"]);
    let records = bridge.end();
    let incidents: Vec<_> = records.iter().map(|record| record.incident_key.as_str().to_owned()).collect();
    assert_eq!(incidents, ["1", &incident_key("dead_letters"), &incident_key("silence")]);
    assert!(records.iter().all(|record| record.state == Stands::Dead));
}

/// Starts with a PagerDuty that treats alerts like this, and asserts that one that waits is one page that is over once
/// PagerDuty is well.
#[track_caller]
fn pages_for_what_waits(fault: Fault) {
    let pagerduty = PagerDuty::with_fault(for_key(KEY, fault));
    let settings = [ON, OTHER_WAY, ("BRIDGE_WAITING_ALARM", "2s"), ("BRIDGE_PAGERDUTY_TIMEOUT", "1s")];
    let bridge = Bridge::start_with(&pagerduty.url(), &settings);
    bridge.queue(&alert(1, "Disk full"));
    is_paged(&pagerduty, OTHER_KEY, "waiting");
    assert_eq!(trouble(&bridge), ["waiting"]);
    pagerduty.clear_faults();
    // It backs off for as long as it has failed, and is over when it was gone for a while.
    bridge.wait_for_log("delivered");
    pagerduty.wait_for("the alert", |records| records.incident(KEY, "1").is_some());
    is_over(&pagerduty, OTHER_KEY, "waiting");
    assert_eq!(trouble(&bridge), [""; 0]);
    assert_eq!(causes(&pagerduty), ["waiting"]);
}

#[test]
fn what_waits_is_one_page_until_pagerduty_is_well_whatever_is_wrong_with_it() {
    // They mostly wait, so they do it together.
    std::thread::scope(|scope| {
        for fault in [
            Fault::Hang { lasts: Duration::from_mins(1) },
            Fault::Close { apply: false, cut: Cut::default() },
            Fault::status(503),
            Fault::Throttled { status: ThrottleStatus::TooManyRequests, retry_after: None },
        ] {
            scope.spawn(|| pages_for_what_waits(fault));
        }
    });
}

#[test]
fn wrong_signatures_in_a_row_are_one_page_until_one_is_right() {
    const SECRET: &str = "client-secret-of-the-integration";
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[ON, ("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)]);
    let body = include_bytes!("../fixtures/platform/event-alert-26.json");
    let send = |secret: &str| {
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
        let mut signature = String::new();
        for byte in mac.finalize().into_bytes() {
            write!(signature, "{byte:02x}").unwrap();
        }
        let headers = [("Sentry-Hook-Resource", "event_alert"), ("Sentry-Hook-Signature", signature.as_str())];
        post(bridge.address, "/sentry", &headers, body).status
    };
    for _ in 0..5 {
        assert_eq!(send("the-secret-that-sentry-has-since-today"), 401);
    }
    is_paged(&pagerduty, KEY, "signatures");
    assert_eq!(send(SECRET), 202);
    is_over(&pagerduty, KEY, "signatures");
}

#[test]
fn a_full_disk_is_one_page_past_the_queue_and_over_when_there_is_room() {
    let name = "a_full_disk_is_one_page_past_the_queue_and_over_when_there_is_room";
    let Some(disk) = Disk::mount(name) else { return };
    let pagerduty = PagerDuty::start();
    let database = format!("sqlite:{}", disk.path("bridge.db").display());
    let settings = [ON, OTHER_WAY, ("BRIDGE_DATABASE_URL", database.as_str())];
    let bridge = Bridge::start_with(&pagerduty.url(), &settings);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_accepted(1);
    disk.fill();
    while bridge.get("/readyz").status == 200 {
        let large = alert(2, &"x".repeat(16 * 1024));
        if bridge.post(&large).status == 503 {
            break;
        }
    }
    let incident = is_paged(&pagerduty, OTHER_KEY, "storage");
    assert_eq!(incident.events, 1);
    disk.free();
    is_over(&pagerduty, OTHER_KEY, "storage");
}

#[test]
fn an_alarm_past_the_queue_that_pagerduty_took_and_did_not_confirm_is_resolved_as_well() {
    let name = "an_alarm_past_the_queue_that_pagerduty_took_and_did_not_confirm_is_resolved_as_well";
    let Some(disk) = Disk::mount(name) else { return };
    let pagerduty = PagerDuty::start();
    let fault = Fault::Answer { status: 500, body: Body::default(), headers: BTreeMap::new(), apply: true };
    pagerduty.inject(FaultRule { event_type: Some(EventType::Trigger), ..for_key(OTHER_KEY, fault) }).unwrap();
    let database = format!("sqlite:{}", disk.path("bridge.db").display());
    let settings = [ON, OTHER_WAY, ("BRIDGE_DATABASE_URL", database.as_str())];
    let bridge = Bridge::start_with(&pagerduty.url(), &settings);
    disk.fill();
    let refused = (0..10_000).any(|_| bridge.post(&alert(2, &"x".repeat(16 * 1024))).status == 503);
    assert!(refused, "the disk is never full");
    is_paged(&pagerduty, OTHER_KEY, "storage");
    disk.free();
    is(&pagerduty, OTHER_KEY, "storage", State::Resolved);
}

#[test]
fn that_pagerduty_could_not_be_trusted_pages_nobody_once_it_can() {
    let pagerduty = PagerDuty::start();
    let behind = pagerduty.url().trim_start_matches("http://").parse().unwrap();
    let authority = Authority::named("The authority that is trusted");
    let front = Front::before(behind, Authority::named("Somebody else").issue("127.0.0.1", 2999));
    let ca_file = authority.file();
    let settings = [ON, ("BRIDGE_PAGERDUTY_CA_FILE", ca_file.to_str().unwrap())];
    let bridge = Bridge::start_with(&front.url(), &settings);
    bridge.queue(&alert(1, "Disk full"));
    bridge.wait_for_log("nothing is sent, because PagerDuty's address cannot prove who it is");
    front.show(authority.issue("127.0.0.1", 2999));
    bridge.wait_for_log("this trouble is over");
    pagerduty.wait_for_accepted(1);
    assert!(bridge.end().iter().all(|record| record.incident_key.as_str() == "1"));
    assert_eq!(causes(&pagerduty), [""; 0]);
}
