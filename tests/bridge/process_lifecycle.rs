//! How a bridge stops: signals, drain, grace period, kills; and its log format.

use std::thread;
use std::time::{Duration, Instant};

use pagerduty_sandbox::{Fault, FaultRule};
use sentry_pagerduty_bridge::queue::State;
use serde_json::{Value, json};

use crate::support::{Bridge, ClosedPort, Connection, KEY, PagerDuty, Process, TOKEN, alert, program};

fn ends_in_order_after(signal: &str) {
    let pagerduty = PagerDuty::start();
    // Longer than this test takes on any machine.
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_SHUTDOWN_DRAIN", "5m")]);
    assert_eq!(bridge.get("/readyz").status_and_json(), (200, json!({"status": "ready"})));
    bridge.process.signal(signal);
    bridge.wait_for_log("stopping");
    assert_eq!(bridge.get("/readyz").status_and_json(), (503, json!({"status": "stopping"})));
    assert_eq!(bridge.get("/healthz").status_and_json(), (200, json!({"status": "ok"})));
    bridge.queue(&alert(7, "Disk full"));
    pagerduty.wait_for_accepted(1);

    // A drain that is over soon shows that the bridge then exits.
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_SHUTDOWN_DRAIN", "100ms")]);
    bridge.queue(&alert(8, "Disk full"));
    assert_eq!(bridge.terminate(signal).code(), Some(0), "{:#?}", bridge.process.stderr.all());
    bridge.wait_for_log("webhooks are served for another 100ms");
    pagerduty.wait_for_accepted(2);
}

#[test]
fn after_sigterm_it_is_not_ready_at_once_and_serves_on_while_it_drains() {
    ends_in_order_after("TERM");
}

#[test]
fn after_sigint_it_is_not_ready_at_once_and_serves_on_while_it_drains() {
    ends_in_order_after("INT");
}

#[test]
fn a_second_signal_ends_it_at_once_and_what_waits_stays_in_the_queue() {
    for [first, second] in [["TERM", "INT"], ["INT", "TERM"], ["TERM", "TERM"]] {
        let port = ClosedPort::new();
        let mut bridge = Bridge::start_with(&port.url(), &[("BRIDGE_SHUTDOWN_DRAIN", "5m")]);
        bridge.queue(&alert(7, "Disk full"));
        bridge.process.signal(first);
        bridge.wait_for_log("stopping");
        assert_eq!(bridge.terminate(second).code(), Some(1), "{first}, {second}");
        bridge.wait_for_log("a second signal");
        let pagerduty = port.open();
        bridge.restart();
        pagerduty.wait_for_accepted(1);
    }
}

#[test]
fn a_delivery_under_way_may_end() {
    let pagerduty = PagerDuty::with_fault(Fault::Delay { by: Duration::from_secs(2) });
    let bridge = Bridge::start(&pagerduty.url());
    bridge.queue(&alert(7, "Disk full"));
    pagerduty.wait_for_requests(1);
    let records = bridge.end();
    assert_eq!((records[0].summary.state, records[0].summary.attempts), (State::Delivered, 1));
    assert_eq!(pagerduty.counters().requests, 1);
}

#[test]
fn a_delivery_that_takes_longer_than_the_grace_is_made_again_after_the_next_start() {
    let hang = Fault::Hang { lasts: Duration::from_mins(5) };
    let pagerduty = PagerDuty::with_fault(FaultRule::new(hang).times(1));
    let settings = [("BRIDGE_SHUTDOWN_GRACE", "1s"), ("BRIDGE_PAGERDUTY_TIMEOUT", "1m")];
    let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);
    bridge.queue(&alert(7, "Disk full"));
    pagerduty.wait_for_requests(1);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    bridge.wait_for_log("stopped before PagerDuty answered");
    bridge.restart();
    pagerduty.wait_for_accepted(1);
    assert_eq!(pagerduty.counters().requests, 2);
}

#[test]
fn a_request_under_way_is_answered() {
    let pagerduty = PagerDuty::start();
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[STOPS]);
    let body = alert(7, "Disk full");
    let mut connection = half_sent(&bridge, &body);
    bridge.process.signal("TERM");
    bridge.wait_for_log(FINISHING);
    connection.send(&body);
    assert_eq!(connection.answer().status_and_json().0, 202);
    assert_eq!(bridge.process.exit().code(), Some(0));
    bridge.restart();
    pagerduty.wait_for_accepted(1);
}

#[test]
fn a_grace_lasts_to_its_last_fraction_of_a_second() {
    const GRACE: Duration = Duration::from_millis(1999);
    let pagerduty = PagerDuty::start();
    let body = alert(7, "Disk full");
    // A busy machine may take longer than the rest of the grace, so a request that is cut off after it proves nothing. One that
    // is cut off earlier is a failure.
    for _ in 0..TRIES {
        let mut bridge = Bridge::start_with(&pagerduty.url(), &[STOPS, ("BRIDGE_SHUTDOWN_GRACE", "1999ms")]);
        let mut connection = half_sent(&bridge, &body);
        let signaled = Instant::now();
        bridge.process.signal("TERM");
        bridge.wait_for_log(FINISHING);
        // The web server checks once a second whether it has finished.
        thread::sleep(Duration::from_millis(1200));
        connection.try_send(&body);
        let answer = connection.try_rest();
        let took = signaled.elapsed();
        assert_eq!(bridge.process.exit().code(), Some(0));
        if answer.starts_with(b"HTTP/1.1 202") {
            return;
        }
        assert!(took >= GRACE, "cut off after {took:?}: {}", String::from_utf8_lossy(&answer));
    }
    panic!("the machine was too busy {TRIES} times");
}

/// How often something is tried for which a busy machine may be too slow.
const TRIES: usize = 10;

/// The web server logs that it stops.
const STOPS: (&str, &str) = ("RUST_LOG", "info,actix_server=info");

/// What it logs while it waits for a request.
const FINISHING: &str = "finishing 1 connections";

/// A webhook whose head the bridge has read, and whose body is still to be sent.
#[track_caller]
fn half_sent(bridge: &Bridge, body: &[u8]) -> Connection {
    let mut connection = Connection::open(bridge.address);
    let length = body.len();
    let head = format!("POST /sentry/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
    connection.send(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes());
    connection.expect_continue();
    connection
}

#[test]
fn a_second_bridge_on_the_same_queue_is_refused_and_the_first_serves_on() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let database = bridge.database_url();
    let settings = [
        ("BRIDGE_DATABASE_URL", database.as_str()),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
        ("BRIDGE_LISTEN", "127.0.0.1:0"),
    ];
    let mut second = Process::spawn(program().envs(settings));
    assert_eq!(second.exit().code(), Some(1));
    let said = second.stderr.all();
    assert!(said.iter().any(|line| line.contains("another bridge is running on the database")), "{said:#?}");
    bridge.queue(&alert(7, "Disk full"));
    pagerduty.wait_for_accepted(1);
}

#[test]
fn every_log_line_is_json_unless_text_is_wanted() {
    let pagerduty = PagerDuty::start();
    let mut bridge = Bridge::start(&pagerduty.url());
    bridge.queue(&alert(7, "Disk full"));
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    for line in bridge.process.stderr.all() {
        let members: Value = serde_json::from_str(&line).unwrap();
        assert!(["time", "level", "message", "target"].iter().all(|name| members[name].is_string()), "{line}");
    }
}

#[test]
fn what_was_answered_202_survives_a_kill_at_any_moment() {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start(&port.url());
    for (issue, message) in [(7, "one"), (8, "two"), (9, "three")] {
        // It is killed right after the response, each time.
        bridge.queue(&alert(issue, message));
        bridge.process.kill();
        bridge.restart();
    }
    let pagerduty = port.open();
    pagerduty.wait_for_accepted(3);
    let records = bridge.end();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.summary.state == State::Delivered));
}
