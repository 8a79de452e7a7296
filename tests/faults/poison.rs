//! Poison events: PagerDuty fails on them with 500 and accepts others, as on 2021-04-23 when it answered invalid events
//! with 500 for an hour.

use chrono::Utc;
use pagerduty_sandbox::{Fault, Verdict};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{Envelope, State};
use serde_json::json;

use super::integrations::{Integrations, assert_same_bytes, key};
use super::restart_with;

/// An event that the bridge would not make: its incident key is a number.
fn poison() -> Envelope {
    let body = json!({"service_key": key(0), "event_type": "trigger", "incident_key": 666, "description": "Disk full"});
    Envelope {
        service_key: ServiceKey::parse(&key(0)).unwrap(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse("666").unwrap(),
        event_type: EventType::Trigger,
        description: "Disk full".to_owned(),
        body: body.to_string().into_bytes(),
        received_at: Utc::now(),
        counts_at: None,
    }
}

#[test]
fn an_event_that_alone_meets_500_is_given_up_and_the_others_of_its_key_go_on() {
    let mut many = Integrations::start([Fault::InvalidAs500], &[("BRIDGE_GIVE_UP_AFTER", "1s")]);
    restart_with(&mut many.bridge, vec![poison()]);
    let choked = |verdict: &Verdict| matches!(verdict, Verdict::Invalid { .. });
    let others = many.bridge.deliver_others_until_given_up(|number| {
        many.queue(0, number, "good");
        many.pagerduty.wait_for_accepted(number);
    });
    many.queue(0, 666, "the next event of that incident");
    many.pagerduty.wait_for_accepted(others + 1);
    let mut attempts = many.requests(0);
    attempts.retain(|attempt| choked(&attempt.verdict));
    assert_same_bytes(&attempts);
    let records = many.bridge.end();
    let states: Vec<_> = records.iter().map(|record| record.summary.state).collect();
    assert!(others > 0 && records.len() as u64 == 2 + others, "{records:#?}");
    assert_eq!(states[0], State::Dead);
    assert!(states[1..].iter().all(|state| *state == State::Delivered), "{states:?}");
    assert_eq!(records[0].summary.attempts as usize, attempts.len());
    assert!(
        records[0].summary.reason.as_deref().unwrap().starts_with("answered 500"),
        "{:?}",
        records[0].summary.reason
    );
}

#[test]
fn an_event_that_meets_500_like_all_of_its_key_is_never_given_up() {
    let many = Integrations::start([Fault::status(500)], &[("BRIDGE_GIVE_UP_AFTER", "1s")]);
    many.queue(0, 1, "first");
    many.queue(0, 2, "second");
    // By the fourth attempt, more time than `BRIDGE_GIVE_UP_AFTER` has passed.
    many.wait_for_requests_everywhere(4);
    many.pagerduty.clear_faults();
    many.pagerduty.wait_for_accepted(2);
    assert!(many.bridge.end().iter().all(|record| record.summary.state == State::Delivered));
}
