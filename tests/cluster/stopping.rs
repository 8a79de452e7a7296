//! A bridge that stops, and what may be done to its database meanwhile.

use sentry_pagerduty_bridge::config::DatabaseUrl;
use sqlx::{ConnectOptions, Connection as _, PgConnection};

use crate::support::{Connection, PagerDuty, Run, TOKEN, alert_of_level, run};
use crate::{DATABASE_TIMEOUT, LONG, database, start, wait_until};

/// `queue export --complete` of this database.
fn export(database: &str) -> Run {
    run(&["queue", "export", "--complete", "-"], &[("BRIDGE_DATABASE_URL", database), DATABASE_TIMEOUT])
}

#[test]
fn a_bridge_that_stops_counts_as_running_until_it_can_commit_nothing_more() {
    let (pagerduty, database) = (PagerDuty::start(), database());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let DatabaseUrl::Postgres(url) = DatabaseUrl::parse(&database).unwrap() else { panic!("{database}") };
    let options = sqlx::postgres::PgConnectOptions::from_url(url.expose()).unwrap();
    let mut connection: PgConnection = runtime.block_on(options.connect()).unwrap();
    let mut leases = || {
        let held = "SELECT COUNT(*) FROM leases WHERE owner IS NOT NULL";
        runtime.block_on(sqlx::query_scalar::<_, i64>(held).fetch_one(&mut connection)).unwrap()
    };
    let mut bridge = start(&pagerduty, &database);
    wait_until("the first lease", LONG, || leases() > 0);

    let body = alert_of_level("error", 7, "late");
    let mut webhook = Connection::open(bridge.address);
    let head = format!(
        "POST /sentry/{TOKEN} HTTP/1.1\r\nHost: bridge\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    webhook.send(head.as_bytes());
    webhook.expect_continue();
    bridge.process.signal("TERM");
    wait_until("the end of the last lease", LONG, || leases() == 0);
    // What it commits from now on would be in no export.
    let refused = export(&database);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another bridge is running on the database"), "{refused:?}");

    webhook.send(&body);
    assert_eq!(webhook.answer().status, 202);
    assert_eq!(bridge.process.exit().code(), Some(0), "{:#?}", bridge.process.stderr.all());
    let exported = export(&database);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    assert!(exported.stdout.lines().any(|line| line.starts_with("[\"events\",1,")), "{exported:?}");
    runtime.block_on(connection.close()).unwrap();
}
