//! Redirects are not followed, because they would send events to another server.

use std::io::ErrorKind;
use std::net::TcpListener;

use pagerduty_sandbox::{Fault, PATH};

use super::integrations::{Integrations, assert_same_bytes};
use super::{logged, wait_for_logs};

#[test]
fn a_redirect_is_not_followed_and_the_event_goes_once_it_is_gone() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = format!("http://{}{PATH}", elsewhere.local_addr().unwrap());
    let many = Integrations::start([301, 302, 307, 308].map(|status| Fault::redirect(status, &location)), &[]);
    many.queue_everywhere(1, "Disk full");
    many.wait_for_requests_everywhere(2);
    wait_for_logs(&many.bridge, 1, "BRIDGE_PAGERDUTY_URL");
    many.pagerduty.clear_faults();
    many.pagerduty.wait_for_accepted(4);
    for case in many.cases() {
        assert_same_bytes(&many.requests(case));
        assert_eq!(many.incident(case, 1).opened, 1);
    }
    // If the redirect had been followed, there would be a pending connection.
    elsewhere.set_nonblocking(true).unwrap();
    assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(logged(&many.bridge, "error"), [""; 0]);
}
