//! The rate limit, with a clock that moves only when a test sets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::DateTime;
use pagerduty_sandbox::{Fault, FaultRule, Options, RetryAfter, Sandbox, ThrottleOptions, ThrottleStatus, TimeSource};
use serde_json::json;

use super::{event, listener, post};

fn start(throttle: ThrottleOptions) -> (Sandbox, Arc<AtomicI64>) {
    let seconds = Arc::new(AtomicI64::new(0));
    let told = Arc::clone(&seconds);
    let clock = TimeSource::new(move || DateTime::from_timestamp(told.load(Ordering::Relaxed), 0).unwrap());
    let options = Options { throttle, ..Options::default() };
    (Sandbox::start_with_clock(options, clock, listener(), None).unwrap(), seconds)
}

#[actix_web::test]
async fn the_hundred_and_twenty_first_event_of_a_minute_is_throttled_as_captured() {
    let (sandbox, seconds) = start(ThrottleOptions::default());
    for _ in 0..120 {
        assert_eq!(post(&sandbox, &event("trigger")).await.status, 200);
    }
    let answer = post(&sandbox, &event("trigger")).await;
    let captured = br#"{"status":"throttle exceeded","message":"Requests for this service are arriving too quickly.  Please retry later."}"#;
    assert_eq!((answer.status, &answer.body[..], answer.body.len()), (403, &captured[..], 115));
    assert_eq!((answer.header("content-type"), answer.header("connection")), (Some("text/plain"), Some("close")));
    assert_eq!(answer.header("retry-after"), None);
    let mut other = event("trigger");
    other["service_key"] = "0".repeat(32).into();
    assert_eq!(post(&sandbox, &other).await.status, 200);
    seconds.store(59, Ordering::Relaxed);
    assert_eq!(post(&sandbox, &event("trigger")).await.status, 403);
    seconds.store(60, Ordering::Relaxed);
    assert_eq!(post(&sandbox, &event("trigger")).await.status, 200);
    assert_eq!((sandbox.counters().accepted, sandbox.counters().throttled), (122, 2));
    assert_eq!(sandbox.journal().last().unwrap().request.at.timestamp(), 60);
}

#[actix_web::test]
async fn a_429_says_when_to_come_back_where_it_is_told_to() {
    let throttle = ThrottleOptions { limit: 0, status: ThrottleStatus::TooManyRequests, ..ThrottleOptions::default() };
    for (retry_after, header) in
        [(RetryAfter::Seconds(7), "7"), (RetryAfter::HttpDate(7), "Thu, 01 Jan 1970 00:00:07 GMT")]
    {
        let (sandbox, _) = start(ThrottleOptions { retry_after: Some(retry_after), ..throttle.clone() });
        let answer = post(&sandbox, &event("trigger")).await;
        assert_eq!((answer.status, &answer.json()["errors"]), (429, &json!(["Enhance Your Calm."])));
        assert_eq!(answer.header("retry-after"), Some(header));
    }
}

#[actix_web::test]
async fn a_fault_can_throttle_for_a_while_whatever_the_rate() {
    let (sandbox, seconds) = start(ThrottleOptions::default());
    let fault = Fault::Throttled { status: ThrottleStatus::Forbidden, retry_after: None };
    let lasts = Some(std::time::Duration::from_secs(5));
    sandbox.inject(FaultRule { lasts, ..fault.into() }).unwrap();
    assert_eq!(post(&sandbox, &event("trigger")).await.json()["status"], "throttle exceeded");
    seconds.store(5, Ordering::Relaxed);
    assert_eq!(post(&sandbox, &event("trigger")).await.status, 200);
    assert_eq!((sandbox.counters().throttled, sandbox.counters().faulted), (0, 1));
}
