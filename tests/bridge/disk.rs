//! A full disk: alerts are answered 503, accepted ones are delivered, and no restart is needed when there is space again.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pagerduty_sandbox::{Fault, FaultRule, IncidentState};
use sentry_pagerduty_bridge::queue::{EventId, EventRecord, Reader, State};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::{Bridge, ClosedPort, Disk, PagerDuty, TOKEN, alert, post};

/// A large alert.
fn large(issue: u64) -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&alert(issue, "Disk full")).unwrap();
    body["event"]["tags"] = json!([["ballast", "x".repeat(16 * 1024)]]);
    body.to_string().into_bytes()
}

/// Posts large alerts until the disk is full, and returns how many were accepted.
fn post_until_full(bridge: &Bridge) -> u64 {
    for issue in 1..1000 {
        let (status, said) = bridge.post(&large(issue)).status_and_json();
        if status == 202 {
            continue;
        }
        assert_eq!((status, &said["status"]), (503, &json!("error")), "{said}");
        assert!(said["reason"].as_str().unwrap().contains("is full; free some space"), "{said}");
        assert!(issue > 10, "the disk was full from the start");
        return issue - 1;
    }
    panic!("the disk never was full");
}

fn bridge_on(disk: &Disk, pagerduty: &str) -> Bridge {
    let database = format!("sqlite:{}", disk.path("bridge.db").display());
    Bridge::start_with(pagerduty, &[("BRIDGE_DATABASE_URL", &database), ("BRIDGE_PAGERDUTY_TIMEOUT", "4s")])
}

fn readyz(address: SocketAddr) -> u16 {
    crate::support::get(address, "/readyz").status
}

/// All events in the queue. The whole file is checked.
fn records(path: &Path, number: u64) -> Vec<EventRecord> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(path).read_only(true).connect().await.unwrap();
        let found: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(found, "ok");
        let bodies: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM bodies").fetch_one(&mut connection).await.unwrap();
        assert_eq!(bodies, i64::try_from(number).unwrap());
        let reader = Reader::open(path).await.unwrap();
        let counts = reader.overview().await.unwrap();
        assert_eq!(counts.waiting + counts.delivered, number, "{counts:?}");
        let mut records = Vec::new();
        for id in reader.ids(State::Waiting, u64::MAX).await.unwrap() {
            records.push(reader.get(id).await.unwrap().unwrap());
        }
        for id in reader.ids(State::Delivered, u64::MAX).await.unwrap() {
            records.push(reader.get(id).await.unwrap().unwrap());
        }
        records.sort_by_key(|record| record.summary.id);
        assert!(
            records.iter().zip(1..).all(|(record, number)| record.summary.id == EventId::new(number)),
            "a number is missing"
        );
        records
    })
}

#[track_caller]
fn assert_delivered(pagerduty: &PagerDuty, number: u64) {
    pagerduty.wait_for_accepted(number);
    let mut incidents: Vec<u64> = pagerduty.triggers().iter().map(|(incident, _)| incident.parse().unwrap()).collect();
    incidents.sort_unstable();
    assert_eq!(incidents, (1..=number).collect::<Vec<_>>());
}

#[test]
fn alerts_are_refused_while_the_disk_is_full_and_taken_again_when_it_is_not() {
    let Some(disk) = Disk::mount("disk::alerts_are_refused_while_the_disk_is_full_and_taken_again_when_it_is_not")
    else {
        return;
    };
    let port = ClosedPort::new();
    let mut bridge = bridge_on(&disk, &port.url());
    let accepted = post_until_full(&bridge);
    disk.fill();
    assert_eq!(readyz(bridge.address), 503);
    assert_eq!(bridge.post(&large(accepted + 1)).status, 503);
    let waiting = records(&disk.path("bridge.db"), accepted);
    assert!(waiting.iter().all(|record| serde_json::from_slice::<Value>(&record.body).is_ok()));

    disk.free();
    assert_eq!(readyz(bridge.address), 200);
    bridge.queue(&large(accepted + 1));
    let pagerduty = port.open();
    assert_delivered(&pagerduty, accepted + 1);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    let delivered = records(&disk.path("bridge.db"), accepted + 1);
    assert!(delivered.iter().all(|record| record.summary.state == State::Delivered));
}

#[test]
fn a_database_that_is_deleted_while_the_disk_is_full_is_written_again_once_there_is_room() {
    let name = "disk::a_database_that_is_deleted_while_the_disk_is_full_is_written_again_once_there_is_room";
    let Some(disk) = Disk::mount(name) else { return };
    let port = ClosedPort::new();
    let bridge = bridge_on(&disk, &port.url());
    for issue in 1..=5 {
        bridge.queue(&large(issue));
    }
    disk.fill();
    assert_eq!(bridge.post(&large(6)).status, 503);
    // An operator deletes the files to free space, but as the bridge has them open, the space stays in use.
    for file in ["bridge.db-wal", "bridge.db-shm", "bridge.db"] {
        std::fs::remove_file(disk.path(file)).unwrap();
    }
    bridge.wait_for_log("the database could not be opened again");
    disk.free();
    bridge.wait_for_log("is open again");
    bridge.queue(&large(6));
    let pagerduty = port.open();
    assert_delivered(&pagerduty, 6);
}

#[test]
fn what_pagerduty_failed_to_take_while_the_disk_is_full_is_sent_again_while_it_is() {
    let name = "disk::what_pagerduty_failed_to_take_while_the_disk_is_full_is_sent_again_while_it_is";
    let Some(disk) = Disk::mount(name) else { return };
    let pagerduty = PagerDuty::with_fault(Fault::status(503));
    let bridge = bridge_on(&disk, &pagerduty.url());
    let accepted = post_until_full(&bridge);
    disk.fill();
    bridge.wait_for_log("PagerDuty's answer cannot be stored yet");
    pagerduty.clear_faults();
    assert_delivered(&pagerduty, accepted);
    assert_eq!(readyz(bridge.address), 503);
}

#[test]
fn what_waits_is_delivered_while_the_disk_is_full_and_that_is_known_once_it_is_not() {
    let name = "disk::what_waits_is_delivered_while_the_disk_is_full_and_that_is_known_once_it_is_not";
    let Some(disk) = Disk::mount(name) else { return };
    let port = ClosedPort::new();
    let mut bridge = bridge_on(&disk, &port.url());
    let accepted = post_until_full(&bridge);
    disk.fill();
    assert_eq!(readyz(bridge.address), 503);

    let pagerduty = port.open();
    assert_delivered(&pagerduty, accepted);
    assert_eq!(readyz(bridge.address), 503);
    bridge.wait_for_log("sent without being recorded");
    let waiting = records(&disk.path("bridge.db"), accepted);
    assert!(waiting.iter().any(|record| (record.summary.state, record.summary.attempts) == (State::Waiting, 0)));

    disk.free();
    bridge.queue(&alert(accepted + 1, "Disk free"));
    assert_delivered(&pagerduty, accepted + 1);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    let delivered = records(&disk.path("bridge.db"), accepted + 1);
    assert!(
        delivered.iter().all(|record| record.summary.state == State::Delivered && record.summary.attempts > 0),
        "{delivered:#?}"
    );
    assert_eq!(pagerduty.counters().accepted, accepted + 1, "something was sent twice");
}

#[test]
fn what_pagerduty_may_have_taken_while_the_disk_was_full_and_refused_later_is_resolved_all_the_same() {
    let name = "disk::what_pagerduty_may_have_taken_while_the_disk_was_full_and_refused_later_is_resolved_all_the_same";
    let Some(disk) = Disk::mount(name) else { return };
    let pagerduty = PagerDuty::start();
    let of_trigger = |fault| FaultRule { incident_key: Some("7000".to_owned()), ..FaultRule::new(fault).times(1) };
    // It opens the incident and does not answer in time.
    pagerduty.inject(of_trigger(Fault::Delay { by: Duration::from_mins(10) })).unwrap();
    pagerduty.inject(of_trigger(Fault::status(400))).unwrap();
    let bridge = bridge_on(&disk, &pagerduty.url());
    bridge.queue(&alert(7000, "Disk full"));
    pagerduty.wait_for("the incident", |records| records.incidents().next().is_some());
    post_until_full(&bridge);
    disk.fill();
    bridge.wait_for_log("PagerDuty's answer cannot be stored yet");
    pagerduty.wait_for("the refusal", |records| {
        records.journal().filter(|entry| entry.text("incident_key") == Some("7000")).count() == 2
    });
    disk.free();
    bridge.wait_for_log("dead letter");

    let body = json!({"action": "resolved", "data": {"issue": {"id": "7000", "title": "Disk full"}}}).to_string();
    let headers = [("Content-Type", "application/json"), ("Sentry-Hook-Resource", "issue")];
    let answer = post(bridge.address, &format!("/sentry/{TOKEN}"), &headers, body.as_bytes());
    assert_eq!(answer.json()["status"], "queued");
    pagerduty.wait_for("the end of the incident", |records| {
        records.incidents().all(|incident| incident.incident_key != "7000" || incident.state == IncidentState::Resolved)
    });
}
