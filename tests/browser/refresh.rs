//! With JavaScript the page updates itself, and keeps the focus where it is.

use pagerduty_sandbox::{Fault, FaultRule};

use crate::browser::Browser;
use crate::support::{PagerDuty, alert};
use crate::{bridge, log_in};

#[test]
fn a_new_alert_appears_by_itself_and_focus_stays_where_it_was() {
    let pagerduty = PagerDuty::start();
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    let bridge = bridge(&pagerduty);
    bridge.queue(&alert(7, "Disk full"));
    bridge.wait_for_log("dead letter");
    let browser = Browser::start();
    log_in(&browser, &bridge);
    browser
        .script("window.first = document.getElementById('dead'); document.getElementById('retry-events-1').focus();");

    bridge.queue(&alert(8, "Queue stuck"));
    browser.wait_for_text("#recent .title", "Queue stuck");
    // Another dead letter replaces the section.
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    bridge.queue(&alert(9, "Disk gone"));
    browser.wait_until("a new list of dead letters", || {
        browser.script("return window.first !== document.getElementById('dead')") == true
    });
    assert_eq!(browser.script("return document.activeElement.id"), "retry-events-1");
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn when_the_session_ends_what_was_seen_goes() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    bridge.queue(&alert(7, "Disk full"));
    let browser = Browser::start();
    log_in(&browser, &bridge);
    browser.wait_for_text("#recent .title", "Disk full");
    browser.forget_cookies();
    browser.wait_for("#token");
    assert!(!browser.texts("body").concat().contains("Disk full"));
}

#[test]
fn when_the_bridge_is_gone_the_page_says_so() {
    let pagerduty = PagerDuty::start();
    let mut bridge = bridge(&pagerduty);
    let browser = Browser::start();
    log_in(&browser, &bridge);
    assert_eq!(browser.texts("#lost"), [""]);
    bridge.process.kill();
    browser.wait_for_text("#lost", "The bridge does not answer. This page is from");
}
