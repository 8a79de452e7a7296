//! Metrics of attempts, delivered events and dead letters.

use std::collections::BTreeMap;

use pagerduty_sandbox::{Fault, FaultBody, FaultRule, RetryAfter, ThrottleStatus};

use crate::support::{Bridge, PagerDuty, alert};
use crate::wait_for;

fn answer(status: u16) -> Fault {
    Fault::Answer { status, body: FaultBody::Json, headers: BTreeMap::new(), apply: false }
}

#[test]
fn every_attempt_is_counted_by_its_end_and_every_event_by_its_fate() {
    let pagerduty = PagerDuty::start();
    let throttled = Fault::Throttled { status: ThrottleStatus::Forbidden, retry_after: Some(RetryAfter::Seconds(1)) };
    for (incident_key, fault, times) in [("2", answer(400), 1), ("3", throttled, 1), ("4", answer(503), 1)] {
        let rule = FaultRule { incident_key: Some(incident_key.to_owned()), ..fault.into() };
        pagerduty.inject(rule.times(times)).unwrap();
    }
    let bridge = Bridge::start(&pagerduty.url());
    for issue in 1..=4 {
        bridge.queue(&alert(issue, "Disk full"));
    }
    let samples = wait_for(&bridge, "the end of all deliveries", |samples| {
        samples.is("bridge_queue_events{state=\"waiting\"}", 0.0)
    });
    let expected = BTreeMap::from([
        ("outcome=\"delivered\"", 3.0),
        ("outcome=\"throttled\"", 1.0),
        ("outcome=\"error\"", 1.0),
        ("outcome=\"refused\"", 1.0),
    ]);
    assert_eq!(samples.of("bridge_delivery_attempts_total"), expected);
    assert_eq!(samples.get("bridge_events_delivered_total"), 3.0);
    assert_eq!(samples.get("bridge_delivery_latency_seconds_count"), 3.0);
    assert!(samples.get("bridge_delivery_latency_seconds_sum") > 0.0);
    assert_eq!(samples.get("bridge_events_dead_total"), 1.0);
    assert_eq!(samples.get("bridge_queue_events{state=\"dead\"}"), 1.0);
    assert_eq!(samples.get("bridge_queue_events{state=\"delivered\"}"), 3.0);
    assert_eq!(samples.get("bridge_queue_oldest_seconds"), 0.0);
    let (webhook, delivery) =
        (samples.get("bridge_last_webhook_timestamp_seconds"), samples.get("bridge_last_delivery_timestamp_seconds"));
    assert!(webhook > samples.get("bridge_start_time_seconds") && delivery > webhook, "{samples:#?}");
    assert_eq!(pagerduty.counters().accepted, 3);
}

#[test]
fn throttling_shows_as_a_slower_pace_and_a_backoff_of_the_masked_key_and_dead_letters_as_trouble() {
    let pagerduty = PagerDuty::start();
    let throttled = Fault::Throttled { status: ThrottleStatus::TooManyRequests, retry_after: None };
    pagerduty.inject(throttled).unwrap();
    let refused = FaultRule { incident_key: Some("2".to_owned()), ..answer(400).into() };
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_PAGERDUTY_RATE", "100")]);
    let pace = "bridge_pace_allowed_events{service_key=\"…00A1\"}";
    bridge.queue(&alert(1, "Disk full"));
    // There is no backoff between two attempts.
    let backoff = "bridge_backoff_seconds{service_key=\"…00A1\"}";
    let samples = wait_for(&bridge, "a slower pace and a backoff", |samples| {
        samples.0.get(pace).is_some_and(|pace| *pace < 100.0) && samples.0.get(backoff).is_some_and(|time| *time > 0.0)
    });
    assert_eq!(samples.get("bridge_trouble{cause=\"dead_letters\"}"), 0.0);
    assert_eq!(samples.get("bridge_events_delivered_total"), 0.0);

    pagerduty.clear_faults();
    pagerduty.inject(refused).unwrap();
    bridge.queue(&alert(2, "Disk full"));
    // Counters are current, and the numbers of the queue are at most a second old.
    wait_for(&bridge, "a dead letter", |samples| {
        samples.is("bridge_events_dead_total", 1.0) && samples.is("bridge_queue_events{state=\"dead\"}", 1.0)
    });
    wait_for(&bridge, "the trouble", |samples| samples.is("bridge_trouble{cause=\"dead_letters\"}", 1.0));
}
