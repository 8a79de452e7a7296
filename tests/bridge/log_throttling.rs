//! Repeated log lines of one cause are replaced by a count, and every alert can still be followed in the log.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::{Bridge, ClosedPort, PagerDuty, TOKEN, alert, alert_of_level, post};

const ALERTS: usize = 30;

/// Stops the bridge and returns its log lines as JSON.
fn log(mut bridge: Bridge) -> Vec<Value> {
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    bridge.process.stderr.all().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The number of lines of this level with `part` in their message.
fn count(log: &[Value], level: &str, part: &str) -> usize {
    log.iter().filter(|line| line["level"] == level && line["message"].as_str().unwrap().contains(part)).count()
}

/// The number in the only line that says how many lines about `what` were left out.
#[track_caller]
fn left_out(log: &[Value], what: &str) -> usize {
    let told: Vec<_> = log.iter().filter(|line| line["message"].as_str().unwrap().contains(what)).collect();
    let [line] = told[..] else { panic!("{what}: {told:#?}") };
    assert_eq!(line["level"], "warn");
    line["left_out"].as_u64().unwrap().try_into().unwrap()
}

#[test]
fn a_storm_of_wrong_tokens_is_five_lines_and_a_count() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_MAX_BODY", "1KiB")]);
    for _ in 0..20 {
        assert_eq!(post(bridge.address, "/sentry/a-token-that-nobody-gave", &[], b"{}").status, 401);
    }
    // Another cause is limited separately.
    assert_eq!(bridge.post(&[b' '; 2000]).status, 413);
    let log = log(bridge);
    assert_eq!(count(&log, "warn", "a webhook with a wrong or missing token was refused"), 5);
    assert_eq!(count(&log, "warn", "a webhook was not read"), 1);
    assert_eq!(left_out(&log, "more webhooks with a wrong or missing token were refused"), 15);
    assert_eq!(count(&log, "debug", ""), 0);
}

#[test]
fn a_storm_of_retries_is_few_lines_and_every_alert_can_be_followed_to_its_end() {
    let port = ClosedPort::new();
    let mut routes = String::new();
    for number in 0..ALERTS {
        writeln!(routes, "project,case-{number},one0key0for0every0project000{number:04}").unwrap();
    }
    let settings = [("BRIDGE_PAGERDUTY_ROUTES", routes.as_str()), ("RUST_LOG", "info,sentry_pagerduty_bridge=debug")];
    let bridge = Bridge::start_with(&port.url(), &settings);
    for number in 0..ALERTS {
        let mut alert: Value = serde_json::from_slice(&alert(number as u64 + 1, "Disk full")).unwrap();
        alert["project_slug"] = json!(format!("case-{number}"));
        bridge.queue(alert.to_string().as_bytes());
    }
    let mut attempts = 0;
    bridge.process.stderr.wait_for("an attempt of each", |line| {
        attempts += usize::from(line.contains("not delivered yet"));
        (attempts >= ALERTS).then_some(())
    });
    let pagerduty = port.open();
    pagerduty.wait_for_accepted(ALERTS as u64);
    let mut delivered = 0;
    bridge.process.stderr.wait_for("the delivery of each", |line| {
        delivered += usize::from(line.contains("\"delivered\""));
        (delivered >= ALERTS).then_some(())
    });
    let log = log(bridge);
    assert_eq!(count(&log, "warn", "not delivered yet"), 5);
    let left_out = left_out(&log, "more attempts did not reach PagerDuty");
    assert_eq!(left_out, count(&log, "debug", "not delivered yet"), "what is left out is still told at debug");
    assert!(left_out >= ALERTS - 5);
    for event in 1..=ALERTS {
        let about = |message: &str| {
            log.iter()
                .filter(|line| line["event"] == event && line["message"] == message && line["level"] == "info")
                .count()
        };
        assert_eq!((about("trigger queued"), about("delivered")), (1, 1), "event {event}");
    }
}

#[test]
fn ignored_and_folded_alerts_are_counted_and_every_rejected_one_has_its_line() {
    let port = ClosedPort::new();
    let bridge = Bridge::start_with(&port.url(), &[("BRIDGE_MIN_LEVEL", "error")]);
    // The first is attempted, the second waits behind it, and the others are folded into the second.
    bridge.queue(&alert_of_level("error", 1, "Disk full"));
    bridge.wait_for_log("not delivered yet");
    for number in 0..22 {
        bridge.queue(&alert_of_level("error", 1, &format!("Disk full {number}")));
        assert_eq!(bridge.post(&alert_of_level("info", 2, &format!("Disk {number}"))).status, 202);
        assert_eq!(bridge.post(b"{}").status, 422);
    }
    let log = log(bridge);
    assert_eq!(count(&log, "info", "folded into a waiting event"), 5);
    assert_eq!(left_out(&log, "more alerts folded into event 2"), 16);
    assert_eq!(count(&log, "info", "a webhook was ignored"), 5);
    assert_eq!(left_out(&log, "more webhooks were ignored"), 17);
    for number in 1..=22 {
        let id = format!("r{number}");
        let lines: Vec<_> = log.iter().filter(|line| line["rejected"] == id.as_str()).collect();
        assert_eq!(lines.len(), 1, "{id}: {lines:#?}");
        assert!(lines[0]["message"].as_str().unwrap().starts_with("a webhook was rejected: the body"));
    }
    assert!(log.iter().all(|line| !line.to_string().contains(TOKEN)));
}
