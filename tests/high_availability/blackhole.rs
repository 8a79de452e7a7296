//! The network between one bridge and PostgreSQL drops all packets.

use std::time::Instant;

use temporary_postgres::PostgresCluster;

use crate::load::is_ready;
use crate::proxy::Proxy;
use crate::support::alert_of_level;
use crate::{DATABASE_TIMEOUT, LEVELS, by_way_of, loopback, pagerduty, start, wait_until};

#[test]
fn a_bridge_that_loses_postgresql_is_red_and_refuses_while_the_others_go_on() {
    let cluster = PostgresCluster::shared();
    let (pagerduty, database) = (pagerduty(), cluster.database().unwrap());
    let proxy = Proxy::start(vec![loopback(cluster.port())]);
    let (cut, other) = (
        start(&pagerduty, &by_way_of(&proxy, cluster, &database), &[]),
        start(&pagerduty, &database, &[DATABASE_TIMEOUT]),
    );
    for (issue, level) in (0..).zip(LEVELS) {
        assert_eq!(other.post(&alert_of_level(level, issue, "before")).status, 202);
    }
    pagerduty.wait_for_accepted(5);
    wait_until("readiness", || is_ready(cut.address));

    proxy.blackhole(true);
    let begun = Instant::now();
    // Before any webhook has failed.
    wait_until("a red /readyz", || !is_ready(cut.address));
    println!("/readyz was red after {:?}", begun.elapsed());
    let again = Instant::now();
    assert_eq!(cut.post(&alert_of_level("error", 51, "during")).status, 503);
    println!("a webhook was refused within {:?}", again.elapsed());

    for (issue, level) in (100..).zip(LEVELS) {
        assert_eq!(other.post(&alert_of_level(level, issue, "by the other")).status, 202);
    }
    // After the leases of the disconnected bridge have ended.
    wait_until("the deliveries by the other", || pagerduty.counters().accepted >= 10);
    println!("the other delivers for all keys after {:?}", begun.elapsed());

    proxy.blackhole(false);
    let healed = Instant::now();
    wait_until("recovery", || is_ready(cut.address));
    println!("/readyz was green {:?} after the network was back", healed.elapsed());
    for (issue, level) in (200..).zip(LEVELS) {
        assert_eq!(cut.post(&alert_of_level(level, issue, "after")).status, 202);
    }
    wait_until("the last deliveries", || pagerduty.counters().accepted >= 15);
}
