//! Actions of the operator on the status page: log in, show a dead letter, retry it, discard it.

use pagerduty_sandbox::{Fault, FaultRule};

use crate::browser::Browser;
use crate::support::{Bridge, PagerDuty, alert};
use crate::{bridge, log_in};

/// A bridge with one dead letter, which PagerDuty would accept now.
#[track_caller]
fn with_dead_letter(pagerduty: &PagerDuty) -> Bridge {
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    let bridge = bridge(pagerduty);
    bridge.queue(&alert(7, "Disk full"));
    bridge.wait_for_log("dead letter");
    bridge
}

#[test]
fn a_dead_letter_is_seen_retried_and_seen_delivered() {
    let pagerduty = PagerDuty::start();
    let bridge = with_dead_letter(&pagerduty);
    let browser = Browser::start();
    log_in(&browser, &bridge);
    assert!(!browser.texts(".word").contains(&"Healthy".to_owned()));
    browser.wait_for_text("#dead article", "Disk full");
    browser.wait_for_text("#dead .reason", "400");

    browser.click("#retry-events-1");
    browser.wait_for_text("#notice", "1 entry was requeued: ");
    pagerduty.wait_for_accepted(1);
    browser.wait_for_text("#notice", "1 entry was requeued: delivered.");
    browser.wait_for_text("#recent .state", "delivered");
    browser.wait_for_text("#dead .empty", "No dead letters.");
    browser.wait_for_text(".word", "Healthy");
    // The page's script has removed the notice from the address, so a reload does not show it again.
    assert_eq!(browser.address(), format!("http://{}/", bridge.address));
    assert_eq!(browser.title(), "Healthy · PagerDuty bridge");
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn everything_works_without_scripts() {
    let pagerduty = PagerDuty::start();
    let bridge = with_dead_letter(&pagerduty);
    let browser = Browser::without_scripts();
    log_in(&browser, &bridge);
    browser.click("#retry-events-1");
    browser.wait_for_text("#notice", "1 entry was requeued: ");
    // A script would have removed it from the address.
    assert!(browser.address().contains("?notice=retried"), "{}", browser.address());
    pagerduty.wait_for_accepted(1);
    browser.wait_until("a page that shows it delivered", || {
        browser.open(&format!("http://{}/", bridge.address));
        browser.texts("#recent .state") == ["delivered"]
    });
    browser.click(".top button");
    browser.wait_for("#token");
}

#[test]
fn discarding_asks_first_and_then_it_is_gone() {
    let pagerduty = PagerDuty::start();
    let bridge = with_dead_letter(&pagerduty);
    bridge.reject(b"{}", 422);
    let browser = Browser::start();
    log_in(&browser, &bridge);
    browser.click("#discard-events-1");
    browser.wait_for_text("h1", "Discard event 1?");
    browser.click(".danger");
    browser.wait_for_text("#dead .empty", "No dead letters.");

    browser.click("#rejected article a");
    browser.wait_for_text("#body", "{}");
    browser.click(".back a");
    browser.click("#discard-rejected");
    browser.wait_for_text("h1", "Discard 1 rejected webhook?");
    browser.click(".danger");
    browser.wait_for_text("#notice", "1 entry was discarded.");
    browser.wait_for_text("#rejected .empty", "No rejected webhooks.");
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn a_wrong_token_shows_nothing_but_that_it_is_wrong() {
    let pagerduty = PagerDuty::start();
    let bridge = with_dead_letter(&pagerduty);
    let browser = Browser::start();
    browser.open(&format!("http://{}/events/1", bridge.address));
    browser.type_into("#token", "a-wrong-token-that-is-long-enough");
    browser.click("form.login button");
    browser.wait_for_text("#problem", "The token is wrong.");
    assert!(!browser.texts("body").concat().contains("Disk full"));
    // After the right token the browser is sent to the page that was asked for.
    browser.type_into("#token", crate::ADMIN);
    browser.click("form.login button");
    browser.wait_for_text("h1", "Disk full");
    assert!(browser.address().ends_with("/events/1"));
}
