//! Alarms that PagerDuty, or something between the bridge and PagerDuty, rejects.

use std::collections::BTreeMap;

use pagerduty_sandbox::{Fault, FaultBody, FaultRule, IncidentState};

use crate::in_process::InProcessBridge;
use crate::observation::{ADMIN_TOKEN, wait_for};
use crate::support::{Bridge, KEY, OTHER_KEY, PagerDuty, alert};
use crate::{
    ALARM_KEY, ON, SECRET, causes, incident_key, post_wrong_signatures, wait_for_alarm, wait_for_state,
    wait_until_resolved,
};

/// PagerDuty rejects the events of this incident.
fn refused(incident_key: &str) -> FaultRule {
    FaultRule { incident_key: Some(incident_key.to_owned()), ..FaultRule::new(Fault::status(400)) }
}

#[test]
fn an_alarm_that_was_refused_is_raised_again_once_its_key_has_taken_something_restarts_or_not() {
    for restarts in [false, true] {
        let pagerduty = PagerDuty::with_fault(refused("1"));
        pagerduty.inject(refused(&incident_key("dead_letters")).times(1)).unwrap();
        let mut bridge = InProcessBridge::start(&pagerduty.url(), &[]);
        bridge.queue(&alert(1, "Disk full"));
        pagerduty.wait_for_requests(2);
        if restarts {
            bridge.end();
            bridge.restart();
        }
        assert_eq!(causes(&pagerduty), [""; 0]);
        bridge.queue(&alert(2, "Disk full"));
        wait_for_alarm(&pagerduty, KEY, "dead_letters");
        bridge.run_queue(&["discard", "--state", "dead", "--all", "--yes"]);
        wait_until_resolved(&pagerduty, KEY, "dead_letters");
    }
}

#[test]
fn an_alarm_that_its_own_key_refuses_is_raised_on_the_default_key() {
    let refuses = FaultRule { service_key: Some(OTHER_KEY.to_owned()), ..FaultRule::new(Fault::status(400)) };
    let pagerduty = PagerDuty::with_fault(refuses);
    pagerduty.inject(refused("1")).unwrap();
    let bridge = InProcessBridge::start(&pagerduty.url(), &[ALARM_KEY]);
    bridge.queue(&alert(1, "Disk full"));
    wait_for_alarm(&pagerduty, KEY, "dead_letters");
    bridge.run_queue(&["discard", "--state", "dead", "--all", "--yes"]);
    wait_until_resolved(&pagerduty, KEY, "dead_letters");
}

#[test]
fn an_alarm_that_is_refused_whenever_it_is_raised_is_raised_ever_more_seldom() {
    let pagerduty = PagerDuty::with_fault(refused("1"));
    pagerduty.inject(refused(&incident_key("dead_letters"))).unwrap();
    let bridge = InProcessBridge::start(&pagerduty.url(), &[("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)]);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_requests(2);
    for (issue, requests) in [(2, 4), (3, 5), (4, 6)] {
        bridge.queue(&alert(issue, "Disk full"));
        pagerduty.wait_for_requests(requests);
    }
    // This alarm shows that the bridge has checked since.
    post_wrong_signatures(bridge.address);
    wait_for_alarm(&pagerduty, KEY, "signatures");
    let journal = pagerduty.journal();
    let raised = journal.iter().filter(|entry| entry.text("incident_key") == Some(&incident_key("dead_letters")));
    assert_eq!(raised.count(), 2);
}

#[test]
fn a_middlebox_that_answers_404_buries_neither_alerts_nor_the_alarm_about_them() {
    let not_found = Fault::Answer { status: 404, body: FaultBody::Html, headers: BTreeMap::new(), apply: false };
    let pagerduty = PagerDuty::with_fault(FaultRule::new(not_found));
    let settings = [ON, ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN), ("BRIDGE_WAITING_ALARM", "1s")];
    let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);
    for issue in 1..=20 {
        bridge.queue(&alert(issue, "Disk full"));
    }
    let observed = wait_for(bridge.address, "the trouble", |observed| observed.troubles() == ["waiting"]);
    let sentence = observed.status["troubles"][0]["sentence"].as_str().unwrap();
    let named =
        "answered 404, a status that PagerDuty does not send for events: something between the bridge and PagerDuty";
    assert!(sentence.contains(named), "{sentence}");
    wait_for(bridge.address, "the alarm in line", |observed| observed.status["queue"]["waiting"] == 21);
    bridge.terminate("KILL");
    bridge.restart();
    let observed = wait_for(bridge.address, "the trouble", |observed| observed.troubles() == ["waiting"]);
    assert_eq!(observed.status["queue"]["dead"], 0, "{observed:#?}");

    pagerduty.clear_faults();
    wait_for_state(&pagerduty, KEY, "waiting", IncidentState::Resolved);
    let observed = wait_for(bridge.address, "all deliveries", |observed| observed.status["queue"]["delivered"] == 22);
    assert_eq!(observed.status["queue"]["dead"], 0, "{observed:#?}");
}
