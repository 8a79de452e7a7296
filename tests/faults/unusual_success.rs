//! Every 2xx response counts as a success, also with an unusual status or body.

use pagerduty_sandbox::{CloseMode, Fault, FaultBody};
use sentry_pagerduty_bridge::queue::State;

use super::integrations::Integrations;
use super::{logged, wait_for_logs};

#[test]
fn any_2xx_means_delivered_and_an_odd_one_is_told_and_kept() {
    let faults = [
        Fault::success(200, FaultBody::Garbage),
        Fault::success(200, FaultBody::Truncated),
        Fault::success(200, FaultBody::Empty),
        Fault::success(200, FaultBody::NotSuccess),
        Fault::success(200, FaultBody::Html),
        Fault::success(202, FaultBody::Text("queued".to_owned())),
        Fault::success(204, FaultBody::Empty),
        Fault::Close { apply: true, cut: CloseMode::Midway },
    ];
    let all = faults.len();
    let many = Integrations::start(faults, &[]);
    many.queue_everywhere(1, "first");
    wait_for_logs(&many.bridge, all, "delivered, but PagerDuty answered 2");
    many.queue_everywhere(2, "second");
    many.pagerduty.wait_for_accepted(2 * all as u64);
    wait_for_logs(&many.bridge, 2 * all, "delivered, but PagerDuty answered 2");
    for case in many.cases() {
        assert_eq!(many.requests(case).len(), 2, "case {case}: nothing is sent again");
        assert_eq!((many.incident(case, 1).events, many.incident(case, 2).events), (1, 1));
    }
    assert_eq!(logged(&many.bridge, "warn").len(), 2 * all);
    assert_eq!(logged(&many.bridge, "error"), [""; 0]);
    for record in many.bridge.end() {
        assert_eq!(record.summary.state, State::Delivered);
        assert!(record.summary.reason.unwrap().starts_with("answered 2"));
    }
}
