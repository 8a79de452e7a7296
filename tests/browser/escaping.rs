//! HTML in the title of an alert is escaped.

use crate::browser::Browser;
use crate::support::{PagerDuty, alert};
use crate::{bridge, log_in};

#[test]
fn a_title_that_wants_to_be_markup_stays_text() {
    let title = "<img src=x onerror=\"alert('owned')\"><script>alert('owned')</script> & 'quotes\"";
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    bridge.queue(&alert(7, title));
    let browser = Browser::start();
    log_in(&browser, &bridge);
    browser.wait_for_text("#recent .title", title);
    // In the page as it was loaded, and after the page's script has replaced a part of it.
    browser.script("window.first = document.getElementById('recent')");
    bridge.queue(&alert(8, "Queue stuck"));
    browser.wait_until("a new list", || {
        browser.script("return window.first !== document.getElementById('recent')") == true
    });
    assert_eq!(browser.texts("#recent .title"), ["Queue stuck", title]);
    browser.click("#alert-1 a.title");
    browser.wait_for_text("#body", "onerror=");
    assert_eq!(browser.texts("h1"), [title]);
    assert!(!browser.shows_dialog());
    assert_eq!(browser.script("return document.querySelectorAll('img, main script').length"), 0);
    assert_eq!(browser.console(), [""; 0]);
}
