//! The standby of PostgreSQL is promoted under load.

use std::thread::sleep;
use std::time::{Duration, Instant};

use temporary_postgres::PostgresCluster;

use crate::accounting::Accounting;
use crate::load::Clients;
use crate::proxy::Proxy;
use crate::{
    DATABASE_TIMEOUT, assert_delivered, by_way_of, drain, load, loopback, pagerduty, start, support, wait_until,
};

/// Stops the primary while alerts come, and promotes its standby. Returns PagerDuty and the posted alerts.
fn lose_the_primary(is_synchronous: bool) -> (support::PagerDuty, Vec<Vec<load::Post>>) {
    let primary = PostgresCluster::start(&[]).unwrap();
    let (pagerduty, database) = (pagerduty(), primary.database().unwrap());
    let standby = primary.standby().unwrap();
    if is_synchronous {
        primary.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'").unwrap();
        primary.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    }
    let wanted = if is_synchronous { "sync" } else { "async" };
    wait_until("the replication", || {
        primary.psql("postgres", "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'").unwrap()
            == wanted
    });
    // The address of the proxy follows the primary, as with a cluster manager.
    let proxy = Proxy::start(vec![loopback(primary.port())]);
    let url = by_way_of(&proxy, &primary, &database);
    let bridges = [(); 2].map(|()| start(&pagerduty, &url, &[DATABASE_TIMEOUT]));
    let clients = Clients::start(bridges.iter().map(|bridge| bridge.address).collect(), Duration::from_millis(2));
    wait_until("the load", || clients.taken() >= 500);

    primary.stop().unwrap();
    let lost = Instant::now();
    standby.promote().unwrap();
    proxy.forward_to(vec![loopback(standby.port())]);
    let taken = clients.taken();
    wait_until("alerts that the new primary takes", || clients.taken() > taken);
    println!("{wanted}: alerts were taken again {:?} after the primary was gone", lost.elapsed());
    // The load continues for a while.
    sleep(Duration::from_secs(1));
    let posts = clients.end();
    drain(&url);
    (pagerduty, posts)
}

#[test]
fn what_was_answered_202_survives_the_primary_where_the_standby_is_synchronous() {
    let (pagerduty, posts) = lose_the_primary(true);
    assert_delivered(&pagerduty, &posts);
}

#[test]
fn bridges_go_on_with_an_asynchronous_standby_whatever_it_missed() {
    let (pagerduty, posts) = lose_the_primary(false);
    // The number of lost alerts is printed, not asserted: an asynchronous standby may lose some.
    println!("{}", Accounting::of(&pagerduty.journal(), &posts));
    assert_eq!(pagerduty.counters().violations, 0);
}
