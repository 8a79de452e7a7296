//! The first line of the page names what is wrong, since when, and how many alerts wait or are dead letters, before and
//! after a restart.

use pagerduty_sandbox::{Fault, FaultRule, RetryAfter, ThrottleStatus};
use serde_json::Value;

use crate::browser::Browser;
use crate::support::{Bridge, ClosedPort, PagerDuty, alert, execute_sql, get_with};
use crate::{ADMIN, bridge, log_in};

/// The response of `/api/status`.
#[track_caller]
fn status(bridge: &Bridge) -> Value {
    let authorization = format!("Bearer {ADMIN}");
    let (status, said) =
        get_with(bridge.address, "/api/status", &[("Authorization", &authorization)]).status_and_json();
    assert_eq!(status, 200, "{said}");
    said
}

/// Waits for a headline that begins with `begins`, restarts the bridge, and asserts that the health, the sentence and its
/// time are the same. Returns the headline after the restart.
#[track_caller]
fn assert_same_after_restart(browser: &Browser, bridge: &mut Bridge, word: &str, begins: &str) -> Value {
    log_in(browser, bridge);
    browser.wait_for_text("#headline", begins);
    assert_eq!(browser.texts(".word"), [word]);
    let before = status(bridge)["headline"].clone();
    assert!(before["since"].is_string(), "{before}");
    assert!(bridge.terminate("TERM").success());
    bridge.restart();
    log_in(browser, bridge);
    browser.wait_for_text("#headline", begins);
    assert_eq!(browser.texts(".word"), [word]);
    let after = status(bridge)["headline"].clone();
    assert_eq!(after["since"], before["since"], "{before} {after}");
    assert_eq!((&after["waiting_alerts"], &after["dead"]), (&before["waiting_alerts"], &before["dead"]));
    after
}

#[test]
fn with_pagerduty_down_the_first_line_names_the_outage_and_what_waits() {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start_with(&port.url(), &[("BRIDGE_ADMIN_TOKEN", ADMIN)]);
    bridge.queue(&alert(7, "Disk full"));
    bridge.wait_for_log("not delivered yet: no connection");
    bridge.queue(&alert(8, "Queue stuck"));
    let browser = Browser::start();
    let begins = "PagerDuty has not answered since ";
    let said = assert_same_after_restart(&browser, &mut bridge, "Degraded", begins);
    assert_eq!(said["waiting_alerts"], 2);
    browser.wait_for_text("#headline", "; 2 alerts wait, the oldest ");
    browser.wait_for_text("#destinations .reason", "no connection");

    // As if the outage had begun an hour earlier.
    assert!(bridge.terminate("TERM").success());
    execute_sql(&bridge, "UPDATE failing_keys SET since = since - 3600000 WHERE service_key <> ?", b"");
    execute_sql(&bridge, "UPDATE events SET first_seen = first_seen - 3600000 WHERE incident_key <> ?", b"");
    bridge.restart();
    log_in(&browser, &bridge);
    browser.wait_for_text(".word", "Not delivering");
    browser.wait_for_text("#headline", "the oldest 1 h");
    assert_eq!(browser.texts("#vitals .old, #destinations .number.old").len(), 2, "what is old stands out");
    assert_eq!(status(&bridge)["status"], "failing");

    let pagerduty = port.open();
    pagerduty.wait_for_accepted(2);
    browser.wait_for_text(".word", "Healthy");
    assert_eq!(browser.texts("#headline"), [""; 0]);
}

#[test]
fn with_pagerduty_throttling_or_refusing_the_first_line_names_the_key_or_the_dead_letter() {
    let browser = Browser::start();
    let pagerduty = PagerDuty::start();
    let throttled = Fault::Throttled { status: ThrottleStatus::Forbidden, retry_after: Some(RetryAfter::Seconds(60)) };
    pagerduty.inject(FaultRule::new(throttled)).unwrap();
    let mut throttled = bridge(&pagerduty);
    throttled.queue(&alert(7, "Disk full"));
    throttled.wait_for_log("not delivered yet");
    let begins = "PagerDuty has throttled the service key …00A1 since ";
    let said = assert_same_after_restart(&browser, &mut throttled, "Degraded", begins);
    assert_eq!(said["waiting_alerts"], 1);

    let pagerduty = PagerDuty::with_fault(Fault::status(400));
    let mut refused = bridge(&pagerduty);
    refused.queue(&alert(7, "Disk full"));
    refused.wait_for_log("dead letter");
    let begins = "1 event could not be delivered and is a dead letter; it was given up at ";
    let said = assert_same_after_restart(&browser, &mut refused, "Not delivering", begins);
    assert_eq!((&said["dead"], &said["waiting_alerts"]), (&Value::from(1), &Value::from(0)));

    // It is retried, and becomes a dead letter again.
    browser.click("#retry-events-1");
    browser.wait_for_text("#notice", "1 entry was requeued: died again (answered 400");
    assert!(browser.address().ends_with('/'), "a reload does not say it again: {}", browser.address());
    assert_eq!(browser.console(), [""; 0]);
}
