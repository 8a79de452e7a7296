//! Interim responses (1xx) before PagerDuty's response.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use sentry_pagerduty_bridge::queue::State;

use super::support::{Bridge, PATIENCE, alert};
use super::tls_proxy::{Authority, TlsProxy};
use super::{logged, raw_server, wait_for_logs};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const EARLY_HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nServer: nginx\r\n\r\n";

/// Sends these pieces and then PagerDuty's response.
fn answer(stream: &mut TcpStream, before: &[&[u8]]) {
    for piece in before {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
        // So that it does not arrive together with the next piece.
        std::thread::sleep(Duration::from_millis(20));
    }
    raw_server::answer_success(stream);
}

/// Answers three events on one connection, and asserts that each is delivered by its first attempt.
#[track_caller]
fn takes_only_the_last_answer(listener: &TcpListener, bridge: Bridge) {
    let (first, rest) = EARLY_HINTS.split_at(9);
    let interim_responses: [&[&[u8]]; 3] =
        [&[&[CONTINUE, EARLY_HINTS].concat()], &[CONTINUE, first, rest, CONTINUE], &[]];
    bridge.queue(&alert(1, "Disk full"));
    let (mut stream, mut request) = raw_server::take_request(listener);
    for (issue, before) in (1..).zip(interim_responses) {
        assert!(request.contains(&format!(r#""incident_key":"{issue}""#)), "{request}");
        answer(&mut stream, before);
        wait_for_logs(&bridge, usize::try_from(issue).unwrap(), "\"delivered\"");
        if issue < 3 {
            bridge.queue(&alert(issue + 1, "Disk full"));
            request = raw_server::read_request(&mut stream);
        }
    }
    assert_eq!((logged(&bridge, "warn"), logged(&bridge, "error")), (vec![], vec![]));
    assert!(bridge.end().iter().all(|record| (record.summary.state, record.summary.attempts) == (State::Delivered, 1)));
}

#[test]
fn an_interim_answer_is_skipped_and_the_one_behind_it_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bridge = Bridge::start(&format!("http://{}", listener.local_addr().unwrap()));
    takes_only_the_last_answer(&listener, bridge);
}

#[test]
fn an_interim_answer_is_skipped_behind_tls_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = Authority::named("The authority that is trusted");
    let proxy = TlsProxy::start(listener.local_addr().unwrap(), authority.issue("127.0.0.1", 2999));
    let ca_file = authority.file();
    let bridge = Bridge::start_with(&proxy.url(), &[("BRIDGE_PAGERDUTY_CA_FILE", ca_file.to_str().unwrap())]);
    takes_only_the_last_answer(&listener, bridge);
}

#[test]
fn who_answers_nothing_but_interim_answers_is_left_and_the_event_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bridge = Bridge::start(&format!("http://{}", listener.local_addr().unwrap()));
    bridge.queue(&alert(1, "Disk full"));
    let (mut stream, _) = raw_server::take_request(&listener);
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // This ends when the bridge closes the connection.
    while stream.write_all(CONTINUE).is_ok() {}
    bridge.wait_for_log("not delivered yet: answered 100");
    let (mut stream, _) = raw_server::take_request(&listener);
    raw_server::answer_success(&mut stream);
    wait_for_logs(&bridge, 1, "\"delivered\"");
    assert!(bridge.end().iter().all(|record| (record.summary.state, record.summary.attempts) == (State::Delivered, 2)));
}
