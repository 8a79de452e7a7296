//! The status page in a real browser: headless Chromium, a real bridge and the strict sandbox.
//!
//! `make setup` installs Chromium and its driver.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod alerts;
mod browser;
mod driver;
mod escaping;
mod headline;
mod operator_actions;
mod phone;
mod refresh;
mod screenshots;
#[path = "../bridge/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/bridge, which needs more of it")]
mod support;

use self::browser::Browser;
use self::support::{Bridge, PagerDuty};

/// The admin token, which gives access to the status page.
const ADMIN: &str = "admin-token-for-tests-alone";

/// A bridge with a status page.
#[track_caller]
fn bridge(pagerduty: &PagerDuty) -> Bridge {
    Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ADMIN_TOKEN", ADMIN)])
}

/// Logs in through the form, and waits for the status page.
#[track_caller]
fn log_in(browser: &Browser, bridge: &Bridge) {
    browser.open(&format!("http://{}/", bridge.address));
    browser.type_into("#token", ADMIN);
    browser.click("form.login button");
    browser.wait_for("#state .word");
    // From now on the console holds only errors of the status page itself: the 401 of the log-in form is in it as well.
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("401 (Unauthorized)")), "{console:?}");
}
