//! Network errors below HTTP.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use pagerduty_sandbox::PATH;
use sentry_pagerduty_bridge::queue::State;
use socket2::{Domain, Socket, Type};

use super::support::{Bridge, ClosedPort, PagerDuty, alert};
use super::{logged, raw_server, wait_for_logs};

/// Short, so that several attempts fail quickly.
const TIMEOUT: (&str, &str) = ("BRIDGE_PAGERDUTY_TIMEOUT", "1s");

/// Waits for a second failed attempt after another alert was queued, lets PagerDuty recover, and asserts that both are
/// delivered.
#[track_caller]
fn assert_recovers(bridge: Bridge, failure: &str, recover: impl FnOnce() -> PagerDuty) {
    bridge.queue(&alert(1, "first"));
    wait_for_logs(&bridge, 1, failure);
    bridge.queue(&alert(2, "second"));
    wait_for_logs(&bridge, 2, failure);
    let pagerduty = recover();
    wait_for_logs(&bridge, 2, "\"delivered\"");
    for entry in pagerduty.journal() {
        assert_eq!(entry.request.target, PATH);
    }
    assert_eq!(pagerduty.counters().opened, 2);
    assert_eq!(logged(&bridge, "error"), [""; 0]);
    assert!(bridge.end().iter().all(|record| record.summary.state == State::Delivered));
}

#[test]
fn refused_connections_are_tried_again_until_somebody_listens() {
    let port = ClosedPort::new();
    let bridge = Bridge::start(&port.url());
    assert_recovers(bridge, "not delivered yet: no connection", || port.open());
}

#[test]
fn connections_that_nobody_takes_end_by_the_timeout_and_are_tried_again() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    // The kernel accepts one connection more than the backlog of 0, and drops the SYN of the others.
    let crowd: Vec<_> = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // The connection stays pending for ever.
            let _ = socket.connect(&address);
            socket
        })
        .collect();
    let url = format!("http://{}", address.as_socket().unwrap());
    let bridge = Bridge::start_with(&url, &[TIMEOUT]);
    assert_recovers(bridge, "not delivered yet: no connection within", || {
        drop(crowd);
        PagerDuty::listen(listener.into())
    });
}

#[test]
fn a_server_that_takes_the_request_and_falls_silent_is_left_after_the_timeout() {
    // Nothing calls `accept`: the kernel accepts the connection and the request, and there is never an answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bridge = Bridge::start_with(&format!("http://{}", listener.local_addr().unwrap()), &[TIMEOUT]);
    assert_recovers(bridge, "not delivered yet: no answer within 1s", || PagerDuty::listen(listener));
}

#[test]
fn an_answer_whose_head_drips_is_left_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bridge = Bridge::start_with(&format!("http://{}", listener.local_addr().unwrap()), &[TIMEOUT]);
    let dripping = listener.try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = raw_server::take_request(&dripping);
            stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
            // The head of the response never ends.
            while stream.write_all(b"X-Drip: drop\r\n").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
    });
    assert_recovers(bridge, "not delivered yet: no answer within 1s", || {
        drip.join().unwrap();
        PagerDuty::listen(listener)
    });
}

#[test]
fn a_name_that_does_not_resolve_keeps_events_waiting() {
    let settings = [TIMEOUT, ("BRIDGE_PAGERDUTY_ALLOW_HTTP", "on")];
    let bridge = Bridge::start_with("http://nonexistent.invalid", &settings);
    bridge.queue(&alert(1, "first"));
    wait_for_logs(&bridge, 2, "not delivered yet: no connection");
    bridge.queue(&alert(2, "second"));
    assert_eq!(logged(&bridge, "error"), [""; 0]);
    let records = bridge.end();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.summary.state == State::Waiting));
}
