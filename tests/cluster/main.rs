//! Several real bridges on one PostgreSQL database.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod deliveries;
mod look_ups;
mod secrets;
mod stopping;
#[path = "../bridge/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/bridge, which needs more of it")]
mod support;

use std::time::{Duration, Instant};

use pagerduty_sandbox::Options;
use sentry_pagerduty_bridge::config::DatabaseUrl;
use sentry_pagerduty_bridge::queue::Reader;
use temporary_postgres::PostgresCluster;

use deliveries::Posted;
use support::{Bridge, PagerDuty, alert_of_level};

/// Each level is routed to its own service key; the first one to the default key.
const LEVELS: [&str; 5] = ["error", "fatal", "warning", "info", "debug"];

const ROUTES: &str = "level,fatal,another0key0for0tests000000000B2\nlevel,warning,another0key0for0tests000000000C3\n\
                      level,info,another0key0for0tests000000000D4\nlevel,debug,another0key0for0tests000000000E5";

/// The rate limit of each key: attempts per minute.
const RATE: usize = 12;

const DELIVERS: &str = "this bridge delivers for the service key from now on";

/// On a machine that is busy with other tests, PostgreSQL may be slow.
const DATABASE_TIMEOUT: (&str, &str) = ("BRIDGE_DATABASE_TIMEOUT", "10s");

fn database() -> String {
    PostgresCluster::shared().database().unwrap()
}

/// Longer than several bridges take to divide the keys among them on a busy machine.
const LONG: Duration = Duration::from_mins(2);

fn start(pagerduty: &PagerDuty, database: &str) -> Bridge {
    // This makes a lease last 15 s.
    start_with_timeout(pagerduty, database, "2s")
}

/// `timeout` is for requests to PagerDuty, and makes a lease last more than twice as long.
fn start_with_timeout(pagerduty: &PagerDuty, database: &str, timeout: &str) -> Bridge {
    let settings = [
        ("BRIDGE_DATABASE_URL", database),
        ("BRIDGE_PAGERDUTY_ROUTES", ROUTES),
        ("BRIDGE_PAGERDUTY_RATE", "12"),
        ("BRIDGE_PAGERDUTY_TIMEOUT", timeout),
        DATABASE_TIMEOUT,
    ];
    Bridge::start_with(&pagerduty.url(), &settings)
}

/// How often a bridge has begun to deliver for a key.
fn takeovers(bridge: &Bridge) -> usize {
    bridge.process.stderr.all().iter().filter(|line| line.contains(DELIVERS)).count()
}

#[track_caller]
fn wait_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        // No event announces what another process does, so it is polled.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until no event is waiting in the queue.
#[track_caller]
fn drain(database: &str, patience: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reader = runtime.block_on(Reader::open(DatabaseUrl::parse(database).unwrap())).unwrap();
    wait_until("the last delivery", patience, || runtime.block_on(reader.overview()).unwrap().waiting == 0);
    let counts = runtime.block_on(reader.overview()).unwrap();
    assert_eq!(counts.dead, 0, "{counts:?}");
}

#[test]
fn the_keys_of_a_killed_bridge_are_delivered_by_the_other_in_order_and_within_the_rate() {
    let (pagerduty, database) = (PagerDuty::start(), database());
    pagerduty.set_options(Options { journal_entries: usize::MAX, journal_bytes: usize::MAX, ..pagerduty.options() });
    let (mut first, second) = (start(&pagerduty, &database), start(&pagerduty, &database));
    let mut posted = Posted::default();
    for (issue, level) in (0..).zip(LEVELS) {
        posted.post(&first, level, issue);
    }
    pagerduty.wait_for_accepted(5);
    wait_until("the spread of keys over both bridges", LONG, || takeovers(&second) >= 2 && takeovers(&first) >= 2);
    // More events for each key than its rate limit allows within a minute, from both bridges. The first bridge is killed
    // meanwhile.
    for round in 0..4 {
        for (place, level) in (0..).zip(LEVELS) {
            for incident in 0..3 {
                let bridge = if round < 2 && (round + incident) % 2 == 0 { &first } else { &second };
                posted.post(bridge, level, 100 * (place + 1) + incident);
            }
        }
        if round == 1 {
            first.process.kill();
        }
    }
    drain(&database, Duration::from_mins(3));
    posted.assert_delivered(&pagerduty.journal());
    deliveries::assert_rate(&pagerduty.journal(), RATE);
    assert_eq!(pagerduty.counters().violations, 0);
    assert_eq!(takeovers(&second), LEVELS.len(), "it took over what the first one had");
}

#[test]
fn a_bridge_that_stops_hands_its_keys_over_at_once() {
    let (pagerduty, database) = (PagerDuty::start(), database());
    // A lease lasts more than 4 minutes.
    let [mut first, second] = [0, 1].map(|_| start_with_timeout(&pagerduty, &database, "2m"));
    for (issue, level) in (0..).zip(LEVELS) {
        assert_eq!(first.post(&alert_of_level(level, issue, "before")).status, 202);
    }
    pagerduty.wait_for_accepted(5);
    wait_until("the spread of keys over both bridges", LONG, || takeovers(&second) >= 2 && takeovers(&first) >= 2);
    let ended = first.terminate("TERM");
    assert_eq!(ended.code(), Some(0), "{ended}: {:#?}", first.process.stderr.all());
    // Long before a lease would end.
    wait_until("the handover", LONG, || takeovers(&second) >= LEVELS.len());
    for (issue, level) in (10..).zip(LEVELS) {
        assert_eq!(second.post(&alert_of_level(level, issue, "after")).status, 202);
    }
    pagerduty.wait_for_accepted(10);
}

#[test]
fn what_one_bridge_commits_for_a_key_of_the_other_is_delivered_at_once() {
    let (pagerduty, database) = (PagerDuty::start(), database());
    let bridges = [start(&pagerduty, &database), start(&pagerduty, &database)];
    for (issue, level) in (0..).zip(LEVELS) {
        assert_eq!(bridges[0].post(&alert_of_level(level, issue, "first")).status, 202);
    }
    pagerduty.wait_for_accepted(5);
    let [one, other] = &bridges;
    wait_until("the spread of keys", LONG, || takeovers(one) >= 2 && takeovers(other) >= 2);
    for (issue, bridge) in (100..110).zip(bridges.iter().cycle()) {
        let level = LEVELS[(issue % 5) as usize];
        assert_eq!(bridge.post(&alert_of_level(level, issue, "second")).status, 202);
    }
    pagerduty.wait_for_accepted(15);
    let metrics = String::from_utf8(one.get("/metrics").body).unwrap();
    let series =
        |metric: &str| metrics.lines().filter(|line| line.starts_with(&format!("bridge_cluster_{metric}"))).count();
    assert_eq!(
        (series("last_seen_timestamp_seconds{"), series("service_keys{"), series("leader{")),
        (2, 2, 2),
        "{metrics}"
    );
    assert!(metrics.contains("bridge_cluster_different_settings 0"), "{metrics}");
}
