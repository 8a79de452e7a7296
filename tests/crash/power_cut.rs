//! After a power cut, data that was not synced is missing or garbage.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::drained;
use super::faulty_disk::FaultyDisk;
use super::support::{Bridge, ClosedPort, PagerDuty, alert, get};

/// Few enough that SQLite does not restart its write-ahead log: the length of the log shows how much was written.
const ALERTS: u64 = 24;

/// The write-ahead log of a database.
fn log_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

#[test]
fn after_a_power_cut_that_tears_what_was_written_later_all_that_was_answered_is_delivered() {
    let nobody = ClosedPort::new();
    let bridge = Bridge::start(&nobody.url());
    // The length of the log when the first n alerts had been answered.
    let mut lengths = Vec::new();
    for issue in 1..=ALERTS {
        bridge.queue(&alert(issue, "Disk full"));
        lengths.push(usize::try_from(fs::metadata(log_of(&bridge.database())).unwrap().len()).unwrap());
    }
    assert!(lengths.is_sorted() && lengths[0] > 0, "{lengths:?}");
    let (database, log) = (fs::read(bridge.database()).unwrap(), fs::read(log_of(&bridge.database())).unwrap());
    drop(bridge);

    // Each cut: the last answered alert, how many bytes after it are intact, and how many bytes of garbage follow.
    for (answered, whole, rubbish) in [(1, 0, 0), (7, 0, 500), (11, 100, 0), (ALERTS - 1, 24, 4096), (ALERTS, 0, 9000)]
    {
        let home = tempfile::tempdir().unwrap();
        let copy = home.path().join("after-the-cut.db");
        fs::write(&copy, &database).unwrap();
        let end = lengths[usize::try_from(answered).unwrap() - 1];
        let mut file = fs::File::create(log_of(&copy)).unwrap();
        file.write_all(&log[..log.len().min(end + whole)]).unwrap();
        file.write_all(&vec![0xa5; rubbish]).unwrap();
        drop(file);

        assert_delivers(&copy, answered);
    }
}

/// Starts a bridge on the files that a power cut left, and asserts that it delivers everything that was answered 202.
#[track_caller]
fn assert_delivers(database: &Path, answered: u64) {
    let pagerduty = PagerDuty::start();
    let url = format!("sqlite:{}", database.display());
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_DATABASE_URL", &url)]);
    let counts = drained(database);
    assert_eq!((counts.waiting, counts.dead), (0, 0));
    for issue in 1..=answered {
        let opened = pagerduty.incidents().iter().any(|incident| incident.incident_key == issue.to_string());
        assert!(opened, "alert {issue} of {answered} is gone");
    }
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
}

#[test]
fn after_a_power_cut_that_loses_what_was_not_synced_all_that_was_answered_is_delivered() {
    // With the largest number SQLite copies its log into the database and restarts it.
    for answered in [1, 24, 300] {
        let (disk, nobody) = (FaultyDisk::new(), ClosedPort::new());
        let bridge = disk.bridge(&nobody.url());
        for issue in 1..=answered {
            bridge.queue(&alert(issue, "Disk full"));
        }
        drop(bridge);
        assert_delivers(&disk.kept(), answered);
    }
}

#[test]
fn no_alert_is_answered_202_while_the_disk_fails_to_sync() {
    let (disk, pagerduty) = (FaultyDisk::new(), PagerDuty::start());
    let mut bridge = disk.bridge(&pagerduty.url());
    bridge.queue(&alert(1, "Disk well"));
    disk.fail();
    assert_eq!(bridge.post(&alert(2, "Disk failing")).status, 503);
    assert_eq!(get(bridge.address, "/readyz").status, 503);
    disk.recover();
    bridge.queue(&alert(2, "Disk well again"));
    assert_eq!(get(bridge.address, "/readyz").status, 200);
    pagerduty.wait_for_accepted(2);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
}
