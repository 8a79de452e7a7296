//! A database that cannot be written or read raises an alarm that is sent past the queue.

use std::collections::BTreeMap;
use std::fs;

use pagerduty_sandbox::{EventType, Fault, FaultBody, FaultRule, IncidentState};

use crate::in_process::Inside;
use crate::support::{Disk, KEY, OTHER_KEY, PagerDuty, alert, get};
use crate::{OTHER_WAY, is, is_over, is_paged};

#[test]
fn a_full_disk_is_one_page_past_the_queue_and_over_when_there_is_room() {
    let name = "storage::a_full_disk_is_one_page_past_the_queue_and_over_when_there_is_room";
    let Some(disk) = Disk::mount(name) else { return };
    let pagerduty = PagerDuty::start();
    let database = format!("sqlite:{}", disk.path("bridge.db").display());
    let bridge = Inside::start(&pagerduty.url(), &[OTHER_WAY, ("BRIDGE_DATABASE_URL", database.as_str())]);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_accepted(1);
    disk.fill();
    while get(bridge.address, "/readyz").status == 200 {
        let large = alert(2, &"x".repeat(16 * 1024));
        if bridge.post(&large).0 == 503 {
            break;
        }
    }
    let incident = is_paged(&pagerduty, OTHER_KEY, "storage");
    assert_eq!(incident.events, 1);
    disk.free();
    is_over(&pagerduty, OTHER_KEY, "storage");
}

#[test]
fn a_full_disk_is_paged_on_the_default_key_where_that_of_the_alarms_is_refused() {
    let name = "storage::a_full_disk_is_paged_on_the_default_key_where_that_of_the_alarms_is_refused";
    let Some(disk) = Disk::mount(name) else { return };
    let refusal = FaultRule { service_key: Some(OTHER_KEY.to_owned()), ..FaultRule::new(Fault::status(400)) };
    let pagerduty = PagerDuty::with_fault(refusal);
    let database = format!("sqlite:{}", disk.path("bridge.db").display());
    let bridge = Inside::start(&pagerduty.url(), &[OTHER_WAY, ("BRIDGE_DATABASE_URL", database.as_str())]);
    disk.fill();
    let refused = (0..10_000).any(|_| bridge.post(&alert(2, &"x".repeat(16 * 1024))).0 == 503);
    assert!(refused, "the disk is never full");
    is_paged(&pagerduty, KEY, "storage");
    disk.free();
    is_over(&pagerduty, KEY, "storage");
}

#[test]
fn a_database_that_was_moved_away_is_one_page_past_the_queue_and_over_once_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let (folder, away) = (home.path().join("queue"), home.path().join("away"));
    fs::create_dir(&folder).unwrap();
    let (pagerduty, database) = (PagerDuty::start(), format!("sqlite:{}", folder.join("bridge.db").display()));
    let bridge = Inside::start(&pagerduty.url(), &[OTHER_WAY, ("BRIDGE_DATABASE_URL", database.as_str())]);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_accepted(1);
    fs::rename(&folder, &away).unwrap();
    is_paged(&pagerduty, OTHER_KEY, "storage");
    fs::rename(&away, &folder).unwrap();
    is_over(&pagerduty, OTHER_KEY, "storage");
}

#[test]
fn an_event_that_cannot_be_read_is_one_page_past_the_queue_and_over_when_it_can_be() {
    let pagerduty = PagerDuty::start();
    let waits = BTreeMap::from([("retry-after".to_owned(), "300".to_owned())]);
    let throttled = Fault::Answer { status: 503, body: FaultBody::Json, headers: waits, apply: false };
    let of_alerts = FaultRule { service_key: Some(KEY.to_owned()), ..FaultRule::new(throttled) };
    pagerduty.inject(of_alerts.times(1)).unwrap();
    let mut bridge = Inside::start(&pagerduty.url(), &[OTHER_WAY]);
    bridge.queue(&alert(1, "Disk slow"));
    pagerduty.wait_for_requests(1);
    bridge.queue(&alert(2, "Disk hot"));
    bridge.end();
    bridge.meddles("UPDATE events SET incident_key = printf('%.300c', 'x') WHERE id = 2");
    bridge.restart();
    pagerduty.wait_for_accepted(1);
    let incident = is_paged(&pagerduty, OTHER_KEY, "storage");
    assert!(incident.description.contains("1 event in the queue cannot be read"), "{incident:#?}");

    bridge.meddles("UPDATE events SET incident_key = '2' WHERE id = 2");
    // After any admin action the bridge reads the queue again.
    bridge.runs_queue(&["discard", "--yes", "1"]);
    is_over(&pagerduty, OTHER_KEY, "storage");
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
    let bridge = Inside::start(&pagerduty.url(), &[OTHER_WAY, ("BRIDGE_DATABASE_URL", database.as_str())]);
    disk.fill();
    let refused = (0..10_000).any(|_| bridge.post(&alert(2, &"x".repeat(16 * 1024))).0 == 503);
    assert!(refused, "the disk is never full");
    is_paged(&pagerduty, OTHER_KEY, "storage");
    disk.free();
    is(&pagerduty, OTHER_KEY, "storage", IncidentState::Resolved);
}
