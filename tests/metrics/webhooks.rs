//! Metrics of webhooks by source and response.

use std::collections::BTreeMap;

use crate::support::{Bridge, ClosedPort, Connection, TOKEN, alert, alert_of_level, get, post};
use crate::{SECRET, post_signed, samples, wait_for};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/fixtures/platform/{name}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A bridge that accepts all kinds of webhooks, and whose PagerDuty is unreachable.
fn bridge(port: &ClosedPort) -> Bridge {
    let settings =
        [("BRIDGE_SENTRY_CLIENT_SECRET", SECRET), ("BRIDGE_MIN_LEVEL", "warning"), ("BRIDGE_MAX_BODY", "64KiB")];
    Bridge::start_with(&port.url(), &settings)
}

#[test]
fn every_answer_of_the_webhook_is_counted_once_by_source_and_answer() {
    let port = ClosedPort::new();
    let bridge = bridge(&port);
    let status = |answer: crate::support::Answer| answer.status;

    for issue in 1..=3 {
        bridge.queue(&alert(issue, "Disk full"));
    }
    assert_eq!(status(bridge.post(&alert_of_level("info", 4, "Disk fills"))), 202);
    assert_eq!(status(post_signed(&bridge, SECRET, "event_alert", &fixture("event-alert-26"))), 202);
    for (resource, name) in
        [("installation", "installation-created"), ("comment", "comment-created"), ("seer", "seer-solution-completed")]
    {
        assert_eq!(status(post_signed(&bridge, SECRET, resource, &fixture(name))), 202, "{name}");
    }
    // It is recognised by its shape, as if a proxy had removed the header, and resolves the incident of the alert.
    assert_eq!(status(bridge.post(&fixture("issue-resolved-26"))), 202);
    assert_eq!(status(bridge.post(b"hello")), 400);
    assert_eq!(status(bridge.post(b"{}")), 422);
    assert_eq!(status(post_signed(&bridge, SECRET, "event_alert", b"hello")), 400);
    for path in ["/sentry/wrong", "/sentry"] {
        assert_eq!(status(post(bridge.address, path, &[], &alert(9, "Disk full"))), 401);
    }
    assert_eq!(status(post_signed(&bridge, "another secret", "event_alert", &fixture("event-alert-26"))), 401);
    let unsigned = [("Sentry-Hook-Resource", "event_alert")];
    for path in [format!("/sentry/{TOKEN}"), "/sentry".to_owned()] {
        assert_eq!(status(post(bridge.address, &path, &unsigned, &fixture("event-alert-26"))), 401);
    }
    assert_eq!(status(bridge.post(&vec![b' '; 64 * 1024 + 1])), 413);
    let mut connection = Connection::open(bridge.address);
    connection.send(format!("POST /sentry/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{").as_bytes());
    connection.end();
    assert_eq!(status(connection.answer()), 400);
    assert_eq!(status(get(bridge.address, &format!("/sentry/{TOKEN}"))), 405);
    for path in [format!("/sentry/{TOKEN}/x"), "/sentry//".to_owned()] {
        assert_eq!(status(post(bridge.address, &path, &[], &alert(9, "Disk full"))), 404);
    }
    assert_eq!(status(post(bridge.address, "/elsewhere", &[], &alert(9, "Disk full"))), 404);

    // What is rejected is kept within a second, or after its answer.
    let rejected = "bridge_queue_events{state=\"rejected\"}";
    let samples = wait_for(&bridge, "that the rejected ones are kept", |samples| samples.is(rejected, 3.0));
    let expected = BTreeMap::from([
        ("answer=\"queued\",source=\"legacy\"", 3.0),
        ("answer=\"ignored\",source=\"legacy\"", 1.0),
        ("answer=\"queued\",source=\"platform\"", 2.0),
        ("answer=\"ignored\",source=\"platform\"", 3.0),
        ("answer=\"rejected\",source=\"platform\"", 1.0),
        ("answer=\"rejected\",source=\"unknown\"", 2.0),
        ("answer=\"wrong_token\",source=\"unknown\"", 2.0),
        ("answer=\"wrong_signature\",source=\"unknown\"", 1.0),
        ("answer=\"unsigned\",source=\"unknown\"", 2.0),
        ("answer=\"unread\",source=\"unknown\"", 2.0),
        ("answer=\"not_found\",source=\"unknown\"", 2.0),
        ("answer=\"wrong_method\",source=\"unknown\"", 1.0),
    ]);
    assert_eq!(samples.of("bridge_webhooks_total"), expected);
    assert_eq!(samples.get("bridge_webhooks_rejected_kept_total"), 3.0);
    assert_eq!(samples.get("bridge_queue_events{state=\"waiting\"}"), 5.0);
    let queued = BTreeMap::from([("event_type=\"trigger\"", 4.0), ("event_type=\"resolve\"", 1.0)]);
    assert_eq!(samples.of("bridge_events_queued_total"), queued);
}

#[test]
fn a_storm_counts_as_few_events_and_many_that_were_folded() {
    let port = ClosedPort::new();
    let bridge = bridge(&port);
    bridge.queue(&alert(1, "Disk full"));
    // From now on the first event is attempted, and nothing is folded into it.
    wait_for(&bridge, "an attempt", |samples| {
        samples.get("bridge_delivery_attempts_total{outcome=\"unreachable\"}") > 0.0
    });
    for _ in 0..5 {
        bridge.queue(&alert(1, "Disk full"));
    }
    let samples = samples(&bridge);
    assert_eq!(samples.of("bridge_events_queued_total"), BTreeMap::from([("event_type=\"trigger\"", 2.0)]));
    assert_eq!(samples.get("bridge_events_folded_total"), 4.0);
    assert_eq!(samples.get("bridge_webhooks_total{answer=\"queued\",source=\"legacy\"}"), 6.0);
    assert_eq!(samples.get("bridge_queue_events{state=\"waiting\"}"), 2.0);
    assert!(samples.get("bridge_queue_oldest_seconds") > 0.0);
    assert!(samples.get("bridge_queue_commit_seconds_count") >= 6.0);
    assert_eq!(samples.get("bridge_queue_commits_failed_total"), 0.0);
}

#[test]
fn only_signatures_that_were_compared_make_a_row_and_only_a_right_one_ends_it_and_five_at_once_are_no_trouble() {
    let port = ClosedPort::new();
    let bridge = bridge(&port);
    let row = || samples(&bridge).get("bridge_wrong_signatures_in_a_row");
    let body = fixture("event-alert-26");
    let wrong = || post_signed(&bridge, "another secret", "event_alert", &body).status;
    assert_eq!((wrong(), wrong(), row()), (401, 401, 2.0));

    // Requests of any stranger that say nothing about the client secret.
    assert_eq!(post(bridge.address, "/sentry/wrong", &[], &body).status, 401);
    assert_eq!(post(bridge.address, "/sentry", &[("Sentry-Hook-Resource", "event_alert")], &body).status, 401);
    let odd = [("Sentry-Hook-Resource", "event_alert"), ("Sentry-Hook-Signature", "no signature")];
    assert_eq!(post(bridge.address, "/sentry", &odd, &body).status, 401);
    bridge.queue(&alert(1, "Disk full"));
    assert_eq!(row(), 2.0);
    assert_eq!((wrong(), row()), (401, 3.0));
    let trouble = || samples(&bridge).get("bridge_trouble{cause=\"signatures\"}");
    assert_eq!((wrong(), trouble()), (401, 0.0));
    assert_eq!((wrong(), row(), trouble()), (401, 5.0, 0.0), "anybody can send five at once");

    assert_eq!(post_signed(&bridge, SECRET, "event_alert", &body).status, 202);
    assert_eq!((row(), trouble()), (0.0, 0.0));
    assert_eq!((wrong(), row()), (401, 1.0));
}
