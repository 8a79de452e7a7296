//! Alarms about Sentry's webhooks: none comes, or they have wrong signatures.

use std::time::{Duration, Instant};

use pagerduty_sandbox::{Fault, FaultRule};

use crate::chat::Chat;
use crate::in_process::{INTERVALS, InProcessBridge};
use crate::support::{KEY, OTHER_KEY, PATIENCE, PagerDuty, TOKEN, alert, get_with};
use crate::{
    ALARM_KEY, SECRET, post_signed, post_signed_to, post_wrong_signatures, wait_for_alarm, wait_until_resolved,
};

#[test]
fn silence_is_one_page_and_the_next_webhook_ends_it() {
    let pagerduty = PagerDuty::start();
    let settings = [ALARM_KEY, ("BRIDGE_SILENCE_ALARM", "3s"), ("BRIDGE_INCIDENT_KEY_PREFIX", "")];
    let bridge = InProcessBridge::start(&pagerduty.url(), &settings);
    wait_for_alarm(&pagerduty, OTHER_KEY, "silence");
    bridge.queue(&alert(1, "Disk full"));
    wait_until_resolved(&pagerduty, OTHER_KEY, "silence");
    let entry = pagerduty.journal().remove(0);
    let event = entry.event.unwrap();
    let description = event["description"].as_str().unwrap();
    assert!(
        description.starts_with("sentry-pagerduty-bridge: no webhook came since the bridge started, for ")
            && description.contains("BRIDGE_SILENCE_ALARM is 3s"),
        "{description}"
    );
    assert_eq!(event["client"], "sentry-pagerduty-bridge");
    assert_eq!(event["details"]["cause"], "silence");
    assert_eq!(event["details"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(entry.warnings.is_empty() && entry.violations.is_empty(), "{:#?} {:#?}", entry.warnings, entry.violations);
}

#[test]
fn wrong_signatures_in_a_row_are_one_page_until_one_is_right() {
    let pagerduty = PagerDuty::start();
    let bridge = InProcessBridge::start(&pagerduty.url(), &[("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)]);
    post_wrong_signatures(bridge.address);
    wait_for_alarm(&pagerduty, KEY, "signatures");
    assert_eq!(post_signed(bridge.address, SECRET), 202);
    wait_until_resolved(&pagerduty, KEY, "signatures");
}

#[test]
fn the_alarm_says_how_many_webhooks_are_held_and_a_secret_that_verifies_them_ends_it() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("secret");
    std::fs::write(&file, "the-secret-before-the-rotation").unwrap();
    let in_file = ("BRIDGE_SENTRY_CLIENT_SECRET_FILE", file.to_str().unwrap());
    let mut bridge = InProcessBridge::start(&pagerduty.url(), &[in_file]);
    assert_eq!(post_signed(bridge.address, "the-secret-that-sentry-has-since-today"), 401);
    wait_for_alarm(&pagerduty, KEY, "signatures");
    let event = pagerduty.journal().remove(0).event.unwrap();
    let said = event["description"].as_str().unwrap();
    assert!(said.contains("; 1 is held and is delivered once a secret verifies it, at most 24 hours after"), "{said}");
    post_wrong_signatures(bridge.address);
    bridge.end();
    std::fs::write(&file, "the-secret-that-sentry-has-since-today").unwrap();
    bridge.restart();
    wait_until_resolved(&pagerduty, KEY, "signatures");
    let alerts: Vec<_> = pagerduty.triggers().into_iter().filter(|(key, _)| !key.contains("signatures")).collect();
    assert_eq!(alerts.len(), 1, "the same alert six times is one: {alerts:?}");
}

#[test]
fn alarms_and_the_fallback_webhook_go_where_their_files_say_by_now() {
    let (before, after) = (Chat::start(), Chat::start());
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let [key, url, admin] = ["key", "url", "admin"].map(|name| home.path().join(name));
    std::fs::write(&key, OTHER_KEY).unwrap();
    std::fs::write(&url, before.url()).unwrap();
    std::fs::write(&admin, "the-admin-token-of-before").unwrap();
    let settings = [
        ("BRIDGE_ALARM_SERVICE_KEY_FILE", key.to_str().unwrap()),
        ("BRIDGE_FALLBACK_URL_FILE", url.to_str().unwrap()),
        ("BRIDGE_ADMIN_TOKEN_FILE", admin.to_str().unwrap()),
        ("BRIDGE_SENTRY_CLIENT_SECRET", SECRET),
    ];
    let bridge = InProcessBridge::start(&pagerduty.url(), &settings);
    std::fs::write(&key, KEY).unwrap();
    std::fs::write(&url, after.url()).unwrap();
    // It is written last: once it is used, so are the others.
    std::fs::write(&admin, "the-admin-token-of-after").unwrap();
    let bearer = [("Authorization", "Bearer the-admin-token-of-after")];
    let deadline = Instant::now() + PATIENCE;
    while get_with(bridge.address, "/api/status", &bearer).status != 200 {
        assert!(Instant::now() < deadline, "the files were not read again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(post_signed(bridge.address, "the-secret-that-sentry-never-had"), 401);
    wait_for_alarm(&pagerduty, KEY, "signatures");
    pagerduty.inject(FaultRule::new(Fault::status(503))).unwrap();
    bridge.queue(&alert(1, "Disk full"));
    assert_eq!(after.wait_for(1)[0]["status"], "outage");
    assert!(before.requests().is_empty());
}

#[test]
fn a_held_webhook_pages_after_a_while_and_a_stranger_who_sends_on_beside_right_ones_pages_once() {
    let pagerduty = PagerDuty::start();
    let settings = [("BRIDGE_SENTRY_CLIENT_SECRET", SECRET), ("BRIDGE_SILENCE_ALARM", "4s"), ALARM_KEY];
    let bridge = InProcessBridge::start_in(INTERVALS, Duration::from_secs(2), &pagerduty.url(), &settings);
    let stranger = || assert_eq!(post_signed(bridge.address, "the-secret-that-sentry-never-had"), 401);
    stranger();
    let description = wait_for_alarm(&pagerduty, OTHER_KEY, "signatures").description;
    let seconds = description
        .split_once("a webhook had a wrong signature ")
        .and_then(|(_, rest)| rest.split_once("s ago"))
        .and_then(|(number, _)| number.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 2), "{description}");
    assert!(description.contains("sent from 127.0.0.1: "), "{description}");
    wait_for_alarm(&pagerduty, OTHER_KEY, "silence");
    // A correctly signed webhook shows that the other one was not Sentry's.
    assert_eq!(post_signed(bridge.address, SECRET), 202);
    wait_until_resolved(&pagerduty, OTHER_KEY, "signatures");
    wait_until_resolved(&pagerduty, OTHER_KEY, "silence");
    (0..4).for_each(|_| stranger());
    // An alarm for these would have been raised before this one.
    pagerduty.wait_for("the next silence", |records| {
        records.incident(OTHER_KEY, "sentry-pagerduty-bridge/silence").is_some_and(|incident| incident.opened == 2)
    });
    wait_until_resolved(&pagerduty, OTHER_KEY, "signatures");
}

#[test]
fn a_wrong_signature_beside_a_right_token_pages_whatever_other_integrations_send() {
    let pagerduty = PagerDuty::start();
    let bridge = InProcessBridge::start_in(
        INTERVALS,
        Duration::from_secs(2),
        &pagerduty.url(),
        &[("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)],
    );
    let path = format!("/sentry/{TOKEN}");
    assert_eq!(post_signed_to(bridge.address, &path, "the-secret-of-another-integration"), 401);
    assert_eq!(post_signed(bridge.address, SECRET), 202);
    let description = wait_for_alarm(&pagerduty, KEY, "signatures").description;
    assert!(description.contains("a webhook with a right token had a wrong signature"), "{description}");
    assert!(description.contains("1 is held"), "{description}");
}
