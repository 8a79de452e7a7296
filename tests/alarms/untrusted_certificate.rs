//! A PagerDuty whose TLS certificate is not trusted.

use crate::support::{Bridge, PagerDuty, alert};
use crate::tls_proxy::{Authority, TlsProxy};
use crate::{ON, causes};

#[test]
fn that_pagerduty_could_not_be_trusted_pages_nobody_once_it_can() {
    let pagerduty = PagerDuty::start();
    let behind = pagerduty.url().trim_start_matches("http://").parse().unwrap();
    let authority = Authority::named("The authority that is trusted");
    let proxy = TlsProxy::start(behind, Authority::named("Somebody else").issue("127.0.0.1", 2999));
    let ca_file = authority.file();
    let settings = [ON, ("BRIDGE_PAGERDUTY_CA_FILE", ca_file.to_str().unwrap())];
    let bridge = Bridge::start_with(&proxy.url(), &settings);
    bridge.queue(&alert(1, "Disk full"));
    bridge.wait_for_log("nothing is sent, because the TLS certificate at PagerDuty's address is not trusted");
    proxy.set_behaviour(authority.issue("127.0.0.1", 2999));
    bridge.wait_for_log("alarm resolved");
    pagerduty.wait_for_accepted(1);
    assert!(bridge.end().iter().all(|record| record.summary.incident_key.as_str() == "1"));
    assert_eq!(causes(&pagerduty), [""; 0]);
}
