//! What Sentry does, or does not.

use crate::inside::Inside;
use crate::support::{KEY, OTHER_KEY, PagerDuty, alert};
use crate::{OTHER_WAY, SECRET, is_over, is_paged, post_signed, post_wrong_signatures};

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
