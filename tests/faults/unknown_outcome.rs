//! Events of which the bridge does not know whether PagerDuty accepted them.

use std::time::Duration;

use chrono::Utc;
use pagerduty_sandbox::{CloseMode, Fault, FaultRule, Until};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{Envelope, State};
use serde_json::json;

use super::integrations::{Integrations, assert_same_bytes, key};
use super::{logged, restart_with};

/// Short, so that a lost response is noticed quickly.
const TIMEOUT: (&str, &str) = ("BRIDGE_PAGERDUTY_TIMEOUT", "1s");

/// Longer than the test.
const FOR_EVER: Duration = Duration::from_mins(10);

#[test]
fn an_event_whose_answer_is_lost_is_sent_again_and_opens_one_incident() {
    let faults = [
        Fault::Close { apply: true, cut: CloseMode::Silent },
        Fault::Close { apply: true, cut: CloseMode::Reset },
        Fault::Delay { by: FOR_EVER },
        Fault::Close { apply: false, cut: CloseMode::Silent },
        Fault::Close { apply: false, cut: CloseMode::Reset },
        Fault::Hang { lasts: FOR_EVER },
    ];
    let many = Integrations::start(faults.map(|fault| FaultRule::new(fault).times(2)), &[TIMEOUT]);
    many.queue_everywhere(1, "Disk full");
    many.wait_for_requests_everywhere(3);
    many.pagerduty.wait_for("an incident everywhere", |records| {
        many.cases().all(|case| records.incident(&key(case), "1").is_some())
    });
    for case in many.cases() {
        let requests = many.requests(case);
        assert!(requests.iter().take(2).all(|request| request.fault.is_some()));
        assert_same_bytes(&requests);
        assert_eq!(many.incident(case, 1).opened, 1);
    }
    assert_eq!(logged(&many.bridge, "error"), [""; 0]);
    assert!(many.bridge.end().iter().all(|record| record.summary.state != State::Dead));
}

#[test]
fn an_answer_that_drips_is_heeded_when_its_status_is_there() {
    let many = Integrations::start([Fault::Drip { pause: FOR_EVER }], &[TIMEOUT]);
    many.queue(0, 1, "first");
    many.queue(0, 2, "second");
    many.pagerduty.wait_for_accepted(2);
    super::wait_for_logs(&many.bridge, 2, "delivered");
    assert_eq!(many.requests(0).len(), 2);
    assert!(many.bridge.end().iter().all(|record| record.summary.state == State::Delivered));
}

fn event(case: usize, event_type: EventType) -> Envelope {
    let word = if event_type == EventType::Trigger { "trigger" } else { "resolve" };
    let body = json!({
        "service_key": key(case), "event_type": word, "incident_key": "42", "description": "Disk full",
    });
    Envelope {
        service_key: ServiceKey::parse(&key(case)).unwrap(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse("42").unwrap(),
        event_type,
        description: "Disk full".to_owned(),
        body: body.to_string().into_bytes(),
        received_at: Utc::now(),
        counts_at: None,
    }
}

#[test]
fn no_resolve_leaves_while_the_trigger_before_it_is_in_doubt() {
    let faults = [
        Fault::Late { until: Until::Released, hang: Duration::ZERO },
        Fault::Late { until: Until::Released, hang: FOR_EVER },
        Fault::Close { apply: true, cut: CloseMode::Silent },
        Fault::Delay { by: FOR_EVER },
        Fault::status(503),
        Fault::Hang { lasts: FOR_EVER },
    ];
    let rules =
        faults.map(|fault| FaultRule { event_type: Some(pagerduty_sandbox::EventType::Trigger), ..fault.into() });
    let mut many = Integrations::start(rules.map(|rule| rule.times(2)), &[TIMEOUT]);
    let events = many.cases().flat_map(|case| [EventType::Trigger, EventType::Resolve].map(|it| event(case, it)));
    restart_with(&mut many.bridge, events.collect());
    many.pagerduty.wait_for("a resolved incident everywhere", |records| {
        many.cases().all(|case| {
            let incident = records.incident(&key(case), "42");
            incident.is_some_and(|incident| incident.state == pagerduty_sandbox::IncidentState::Resolved)
        })
    });
    for case in many.cases() {
        let requests = many.requests(case);
        let resolve = requests.iter().position(|request| request.text("event_type") == Some("resolve")).unwrap();
        let (triggers, resolves) = requests.split_at(resolve);
        assert!(triggers.len() >= 3, "both doubtful attempts came before");
        let trusted = triggers.last().unwrap();
        assert_eq!((trusted.status, &trusted.fault), (Some(200), &None), "the last trigger was answered");
        assert!(resolves.iter().all(|request| request.text("event_type") == Some("resolve")));
        assert_eq!(many.incident(case, 42).opened, 1);
    }
    assert_eq!(many.pagerduty.counters().dropped_resolves, 0);
    assert!(many.bridge.end().iter().all(|record| record.summary.state != State::Dead));
}

#[test]
fn a_copy_that_arrives_after_the_resolve_is_no_doing_of_the_bridge() {
    let late = Fault::Late { until: Until::Resolved, hang: Duration::ZERO };
    let mut many = Integrations::start([FaultRule::new(late).times(1)], &[]);
    restart_with(&mut many.bridge, vec![event(0, EventType::Trigger), event(0, EventType::Resolve)]);
    many.pagerduty.wait_for("the resurrected incident", |records| {
        records.incident(&key(0), "42").is_some_and(|incident| incident.opened == 2)
    });
    let types: Vec<_> = many.requests(0).iter().map(|it| it.text("event_type").unwrap().to_owned()).collect();
    assert_eq!(types, ["trigger", "trigger", "resolve"]);
    let late: Vec<_> = many.pagerduty.journal().iter().filter_map(|entry| entry.late_of).collect();
    assert_eq!(late, [1], "the sandbox shows what such a copy does");
}
