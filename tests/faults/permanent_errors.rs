//! Responses that are permanent failures.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::ops::Range;

use pagerduty_sandbox::{Fault, FaultBody, FaultRule};
use sentry_pagerduty_bridge::queue::State;

use super::integrations::Integrations;
use super::support::{Bridge, alert};
use super::{logged, raw_server, wait_for_logs};

/// The length of the stored reason in characters.
const REASON: Range<usize> = 1..600;

#[test]
fn a_refused_event_is_a_dead_letter_at_once_with_pagerdutys_reason_and_the_next_of_its_key_goes() {
    let reversed = r#"{"errors":["Description is missing or blank"],"message":"Event object is invalid","status":"invalid event"}"#;
    let cases = [
        (400, FaultBody::Json, "Event object is invalid: The sandbox was told to refuse this event"),
        (400, FaultBody::Text(reversed.to_owned()), "Event object is invalid: Description is missing or blank"),
        (400, FaultBody::Text("Invalid routing key".to_owned()), "Invalid routing key"),
        (400, FaultBody::Empty, "with an empty body"),
        (400, FaultBody::Html, "<h1>400</h1>"),
        (400, FaultBody::Garbage, "answered 400"),
        (400, FaultBody::Filler(10_000_000), "......"),
        (401, FaultBody::Text(reversed.to_owned()), "Event object is invalid: Description is missing or blank"),
        (404, FaultBody::Text(reversed.to_owned()), "Event object is invalid: Description is missing or blank"),
        (413, FaultBody::Empty, "413"),
        (413, FaultBody::Html, "<h1>413</h1>"),
        (422, FaultBody::Json, "422"),
    ];
    let many = Integrations::start(
        cases.iter().map(|(status, body, _)| {
            let fault = Fault::Answer { status: *status, body: body.clone(), headers: BTreeMap::new(), apply: false };
            FaultRule { incident_key: Some("1".to_owned()), ..fault.into() }
        }),
        &[],
    );
    many.queue_everywhere(1, "to be refused");
    wait_for_logs(&many.bridge, cases.len(), "dead letter: PagerDuty answered");
    many.queue_everywhere(2, "to be taken");
    many.pagerduty.wait_for_accepted(cases.len() as u64);
    for case in many.cases() {
        let incidents: Vec<_> = many.requests(case).iter().map(|it| it.incident_key.clone()).collect();
        assert_eq!(incidents, [None, Some("2".to_owned())], "one attempt each, the first refused");
    }
    let records = many.bridge.end();
    assert_eq!(records.len(), 2 * cases.len());
    for (record, (status, body, reason)) in records.iter().zip(cases) {
        assert_eq!((record.summary.state, record.summary.attempts), (State::Dead, 1));
        let kept = record.summary.reason.as_deref().unwrap();
        assert!(kept.starts_with(&format!("answered {status}")) && kept.contains(reason), "{body:?}: {kept}");
        assert!(REASON.contains(&kept.chars().count()), "{kept}");
    }
}

#[test]
fn an_answer_is_read_no_further_than_its_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bridge = Bridge::start(&format!("http://{}", listener.local_addr().unwrap()));
    bridge.queue(&alert(1, "Disk full"));
    let (mut stream, _) = raw_server::take_request(&listener);
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 268435456\r\n\r\nNot this time. ").unwrap();
    // More than the buffers of the two sockets hold: it can only be written completely if the bridge reads it.
    let megabyte = vec![b'.'; 1 << 20];
    let written = (0..256).take_while(|_| stream.write_all(&megabyte).is_ok()).count();
    assert!(written < 256, "the bridge read a body of 256 MiB");
    bridge.wait_for_log("dead letter");
    assert_eq!(logged(&bridge, "error").len(), 1);
    let record = &bridge.end()[0];
    assert_eq!(record.summary.state, State::Dead);
    assert!(record.summary.reason.as_deref().unwrap().starts_with("answered 400: Not this time. ...."));
}
