//! Alarms of two bridges on one PostgreSQL: the leader raises them, whichever bridge the webhooks came to.

use std::thread;
use std::time::{Duration, Instant};

use pagerduty_sandbox::IncidentState;
use temporary_postgres::PostgresCluster;

use crate::in_process::InProcessBridge;
use crate::support::{KEY, PATIENCE, PagerDuty, get};
use crate::{SECRET, incident_key, post_signed};

#[track_caller]
fn wait_until_it_leads(bridge: &InProcessBridge) {
    let deadline = Instant::now() + PATIENCE;
    let leads = |line: &str| line.starts_with("bridge_cluster_leader{") && line.ends_with(" 1");
    while !String::from_utf8(get(bridge.address, "/metrics").body).unwrap().lines().any(leads) {
        assert!(Instant::now() < deadline, "it does not lead");
        // The lease is granted by the database, which tells nobody.
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the alarm was raised `opened` times and is in this state.
#[track_caller]
fn wait_for_alarm(pagerduty: &PagerDuty, opened: u64, state: IncidentState) {
    pagerduty.wait_for(&format!("the alarm number {opened} as {state:?}"), |records| {
        let incident = records.incident(KEY, &incident_key("signatures"));
        incident.is_some_and(|incident| incident.opened == opened && incident.state == state)
    });
}

#[test]
fn signatures_count_for_the_alarm_at_whichever_bridge_they_come() {
    let (pagerduty, database) = (PagerDuty::start(), PostgresCluster::shared().database().unwrap());
    let settings = [("BRIDGE_DATABASE_URL", database.as_str()), ("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)];
    let leader = InProcessBridge::start(&pagerduty.url(), &settings);
    wait_until_it_leads(&leader);
    let other = InProcessBridge::start(&pagerduty.url(), &settings);
    assert_eq!(post_signed(leader.address, SECRET), 202);
    for (opened, wrong, right) in [(1, &other, &leader), (2, &leader, &other), (3, &other, &other)] {
        assert_eq!(post_signed(wrong.address, "the-secret-that-sentry-has-since-today"), 401);
        wait_for_alarm(&pagerduty, opened, IncidentState::Triggered);
        assert_eq!(post_signed(right.address, SECRET), 202);
        wait_for_alarm(&pagerduty, opened, IncidentState::Resolved);
    }
}
