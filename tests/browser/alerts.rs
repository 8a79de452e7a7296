//! What the status page shows of each alert, the search, and the page that sends a test alert.

use std::fs;
use std::path::Path;

use chrono::{DateTime, FixedOffset};
use pagerduty_sandbox::IncidentState;

use crate::browser::Browser;
use crate::support::{KEY, PagerDuty, alert};
use crate::{bridge, log_in};

#[test]
fn each_alert_is_shown_with_where_it_came_from_and_found_by_what_is_known_of_it() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/legacy-9.1/python-exception.json");
    bridge.queue(&fs::read(recorded).unwrap());
    for issue in 1..=6 {
        bridge.queue(&alert(issue, &format!("Disk {issue} is 100% full")));
    }
    pagerduty.wait_for_accepted(7);
    let browser = Browser::start();
    browser.set_time_zone("Asia/Tokyo");
    log_in(&browser, &bridge);

    // The five newest, newest first; a phone shows the whole page in a few screens.
    browser.wait_for_text("#recent .title", "Disk 6 is 100% full");
    assert_eq!(browser.texts("#recent .title").len(), 5);
    browser.emulate_device(390, 844, true, "light");
    let height = browser.script("return document.scrollingElement.scrollHeight").as_u64().unwrap();
    assert!(height < 3_000, "{height} px");
    browser.emulate_device(1280, 900, false, "light");

    browser.click("#recent .more a");
    browser.wait_for_text("h1", "Recent alerts");
    assert_eq!(browser.texts("#recent .title").len(), 7);
    let text = "[...document.querySelectorAll('#alert-1 .meta > *')].map(part => part.textContent)";
    let shown = browser.script(&format!("return {text}"));
    assert_eq!(shown, serde_json::json!(["Python Backend", "production", "error", "incident 157", "Open in Sentry"]));
    let link = browser.script("return document.querySelector('#alert-1 a.sentry').href");
    assert!(link.as_str().unwrap().starts_with("http://sentry.example.test:9000/sentry/python-backend/issues/157/"));

    // The time is in the reader's time zone, with UTC beside it.
    let time = "const time = document.querySelector('#alert-1 time[data-local]');";
    let utc = browser.script(&format!("{time} return time.dateTime"));
    let utc = DateTime::parse_from_rfc3339(utc.as_str().unwrap()).unwrap();
    let tokyo = utc.with_timezone(&FixedOffset::east_opt(9 * 3_600).unwrap());
    let shown = browser.script(&format!("{time} return time.textContent"));
    assert_eq!(shown, tokyo.format("%H:%M:%S").to_string());
    let title = browser.script(&format!("{time} return time.title"));
    assert_eq!(title, utc.format("%Y-%m-%d %H:%M:%S UTC").to_string());

    let found = |text: &str| {
        browser.open(&format!("http://{}/recent", bridge.address));
        browser.type_into("#search", text);
        browser.click(".search button");
        browser.wait_for_text("h1", "Alerts found");
        browser.texts("#recent .title")
    };
    assert_eq!(found("disk 3"), ["Disk 3 is 100% full"]);
    assert_eq!(found("100%").len(), 6);
    assert_eq!(found("157").len(), 1, "an issue");
    let page = link.as_str().unwrap();
    assert_eq!(found(page).len(), 1, "the page of an issue");
    assert_eq!(found(&KEY[KEY.len() - 4..]).len(), 7, "a service key");
    assert_eq!(found("nothing like it"), [""; 0]);
    browser.wait_for_text("#recent .empty", "Nothing found for “nothing like it”.");
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn a_test_page_is_sent_after_a_confirmation_and_followed_until_pagerduty_has_it() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    let browser = Browser::start();
    log_in(&browser, &bridge);
    browser.click("#test-page");
    browser.wait_for_text("h1", "Send a test page?");
    assert_eq!(pagerduty.counters().requests, 0, "nothing is sent before the confirmation");
    browser.click("#send-test");
    browser.wait_for_text("#notice", "PagerDuty accepted the incident bridge-test-");
    browser.wait_for_text("#notice", "and its resolve. Check in PagerDuty whom it notified.");
    let incidents = pagerduty.incidents();
    let [incident] = &incidents[..] else { panic!("{incidents:#?}") };
    assert!(
        incident.incident_key.starts_with("bridge-test-") && incident.state == IncidentState::Resolved,
        "{incident:#?}"
    );
    assert_eq!((incident.opened, incident.events), (1, 2));
    assert_eq!(browser.console(), [""; 0]);
}
