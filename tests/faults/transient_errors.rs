//! Responses that are transient failures.

use std::collections::BTreeMap;

use pagerduty_sandbox::{Fault, FaultBody, FaultRule};
use sentry_pagerduty_bridge::queue::State;

use super::integrations::{Integrations, assert_same_bytes, descriptions};
use super::logged;

#[test]
fn after_5xx_and_408_the_same_bytes_are_sent_again_and_nothing_of_the_incident_overtakes_them() {
    let bodies = [FaultBody::Json, FaultBody::Html, FaultBody::Empty];
    let answers: Vec<_> =
        [408, 500, 502, 503, 504].into_iter().flat_map(|status| bodies.clone().map(|body| (status, body))).collect();
    let fault = |(status, body): &(u16, FaultBody)| {
        let fault = Fault::Answer { status: *status, body: body.clone(), headers: BTreeMap::new(), apply: false };
        FaultRule::new(fault).times(2)
    };
    let many = Integrations::start(answers.iter().map(fault), &[]);
    many.queue_everywhere(1, "first");
    many.wait_for_requests_everywhere(1);
    many.queue_everywhere(1, "second");
    many.pagerduty.wait_for_accepted(2 * answers.len() as u64);
    for (case, (status, body)) in answers.iter().enumerate() {
        let requests = many.requests(case);
        let statuses: Vec<_> = requests.iter().map(|request| request.status).collect();
        assert_eq!(statuses, [Some(*status), Some(*status), Some(200), Some(200)], "{body:?}");
        assert_eq!(descriptions(&requests), ["first", "first", "first", "second"]);
        assert_same_bytes(&requests[..3]);
        assert_eq!(many.incident(case, 1).opened, 1);
    }
    assert_eq!(logged(&many.bridge, "error"), [""; 0]);
    assert!(many.bridge.end().iter().all(|record| record.summary.state == State::Delivered));
}
