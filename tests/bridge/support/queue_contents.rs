//! Brings dead letters, waiting events and rejected webhooks into the queue of a bridge.

use std::collections::BTreeMap;

use pagerduty_sandbox::{Fault, FaultBody, FaultRule};

use super::{Bridge, PagerDuty, alert};

/// Makes the next event, of incident 7, a dead letter.
#[track_caller]
pub(crate) fn make_dead_letter(bridge: &Bridge, pagerduty: &PagerDuty) {
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    bridge.queue(&alert(7, "Disk full"));
    bridge.wait_for_log("dead letter");
}

/// Adds waiting events of incidents 8 and 9, of which the second stands for two alerts, and a rejected webhook (r1). They
/// wait for longer than any test takes.
#[track_caller]
pub(crate) fn make_events_wait(bridge: &Bridge, pagerduty: &PagerDuty) {
    let headers = BTreeMap::from([("retry-after".to_owned(), "300".to_owned())]);
    pagerduty.inject(Fault::Answer { status: 503, body: FaultBody::Json, headers, apply: false }).unwrap();
    bridge.queue(&alert(8, "Disk slow"));
    bridge.wait_for_log("not delivered yet");
    bridge.queue(&alert(9, "Disk hot"));
    bridge.queue(&alert(9, "Disk hotter"));
    bridge.reject(b"{", 400);
}
