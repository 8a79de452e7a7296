//! Files of a running bridge are deleted, replaced or truncated, or a second bridge is started on them.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sentry_pagerduty_bridge::queue::Queue;

use crate::support::{Bridge, ClosedPort, KEY, PagerDuty, Process, TOKEN, alert, get, program};

/// Number of alerts before and after the damage.
const BEFORE: u64 = 5;
const AFTER: u64 = 33;

/// How often an alert is posted at most, ten times a second.
const POSTS: u64 = 300;

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn remove(paths: &[PathBuf]) {
    for path in paths {
        fs::remove_file(path).unwrap();
    }
}

fn truncate(path: &Path, size: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(size).unwrap();
}

/// Like [`after_live`], with `damage` done to the database as if in one step.
#[track_caller]
fn after(damage: impl FnOnce(&Path)) -> Account {
    after_live(|bridge| bridge.process.while_stopped(|| damage(&bridge.database())))
}

/// Applies `damage` to the files of a bridge between two bursts of alerts, kills it, and starts it again. Returns which
/// alerts were answered 202 and which were delivered, before and after the damage.
#[track_caller]
fn after_live(damage: impl FnOnce(&Bridge)) -> Account {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start(&port.url());
    for issue in 1..=BEFORE {
        bridge.queue(&alert(issue, "before"));
    }
    damage(&bridge);
    let mut taken = BTreeSet::new();
    for issue in BEFORE + 1..=BEFORE + AFTER {
        match bridge.post(&alert(issue, "after")).status {
            202 => drop(taken.insert(issue)),
            status => assert_eq!(status, 503),
        }
    }
    bridge.process.kill();
    let said = bridge.process.stderr.all().join("\n");
    let pagerduty = port.open();
    bridge.restart();
    // It is the last event of all, so the others are delivered by then if they ever are.
    bridge.queue(&alert(1000, "last"));
    pagerduty.wait_for("the last", |records| records.incident(KEY, "1000").is_some());
    pagerduty.wait_for("what was taken", |records| {
        taken.iter().all(|issue| records.incident(KEY, &issue.to_string()).is_some())
    });
    let delivered = pagerduty.triggers().into_iter().map(|(incident, _)| incident.parse().unwrap()).collect();
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    Account { taken, delivered, said }
}

struct Account {
    taken: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    said: String,
}

impl Account {
    /// Asserts that everything that was answered 202 was delivered, including the alerts from before the damage, and that
    /// the bridge recovered without a restart.
    #[track_caller]
    fn assert_nothing_is_lost(&self) {
        assert!(self.taken.len() as u64 >= AFTER - 1, "the bridge did not go on: {:?}\n{}", self.taken, self.said);
        let lost: Vec<_> = (1..=BEFORE).filter(|issue| !self.delivered.contains(issue)).collect();
        assert!(lost.is_empty(), "{lost:?} of those before are lost\n{}", self.said);
    }
}

#[test]
fn a_database_that_is_deleted_under_a_running_bridge_loses_nothing_that_was_answered_202() {
    let account = after(|database| {
        remove(&[beside(database, "-wal"), beside(database, "-shm"), database.to_owned()]);
    });
    account.assert_nothing_is_lost();
    assert!(account.said.contains("was deleted or moved away while the bridge runs on it"), "{}", account.said);
}

#[test]
fn a_database_that_is_deleted_without_its_log_loses_nothing_that_was_answered_202() {
    after(|database| remove(&[database.to_owned()])).assert_nothing_is_lost();
}

#[test]
fn whatever_is_deleted_again_and_again_in_a_flood_all_that_is_answered_202_is_delivered() {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start(&port.url());
    let (database, taken, posted) = (bridge.database(), Mutex::new(BTreeSet::new()), AtomicU64::new(0));
    thread::scope(|scope| {
        for poster in 0..4 {
            let (bridge, taken, posted) = (&bridge, &taken, &posted);
            scope.spawn(move || {
                for issue in (1..=400).filter(|issue| issue % 4 == poster) {
                    // The bridge may need several attempts to open the database again.
                    for _ in 0..POSTS {
                        match bridge.post(&alert(issue, "flood")).status {
                            202 => {
                                taken.lock().unwrap().insert(issue);
                                break;
                            }
                            status => assert_eq!(status, 503),
                        }
                        thread::sleep(Duration::from_millis(100));
                    }
                    posted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for (suffixes, after) in [(&["-wal", "-shm", ""][..], 40), (&["-wal"], 120), (&[""], 200), (&["-shm", ""], 280)]
        {
            while posted.load(Ordering::Relaxed) < after {
                thread::sleep(Duration::from_millis(1));
            }
            for suffix in suffixes {
                // The bridge may be creating it again at this moment.
                let _ = fs::remove_file(beside(&database, suffix));
            }
        }
    });
    bridge.process.kill();
    let said = bridge.process.stderr.all().join("\n");
    let taken = taken.into_inner().unwrap();
    assert_eq!(taken.len(), 400, "the bridge did not go on: {taken:?}\n{said}");
    let pagerduty = port.open();
    bridge.restart();
    pagerduty.wait_for("what was taken", |records| {
        taken.iter().all(|issue| records.incident(KEY, &issue.to_string()).is_some())
    });
}

#[test]
fn a_log_that_is_deleted_under_a_running_bridge_loses_nothing_that_was_answered_202() {
    after(|database| remove(&[beside(database, "-wal")])).assert_nothing_is_lost();
    after(|database| remove(&[beside(database, "-wal"), beside(database, "-shm")])).assert_nothing_is_lost();
}

#[test]
fn a_log_that_is_replaced_under_a_running_bridge_loses_nothing_that_was_answered_202() {
    let account = after(|database| {
        let log = beside(database, "-wal");
        fs::copy(&log, beside(&log, "-copy")).unwrap();
        fs::rename(beside(&log, "-copy"), &log).unwrap();
    });
    account.assert_nothing_is_lost();
}

#[test]
fn a_database_that_is_replaced_under_a_running_bridge_loses_nothing_that_was_answered_202() {
    let account = after(|database| {
        let other = beside(database, "-other");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Queue::open(&other).await.unwrap().close().await.unwrap() });
        fs::rename(other, database).unwrap();
    });
    account.assert_nothing_is_lost();
    assert!(
        account.said.contains("5 waiting events and dead letters that only it had are taken over"),
        "{}",
        account.said
    );
}

/// Deletes the files, and creates a folder in place of the write-ahead log: a log that cannot be removed would be applied to
/// the new database. Returns its path.
fn without_its_files(bridge: &Bridge) -> PathBuf {
    let database = bridge.database();
    let log = beside(&database, "-wal");
    bridge.process.while_stopped(|| {
        remove(&[log.clone(), beside(&database, "-shm"), database]);
        fs::create_dir(&log).unwrap();
    });
    log
}

#[test]
fn a_deleted_database_that_cannot_be_written_again_yet_is_once_it_can() {
    let account = after_live(|bridge| {
        let log = without_its_files(bridge);
        assert_eq!(bridge.post(&alert(BEFORE, "meanwhile")).status, 503);
        bridge.wait_for_log("the database could not be opened again");
        fs::remove_dir(&log).unwrap();
        bridge.wait_for_log("is open again");
    });
    account.assert_nothing_is_lost();
}

#[test]
fn a_bridge_that_stops_writes_a_deleted_database_again_first() {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start(&port.url());
    bridge.queue(&alert(1, "before"));
    let log = without_its_files(&bridge);
    // After this the next attempt is seconds away.
    bridge.process.stderr.wait_for("several attempts to open the database again", {
        let mut failed = 0;
        move |line| {
            failed += usize::from(line.contains("the database could not be opened again"));
            (failed >= 4).then_some(())
        }
    });
    fs::remove_dir(&log).unwrap();
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    let pagerduty = port.open();
    bridge.restart();
    pagerduty.wait_for("the alert", |records| records.incident(KEY, "1").is_some());
}

#[test]
fn what_is_answered_202_after_the_log_was_truncated_is_delivered_and_what_was_lost_is_named() {
    for size in [0, 20_000] {
        let account = after(|database| truncate(&beside(database, "-wal"), size));
        assert!(account.taken.len() as u64 >= AFTER - 1, "{size}: {:?}\n{}", account.taken, account.said);
        let lost = (1..=BEFORE).filter(|issue| !account.delivered.contains(issue)).count();
        assert!(
            account.said.contains(&format!("{lost} events that were accepted into the database")),
            "{}",
            account.said
        );
    }
}

#[test]
fn nothing_is_answered_202_into_a_database_that_was_truncated() {
    for size in [0, 8192] {
        let port = ClosedPort::new();
        let mut bridge = Bridge::start(&port.url());
        // Enough that part of it is in the database file itself.
        for issue in 1..=200 {
            bridge.queue(&alert(issue, "before"));
        }
        truncate(&bridge.database(), size);
        let taken: Vec<_> = (201..=233).filter(|issue| bridge.post(&alert(*issue, "after")).status == 202).collect();
        let ready = bridge.get("/readyz").status;
        assert!(taken.is_empty() == (ready == 503), "{size}: {taken:?}, {ready}");
        bridge.process.kill();
        if !taken.is_empty() {
            let pagerduty = port.open();
            bridge.restart();
            pagerduty.wait_for("what was taken", |records| {
                taken.iter().all(|issue| records.incident(KEY, &issue.to_string()).is_some())
            });
        }
    }
}

#[test]
fn a_bridge_without_its_files_is_not_ready_without_a_webhook_and_is_again_once_they_are_back() {
    let home = tempfile::tempdir().unwrap();
    let (folder, away) = (home.path().join("queue"), home.path().join("away"));
    fs::create_dir(&folder).unwrap();
    let (pagerduty, database) = (PagerDuty::start(), format!("sqlite:{}", folder.join("bridge.db").display()));
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_DATABASE_URL", &database)]);
    fs::rename(&folder, &away).unwrap();
    bridge.wait_for_log("alerts cannot be committed");
    assert_eq!(get(bridge.address, "/readyz").status, 503);
    assert_eq!(bridge.post(&alert(1, "Disk full")).status, 503);
    fs::rename(&away, &folder).unwrap();
    bridge.queue(&alert(1, "Disk full"));
    assert_eq!(get(bridge.address, "/readyz").status, 200);
    pagerduty.wait_for_accepted(1);
}

/// Asserts that a second bridge on `database` refuses to start.
#[track_caller]
fn is_refused(database: &Path) {
    let database = format!("sqlite:{}", database.display());
    let settings = [
        ("BRIDGE_DATABASE_URL", database.as_str()),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
        ("BRIDGE_LISTEN", "127.0.0.1:0"),
    ];
    let mut second = Process::spawn(program().envs(settings));
    let said = second.stderr.wait_for("an end or a start", |line| {
        (line.contains("\"level\":\"error\"") || line.contains("listening on")).then(|| line.to_owned())
    });
    assert!(said.contains("another bridge is running on the database"), "{said}");
    assert_eq!(second.exit().code(), Some(1));
}

#[test]
fn neither_a_deleted_lock_file_nor_a_link_lets_a_second_bridge_start() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let database = bridge.database();
    let folder = tempfile::tempdir().unwrap();
    let (hard, soft) = (folder.path().join("hard.db"), folder.path().join("soft.db"));
    fs::hard_link(&database, &hard).unwrap();
    std::os::unix::fs::symlink(&database, &soft).unwrap();
    is_refused(&hard);
    is_refused(&soft);
    remove(&[beside(&database, "-lock")]);
    is_refused(&database);
    bridge.wait_for_log("the lock file");
    is_refused(&database);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_accepted(1);
}
