//! Responses of a middlebox between the bridge and PagerDuty.

use std::collections::BTreeMap;

use pagerduty_sandbox::{Fault, FaultBody, FaultRule};
use sentry_pagerduty_bridge::queue::State;

use super::integrations::{Integrations, assert_same_bytes};
use super::logged;

#[test]
fn a_4xx_that_pagerduty_cannot_have_given_is_trouble_on_the_way_and_the_event_goes_once_it_is_over() {
    let gateway = |text: &str| FaultBody::Text(text.to_owned());
    let answers = [
        (404, FaultBody::Html),
        (401, FaultBody::Json),
        (401, gateway(r#"{"message":"Unauthorized"}"#)),
        (404, gateway(r#"{"status":404,"error":"Not Found","path":"/generic/2010-04-15/create_event.json"}"#)),
        (404, FaultBody::Empty),
        (405, FaultBody::Html),
        (407, FaultBody::Html),
        (415, FaultBody::Json),
        (421, FaultBody::Empty),
        (425, FaultBody::Empty),
        (451, FaultBody::Html),
        (499, FaultBody::Garbage),
    ];
    let fault = |(status, body): &(u16, FaultBody)| {
        let fault = Fault::Answer { status: *status, body: body.clone(), headers: BTreeMap::new(), apply: false };
        FaultRule::new(fault).times(2)
    };
    let many = Integrations::start(answers.iter().map(fault), &[]);
    many.queue_everywhere(1, "Disk full");
    many.pagerduty.wait_for_accepted(answers.len() as u64);
    for (case, (status, body)) in answers.iter().enumerate() {
        let requests = many.requests(case);
        let statuses: Vec<_> = requests.iter().map(|request| request.status).collect();
        assert_eq!(statuses, [Some(*status), Some(*status), Some(200)], "{body:?}");
        assert_same_bytes(&requests);
        assert_eq!(many.incident(case, 1).opened, 1);
    }
    let warnings = logged(&many.bridge, "warn");
    let named =
        "answered 404, a status that PagerDuty does not send for events: something between the bridge and PagerDuty";
    assert!(warnings.iter().any(|line| line.contains(named)), "{warnings:#?}");
    assert_eq!(logged(&many.bridge, "error"), [""; 0]);
    assert!(many.bridge.end().iter().all(|record| record.summary.state == State::Delivered));
}
