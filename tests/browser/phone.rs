//! On the screen of a phone no page has to be scrolled sideways, in light and in dark mode.

use pagerduty_sandbox::{Fault, FaultRule};

use crate::browser::Browser;
use crate::support::{PagerDuty, alert};
use crate::{bridge, log_in};

#[test]
fn no_page_is_wider_than_a_phone_in_light_and_in_dark() {
    let pagerduty = PagerDuty::start();
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    let bridge = bridge(&pagerduty);
    bridge.queue(&alert(7, &format!("{} {}", "W".repeat(500), "word ".repeat(50))));
    bridge.wait_for_log("dead letter");
    bridge.queue(&alert(8, "Disk full"));
    pagerduty.wait_for_accepted(1);
    bridge.reject(format!("{{\"{}\": 1}}", "x".repeat(400)).as_bytes(), 422);
    let browser = Browser::start();
    let at = |path: &str| format!("http://{}{path}", bridge.address);
    let fits = |path: &str| {
        for (width, scheme) in [(390, "light"), (390, "dark"), (320, "light")] {
            browser.emulate_device(width, 844, true, scheme);
            browser.open(&at(path));
            let sizes = "return [document.scrollingElement.scrollWidth, innerWidth]";
            assert_eq!(browser.script(sizes), serde_json::json!([width, width]), "{path} at {width}");
            let is_dark = "return matchMedia('(prefers-color-scheme: dark)').matches";
            assert_eq!(browser.script(is_dark), scheme == "dark");
        }
    };
    fits("/");
    log_in(&browser, &bridge);
    browser.wait_for_text("#dead article", "WWW");
    let paths = [
        "/",
        "/dead",
        "/rejected",
        "/recent",
        "/recent?q=word",
        "/services",
        "/test",
        "/events/1",
        "/rejected/r1",
        "/events/1/discard",
        "/dead/discard",
    ];
    for path in paths {
        fits(path);
    }
    browser.open(&at("/"));
    let narrow = "return [...document.querySelectorAll('.title')].filter(one => one.offsetWidth < 200).length";
    assert_eq!(browser.script(narrow), 0, "titles have room");
    let small = "return [...document.querySelectorAll('button, .button')].filter(one => one.offsetHeight < 44).length";
    assert_eq!(browser.script(small), 0, "what is tapped is as tall as a thumb");
}
