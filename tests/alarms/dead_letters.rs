//! Dead letters raise one alarm, which is resolved when they are gone.

use pagerduty_sandbox::{Fault, FaultRule};
use sentry_pagerduty_bridge::queue::{EventId, State};

use crate::in_process::InProcessBridge;
use crate::observation::troubles;
use crate::support::{KEY, PagerDuty, alert};
use crate::{SECRET, incident_key, post_wrong_signatures, wait_for_alarm, wait_until_resolved};

/// PagerDuty rejects the events of this issue.
fn refused(issue: &str) -> FaultRule {
    FaultRule { incident_key: Some(issue.to_owned()), ..FaultRule::new(Fault::status(400)) }
}

#[test]
fn dead_letters_are_one_page_however_many_until_they_are_gone_restarts_or_not() {
    let pagerduty = PagerDuty::start();
    for issue in ["1", "2", "3"] {
        pagerduty.inject(refused(issue)).unwrap();
    }
    let mut bridge = InProcessBridge::start(&pagerduty.url(), &[("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)]);
    bridge.queue(&alert(1, "Disk full"));
    wait_for_alarm(&pagerduty, KEY, "dead_letters");
    bridge.queue(&alert(2, "Disk full"));
    pagerduty.wait_for_requests(3);

    bridge.end();
    bridge.restart();
    bridge.queue(&alert(3, "Disk full"));
    pagerduty.wait_for_requests(4);
    // This later alarm shows that the bridge has checked since, and did not page again for the dead letters.
    post_wrong_signatures(bridge.address);
    wait_for_alarm(&pagerduty, KEY, "signatures");
    bridge.run_queue(&["discard", "--state", "dead", "--all", "--yes"]);
    wait_until_resolved(&pagerduty, KEY, "dead_letters");
}

#[test]
fn what_ends_while_the_bridge_is_down_is_resolved_when_it_starts() {
    let pagerduty = PagerDuty::with_fault(refused("1"));
    let mut bridge = InProcessBridge::start(&pagerduty.url(), &[]);
    bridge.queue(&alert(1, "Disk full"));
    wait_for_alarm(&pagerduty, KEY, "dead_letters");
    // Stopped in order: after a kill the alarm may not be marked as delivered yet, and would be sent again.
    bridge.end();
    bridge.run_queue(&["discard", "--state", "dead", "--all", "--yes"]);
    bridge.restart();
    wait_until_resolved(&pagerduty, KEY, "dead_letters");
}

#[test]
fn an_alarm_that_pagerduty_refuses_does_not_feed_itself() {
    let pagerduty = PagerDuty::with_fault(Fault::status(400));
    let mut bridge = InProcessBridge::start(&pagerduty.url(), &[("BRIDGE_SILENCE_ALARM", "1s")]);
    bridge.queue(&alert(1, "Disk full"));
    // The alert, the alarm for it, and, many checks later, the alarm for silence.
    pagerduty.wait_for_requests(3);
    assert_eq!(troubles(bridge.address), ["dead_letters", "silence"]);
    bridge.end();
    let records = bridge.read_queue(async |reader| {
        let mut records = Vec::new();
        while let Some(record) = reader.get(EventId::new(i64::try_from(records.len()).unwrap() + 1)).await.unwrap() {
            records.push(record);
        }
        records
    });
    let incidents: Vec<_> = records.iter().map(|record| record.summary.incident_key.as_str().to_owned()).collect();
    assert_eq!(incidents, ["1", &incident_key("dead_letters"), &incident_key("silence")]);
    assert!(records.iter().all(|record| record.summary.state == State::Dead));
}
