//! What Sentry does, or does not.

use std::time::Duration;

use sentry_pagerduty_bridge::monitor::Intervals;

use crate::inside::{INTERVALS, Inside};
use crate::support::{KEY, OTHER_KEY, PagerDuty, alert};
use crate::{OTHER_WAY, SECRET, causes, is_over, is_paged, post_signed, post_wrong_signatures};

#[test]
fn silence_is_one_page_and_the_next_webhook_ends_it() {
    let pagerduty = PagerDuty::start();
    let settings = [OTHER_WAY, ("BRIDGE_SILENCE_ALARM", "3s"), ("BRIDGE_INCIDENT_KEY_PREFIX", "")];
    let bridge = Inside::start(&pagerduty.url(), &settings);
    is_paged(&pagerduty, OTHER_KEY, "silence");
    bridge.queue(&alert(1, "Disk full"));
    is_over(&pagerduty, OTHER_KEY, "silence");
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
    let bridge = Inside::start(&pagerduty.url(), &[("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)]);
    post_wrong_signatures(bridge.address);
    is_paged(&pagerduty, KEY, "signatures");
    assert_eq!(post_signed(bridge.address, SECRET), 202);
    is_over(&pagerduty, KEY, "signatures");
}

#[test]
fn the_alarm_says_how_many_webhooks_are_held_and_a_secret_that_verifies_them_ends_it() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("secret");
    std::fs::write(&file, "the-secret-before-the-rotation").unwrap();
    let in_file = ("BRIDGE_SENTRY_CLIENT_SECRET_FILE", file.to_str().unwrap());
    let mut bridge = Inside::start(&pagerduty.url(), &[in_file]);
    post_wrong_signatures(bridge.address);
    is_paged(&pagerduty, KEY, "signatures");
    let event = pagerduty.journal().remove(0).event.unwrap();
    let said = event["description"].as_str().unwrap();
    assert!(
        said.contains("(5 are held and are delivered once a secret verifies them, at most 24 hours after"),
        "{said}"
    );
    bridge.end();
    std::fs::write(&file, "the-secret-that-sentry-has-since-today").unwrap();
    bridge.restart();
    is_over(&pagerduty, KEY, "signatures");
    let alerts: Vec<_> = pagerduty.triggers().into_iter().filter(|(key, _)| !key.contains("signatures")).collect();
    assert_eq!(alerts.len(), 1, "the same alert five times is one: {alerts:?}");
}

#[test]
fn five_wrong_signatures_at_once_page_nobody_and_those_of_minutes_tell_where_they_came_from() {
    let pagerduty = PagerDuty::start();
    let settings = [("BRIDGE_SENTRY_CLIENT_SECRET", SECRET), ("BRIDGE_SILENCE_ALARM", "3s")];
    let intervals = Intervals { unverified: Duration::from_secs(4), ..INTERVALS };
    let bridge = Inside::start_in(intervals, &pagerduty.url(), &settings);
    post_wrong_signatures(bridge.address);
    // This alarm comes later than any for what came at once.
    is_paged(&pagerduty, KEY, "silence");
    assert_eq!(causes(&pagerduty), ["silence"]);
    assert_eq!(post_signed(bridge.address, "the-secret-that-sentry-has-since-today"), 401);
    is_paged(&pagerduty, KEY, "signatures");
    let journal = pagerduty.journal();
    let description = journal.last().unwrap().text("description").unwrap();
    assert!(description.contains("6 webhooks in a row, within ") && description.contains("they came from 127.0.0.1: "));
    assert_eq!(post_signed(bridge.address, SECRET), 202);
    is_over(&pagerduty, KEY, "signatures");
}
