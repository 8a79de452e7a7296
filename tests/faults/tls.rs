//! Nothing is sent to a server whose TLS certificate is not trusted.

use std::fs;

use sentry_pagerduty_bridge::queue::State;

use super::support::{Bridge, KEY, PagerDuty, TOKEN, alert, run};
use super::tls_proxy::{Authority, TlsBehaviour, TlsProxy};
use super::{logged, wait_for_logs};

/// The host of the proxy.
const HOST: &str = "127.0.0.1";

/// A year after all runs of the tests.
const LATER: i32 = 2999;

/// A year before all runs of the tests.
const EARLIER: i32 = 2020;

/// Starts a bridge with a PagerDuty that behaves as `wrong` says, and asserts that nothing is sent and nothing is lost, and
/// that everything is delivered after that is corrected.
#[track_caller]
fn sends_nothing_to(wrong: impl FnOnce(&Authority) -> TlsBehaviour, complaint: &str) {
    let pagerduty = PagerDuty::start();
    let authority = Authority::named("The authority that is trusted");
    let behind = pagerduty.url().trim_start_matches("http://").parse().unwrap();
    let proxy = TlsProxy::start(behind, wrong(&authority));
    let ca_file = authority.file();
    let bridge = Bridge::start_with(&proxy.url(), &[("BRIDGE_PAGERDUTY_CA_FILE", ca_file.to_str().unwrap())]);
    bridge.queue(&alert(1, "first"));
    wait_for_logs(&bridge, 1, "nothing is sent, PagerDuty cannot be trusted");
    bridge.queue(&alert(2, "second"));
    wait_for_logs(&bridge, 2, "nothing is sent, PagerDuty cannot be trusted");
    let alarms = logged(&bridge, "error");
    assert!(alarms.len() >= 2 && alarms.iter().all(|alarm| alarm.contains(complaint)), "{alarms:#?}");
    assert_eq!(pagerduty.counters().requests, 0);
    proxy.set_behaviour(authority.issue(HOST, LATER));
    wait_for_logs(&bridge, 2, "\"delivered\"");
    assert_eq!((pagerduty.counters().requests, pagerduty.counters().opened), (2, 2));
    assert!(bridge.end().iter().all(|record| record.summary.state == State::Delivered));
}

#[test]
fn nothing_is_sent_to_an_expired_certificate_until_it_is_renewed() {
    sends_nothing_to(|authority| authority.issue(HOST, EARLIER), "expired");
}

#[test]
fn nothing_is_sent_to_a_certificate_of_an_unknown_authority_until_it_is_replaced() {
    sends_nothing_to(|_| Authority::named("Somebody else").issue(HOST, LATER), "UnknownIssuer");
}

#[test]
fn nothing_is_sent_to_a_certificate_for_another_host_until_it_is_replaced() {
    sends_nothing_to(|authority| authority.issue("events.example.test", LATER), "not valid for name");
}

#[test]
fn nothing_is_sent_by_tls_1_1_until_the_server_speaks_a_newer_one() {
    sends_nothing_to(|_| TlsBehaviour::OldTls, "TLS");
}

#[test]
fn nothing_is_sent_to_a_server_that_speaks_no_tls_until_it_does() {
    sends_nothing_to(|_| TlsBehaviour::Plain, "TLS");
}

#[test]
fn a_file_of_authorities_that_is_no_use_is_a_wrong_setting() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let no_certificate = "-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    let files = [
        home.path().join("missing.pem"),
        home.path().to_owned(),
        write("empty.pem", ""),
        write("text.pem", "no certificate"),
        write("torn.pem", "-----BEGIN CERTIFICATE-----\n!!!\n"),
        write("other.pem", no_certificate),
    ];
    for file in files {
        let file = file.to_str().unwrap();
        let ended = run(
            &["serve"],
            &[
                ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
                ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
                ("BRIDGE_LISTEN", "127.0.0.1:0"),
                ("BRIDGE_PAGERDUTY_CA_FILE", file),
            ],
        );
        assert_eq!(ended.code, Some(2), "{file}: {ended:?}");
        let sentence = ended.stderr.lines().find(|line| line.contains("BRIDGE_PAGERDUTY_CA_FILE")).unwrap_or_default();
        assert!(sentence.contains(file) && sentence.contains("at least one certificate"), "{ended:?}");
    }
}
