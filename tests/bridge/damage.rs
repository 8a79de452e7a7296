//! A damaged database: rows that cannot be read are set aside and reported, and everything else is delivered.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

use crate::support::{Bridge, ClosedPort, PagerDuty, ROUTES, alert, alert_of_level, get};

const ADMIN_TOKEN: &str = "admin-token-for-tests-alone";

/// Number of waiting alerts of the first service key: their rows fill many pages.
const ALERTS: u64 = 300;

/// Number of waiting alerts of the other service key, which are stored behind them.
const OTHERS: u64 = 20;

/// Runs `change` on the database of a stopped bridge.
fn database<T>(path: &Path, change: impl AsyncFnOnce(&mut SqliteConnection) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        let changed = change(&mut connection).await;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
        changed
    })
}

/// Overwrites the leaf page in the middle of a table, and returns how many rows are lost with it.
fn damage(path: &Path, table: &str) -> u64 {
    let (page, rows, size) = database(path, async |connection| {
        let leaves: Vec<(i64, i64)> =
            sqlx::query_as("SELECT pageno, ncell FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path")
                .bind(table)
                .fetch_all(&mut *connection)
                .await
                .unwrap();
        assert!(leaves.len() > 2, "the table {table} has too few pages: {leaves:?}");
        let (page, rows) = leaves[leaves.len() / 2];
        let size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(connection).await.unwrap();
        (page, rows, size)
    });
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(u64::try_from((page - 1) * size).unwrap())).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(size).unwrap()]).unwrap();
    file.sync_all().unwrap();
    u64::try_from(rows).unwrap()
}

/// A bridge that was stopped while alerts of two service keys waited.
fn stopped(port: &ClosedPort) -> Bridge {
    let mut bridge = Bridge::start_with(&port.url(), &[ROUTES, ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN)]);
    for issue in 1..=ALERTS {
        bridge.queue(&alert(issue, "Disk full"));
    }
    for issue in 1..=OTHERS {
        bridge.queue(&alert_of_level("fatal", 1000 + issue, "Disk on fire"));
    }
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    bridge
}

fn status(bridge: &Bridge) -> Value {
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    crate::support::get_with(bridge.address, "/api/status", &[("Authorization", &authorization)]).json()
}

fn delivered(pagerduty: &PagerDuty) -> BTreeSet<u64> {
    pagerduty.triggers().iter().map(|(incident, _)| incident.parse().unwrap()).collect()
}

/// Waits until the status counts `number` events that are set aside, and returns it.
#[track_caller]
fn sets_aside(bridge: &Bridge, number: u64) -> Value {
    bridge.wait_for_log("cannot be read and is set aside");
    for _ in 0..250 {
        let said = status(bridge);
        if said["queue"]["unreadable"] == number {
            return said;
        }
        // The view is updated twice a second.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{number} events are never set aside: {:#}", status(bridge));
}

/// Asserts that all waiting events but `lost` are delivered, and new ones as well.
#[track_caller]
fn all_else_is_delivered(bridge: &Bridge, pagerduty: &PagerDuty, lost: u64) {
    pagerduty.wait_for_accepted(ALERTS + OTHERS - lost);
    let issues = delivered(pagerduty);
    assert!((1001..=1000 + OTHERS).all(|issue| issues.contains(&issue)), "another key was held up: {issues:?}");
    for issue in 1..=ALERTS {
        bridge.queue(&alert(issue, "Disk full again"));
        if issue % 50 == 0 {
            // A commit that touches a damaged page is split into several.
            pagerduty.wait_for_accepted(ALERTS + OTHERS - lost + issue);
        }
    }
    bridge.queue(&alert_of_level("fatal", 2002, "Disk on fire again"));
    pagerduty.wait_for_accepted(2 * ALERTS + OTHERS - lost + 1);
    assert_eq!(pagerduty.triggers().iter().filter(|(_, text)| text.contains("Disk full again")).count() as u64, ALERTS);
    assert!(delivered(pagerduty).contains(&2002));
}

#[test]
fn a_damaged_page_of_the_queue_holds_up_no_other_event_and_is_told() {
    let port = ClosedPort::new();
    let mut bridge = stopped(&port);
    let lost = damage(&bridge.database(), "events");
    let pagerduty = port.open();
    bridge.restart();
    all_else_is_delivered(&bridge, &pagerduty, lost);

    let said = sets_aside(&bridge, lost);
    assert_eq!(said["status"], "failing");
    let trouble = said["troubles"].as_array().unwrap().iter().find(|trouble| trouble["cause"] == "storage").unwrap();
    let sentence = trouble["sentence"].as_str().unwrap();
    assert!(sentence.starts_with(&format!("{lost} events in the queue cannot be read")), "{sentence}");
    let metrics = String::from_utf8(get(bridge.address, "/metrics").body).unwrap();
    assert!(metrics.contains(&format!("\nbridge_queue_unreadable_events {lost}\n")), "{metrics}");
    assert!(metrics.contains("\nbridge_trouble{cause=\"storage\"} 1\n"), "{metrics}");
    assert_eq!(get(bridge.address, "/readyz").status, 200, "alerts are taken and committed");
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
}

#[test]
fn an_event_whose_body_cannot_be_read_holds_up_no_other_and_refuses_no_alert() {
    let port = ClosedPort::new();
    let mut bridge = stopped(&port);
    let lost = damage(&bridge.database(), "bodies");
    let pagerduty = port.open();
    bridge.restart();
    all_else_is_delivered(&bridge, &pagerduty, lost);
    sets_aside(&bridge, lost);
}

#[test]
fn a_row_whose_keys_are_none_holds_up_no_other_event_from_the_start_on() {
    let port = ClosedPort::new();
    let mut bridge = stopped(&port);
    database(&bridge.database(), async |connection| {
        for sql in [
            "UPDATE events SET incident_key = printf('%.300c', 'x') WHERE id = 2",
            "UPDATE events SET service_key = '0' WHERE id = 3",
            "UPDATE events SET service_key = 'no key of PagerDuty', last_attempt_at = 253402300799999 WHERE id = 4",
        ] {
            sqlx::query(sql).execute(&mut *connection).await.unwrap();
        }
    });
    let pagerduty = port.open();
    bridge.restart();
    all_else_is_delivered(&bridge, &pagerduty, 3);
    sets_aside(&bridge, 3);

    let settings = [("BRIDGE_DATABASE_URL", format!("sqlite:{}", bridge.database().display()))];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let listed = crate::support::run(&["queue", "list"], &settings);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    assert!(listed.stderr.contains("3 more waiting events cannot be read"), "{listed:?}");
    let discarded = crate::support::run(&["queue", "discard", "--yes", "2", "3"], &settings);
    assert_eq!((discarded.code, discarded.stdout.as_str()), (Some(0), "2 discarded\n"), "{discarded:?}");
    sets_aside(&bridge, 1);
}

#[test]
fn an_event_that_can_be_read_again_is_delivered_without_a_restart() {
    let port = ClosedPort::new();
    let mut bridge = stopped(&port);
    let odd = |text: &'static str| {
        let path = bridge.database();
        move || {
            database(&path, async |connection| {
                sqlx::query("UPDATE events SET incident_key = ? WHERE id = 2")
                    .bind(text)
                    .execute(connection)
                    .await
                    .unwrap();
            });
        }
    };
    let (break_it, mend_it) = (odd(""), odd("2"));
    break_it();
    let pagerduty = port.open();
    bridge.restart();
    all_else_is_delivered(&bridge, &pagerduty, 1);
    sets_aside(&bridge, 1);
    mend_it();
    // After any admin action the bridge reads the queue again.
    let settings = [("BRIDGE_DATABASE_URL", format!("sqlite:{}", bridge.database().display()))];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    crate::support::run(&["queue", "retry", "2"], &settings);
    pagerduty.wait_for_accepted(2 * ALERTS + OTHERS + 1);
    assert!(delivered(&pagerduty).contains(&2));
}
