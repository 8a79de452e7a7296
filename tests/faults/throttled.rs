//! Throttling: 403 as v1 was observed to answer, 429 as v2 does.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use pagerduty_sandbox::{Fault, FaultBody, RetryAfter, ThrottleStatus};
use sentry_pagerduty_bridge::queue::{EventRecord, State};

use super::integrations::{Integrations, assert_same_bytes};
use super::logged;
use super::support::alert;

const STATUSES: [ThrottleStatus; 2] = [ThrottleStatus::Forbidden, ThrottleStatus::TooManyRequests];

fn throttled(retry_after: impl IntoIterator<Item = Option<RetryAfter>> + Clone) -> impl Iterator<Item = Fault> {
    STATUSES.into_iter().flat_map(move |status| {
        retry_after.clone().into_iter().map(move |retry_after| Fault::Throttled { status, retry_after })
    })
}

#[test]
fn throttled_events_wait_as_long_as_it_lasts_while_other_keys_go_on() {
    let hints = [None, Some(RetryAfter::Seconds(1)), Some(RetryAfter::HttpDate(1))];
    let many = Integrations::start(throttled(hints), &[]);
    let all = many.cases().len() as u64;
    many.queue_everywhere(1, "first");
    many.wait_for_requests_everywhere(1);
    many.queue_everywhere(2, "second");
    for issue in 1..=20 {
        many.bridge.queue(&alert(issue, "for a key that is not throttled"));
    }
    many.pagerduty.wait_for_accepted(20);
    assert_eq!(many.pagerduty.counters().throttled, 0, "nobody but the fault throttles");
    many.pagerduty.clear_faults();
    many.pagerduty.wait_for_accepted(20 + 2 * all);
    for case in many.cases() {
        let mut attempts = many.requests(case);
        attempts.retain(|request| request.text("incident_key") == Some("1"));
        assert!(attempts.len() >= 2, "it was throttled once and taken once");
        assert_same_bytes(&attempts);
        assert_eq!((many.incident(case, 1).opened, many.incident(case, 2).opened), (1, 1));
    }
    assert_eq!(logged(&many.bridge, "error"), [""; 0]);
    assert!(many.bridge.end().iter().all(|record| record.summary.state == State::Delivered));
}

/// The time from the attempt of an event to its next one.
fn wait(record: &EventRecord) -> TimeDelta {
    let ago = |time: Option<DateTime<Utc>>| time.expect("it was attempted and waits for the next attempt");
    ago(record.summary.next_attempt_at) - ago(record.last_attempt_at)
}

#[test]
fn a_retry_after_is_heeded_in_either_form_and_after_trouble_too_but_for_a_minute_at_most() {
    let answer = |status, retry_after: &str| {
        let headers = BTreeMap::from([("Retry-After".to_owned(), retry_after.to_owned())]);
        Fault::Answer { status, body: FaultBody::Json, headers, apply: false }
    };
    let hints = [RetryAfter::Seconds(50), RetryAfter::HttpDate(50), RetryAfter::Seconds(1800)];
    // Values that a broken proxy may send.
    let far = ["18446744073709551615", "99999999999999999999999", "Thu, 31 Dec 2099 23:59:59 GMT"];
    let faults = throttled(hints.map(Some))
        .chain([answer(503, "50"), answer(503, "1800")])
        .chain([403, 429, 503].into_iter().flat_map(|status| far.map(|retry_after| answer(status, retry_after))));
    let many = Integrations::start(faults, &[]);
    many.queue_everywhere(1, "first");
    many.wait_for_requests_everywhere(1);
    super::wait_for_logs(&many.bridge, many.cases().len(), "not delivered yet");
    let records = many.bridge.end();
    let expected = [50, 50, 60, 50, 50, 60, 50, 60].into_iter().chain([60; 9]);
    for (record, seconds) in records.iter().zip(expected) {
        assert_eq!((record.summary.state, record.summary.attempts), (State::Waiting, 1));
        // Dates have whole seconds, and the response came a little after the attempt began.
        let asked = TimeDelta::seconds(seconds);
        assert!(wait(record) >= asked - TimeDelta::seconds(1), "{} {record:?}", wait(record));
        assert!(wait(record) <= asked + TimeDelta::seconds(20), "{} {record:?}", wait(record));
    }
    assert_eq!(records.len(), 17);
}
