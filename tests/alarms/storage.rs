//! A database that cannot be written or read raises an alarm that is sent past the queue.

use std::collections::BTreeMap;
use std::fs;

use pagerduty_sandbox::{EventType, Fault, FaultBody, FaultRule, IncidentState};

use crate::in_process::InProcessBridge;
use crate::support::{Disk, KEY, OTHER_KEY, PagerDuty, alert, get};
use crate::{ALARM_KEY, wait_for_alarm, wait_for_state, wait_until_resolved};

#[test]
fn a_full_disk_is_one_page_past_the_queue_and_over_when_there_is_room() {
    let name = "storage::a_full_disk_is_one_page_past_the_queue_and_over_when_there_is_room";
    let Some(disk) = Disk::mount(name) else { return };
    let pagerduty = PagerDuty::start();
    let database = format!("sqlite:{}", disk.path("bridge.db").display());
    let bridge = InProcessBridge::start(&pagerduty.url(), &[ALARM_KEY, ("BRIDGE_DATABASE_URL", database.as_str())]);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_accepted(1);
    disk.fill();
    while get(bridge.address, "/readyz").status == 200 {
        let large = alert(2, &"x".repeat(16 * 1024));
        if bridge.post(&large).0 == 503 {
            break;
        }
    }
    let incident = wait_for_alarm(&pagerduty, OTHER_KEY, "storage");
    assert_eq!(incident.events, 1);
    disk.free();
    wait_until_resolved(&pagerduty, OTHER_KEY, "storage");
}

#[test]
fn a_full_disk_is_paged_on_the_default_key_where_that_of_the_alarms_is_refused() {
    let name = "storage::a_full_disk_is_paged_on_the_default_key_where_that_of_the_alarms_is_refused";
    let Some(disk) = Disk::mount(name) else { return };
    let refusal = FaultRule { service_key: Some(OTHER_KEY.to_owned()), ..FaultRule::new(Fault::status(400)) };
    let pagerduty = PagerDuty::with_fault(refusal);
    let database = format!("sqlite:{}", disk.path("bridge.db").display());
    let bridge = InProcessBridge::start(&pagerduty.url(), &[ALARM_KEY, ("BRIDGE_DATABASE_URL", database.as_str())]);
    disk.fill();
    let refused = (0..10_000).any(|_| bridge.post(&alert(2, &"x".repeat(16 * 1024))).0 == 503);
    assert!(refused, "the disk is never full");
    wait_for_alarm(&pagerduty, KEY, "storage");
    disk.free();
    wait_until_resolved(&pagerduty, KEY, "storage");
}

#[test]
fn a_database_that_was_moved_away_is_one_page_past_the_queue_and_over_once_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let (folder, away) = (home.path().join("queue"), home.path().join("away"));
    fs::create_dir(&folder).unwrap();
    let (pagerduty, database) = (PagerDuty::start(), format!("sqlite:{}", folder.join("bridge.db").display()));
    let bridge = InProcessBridge::start(&pagerduty.url(), &[ALARM_KEY, ("BRIDGE_DATABASE_URL", database.as_str())]);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_accepted(1);
    fs::rename(&folder, &away).unwrap();
    wait_for_alarm(&pagerduty, OTHER_KEY, "storage");
    fs::rename(&away, &folder).unwrap();
    wait_until_resolved(&pagerduty, OTHER_KEY, "storage");
}

#[test]
fn an_event_that_cannot_be_read_is_one_page_past_the_queue_and_over_when_it_can_be() {
    let pagerduty = PagerDuty::start();
    let waits = BTreeMap::from([("retry-after".to_owned(), "300".to_owned())]);
    let throttled = Fault::Answer { status: 503, body: FaultBody::Json, headers: waits, apply: false };
    let of_alerts = FaultRule { service_key: Some(KEY.to_owned()), ..FaultRule::new(throttled) };
    pagerduty.inject(of_alerts.times(1)).unwrap();
    let mut bridge = InProcessBridge::start(&pagerduty.url(), &[ALARM_KEY]);
    bridge.queue(&alert(1, "Disk slow"));
    pagerduty.wait_for_requests(1);
    bridge.queue(&alert(2, "Disk hot"));
    bridge.end();
    bridge.execute_sql("UPDATE events SET incident_key = printf('%.300c', 'x') WHERE id = 2");
    bridge.restart();
    pagerduty.wait_for_accepted(1);
    let incident = wait_for_alarm(&pagerduty, OTHER_KEY, "storage");
    assert!(incident.description.contains("1 event in the queue cannot be read"), "{incident:#?}");

    bridge.execute_sql("UPDATE events SET incident_key = '2' WHERE id = 2");
    // After any admin action the bridge reads the queue again.
    bridge.run_queue(&["discard", "--yes", "1"]);
    wait_until_resolved(&pagerduty, OTHER_KEY, "storage");
    pagerduty.wait_for("the alert", |records| records.incident(KEY, "2").is_some());
}

#[test]
fn an_alarm_past_the_queue_that_pagerduty_took_and_did_not_confirm_is_resolved_as_well() {
    let name = "storage::an_alarm_past_the_queue_that_pagerduty_took_and_did_not_confirm_is_resolved_as_well";
    let Some(disk) = Disk::mount(name) else { return };
    let pagerduty = PagerDuty::start();
    let unconfirmed = Fault::Answer { status: 500, body: FaultBody::default(), headers: BTreeMap::new(), apply: true };
    let of_alarms = FaultRule { service_key: Some(OTHER_KEY.to_owned()), ..FaultRule::new(unconfirmed) };
    pagerduty.inject(FaultRule { event_type: Some(EventType::Trigger), ..of_alarms }).unwrap();
    let database = format!("sqlite:{}", disk.path("bridge.db").display());
    let bridge = InProcessBridge::start(&pagerduty.url(), &[ALARM_KEY, ("BRIDGE_DATABASE_URL", database.as_str())]);
    disk.fill();
    let refused = (0..10_000).any(|_| bridge.post(&alert(2, &"x".repeat(16 * 1024))).0 == 503);
    assert!(refused, "the disk is never full");
    wait_for_alarm(&pagerduty, OTHER_KEY, "storage");
    disk.free();
    wait_for_state(&pagerduty, OTHER_KEY, "storage", IncidentState::Resolved);
}
