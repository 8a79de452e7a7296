//! There is no single point of failure: several real bridges on PostgreSQL while bridges, connections and servers fail.
//!
//! `HA_SECONDS` sets how long the rolling restart lasts; `HA_SEED` repeats the choices of the kills, but not the timing of
//! the machine.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

#[path = "../crash/accounting.rs"]
mod accounting;
mod blackhole;
#[path = "../cluster/deliveries.rs"]
#[allow(dead_code, reason = "shared with tests/cluster, which needs more of it")]
mod deliveries;
mod kills;
mod load;
mod proxy;
mod rolling_restart;
mod standby;
#[path = "../bridge/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/bridge, which needs more of it")]
mod support;

use std::env;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pagerduty_sandbox::Options;
use sentry_pagerduty_bridge::config::DatabaseUrl;
use sentry_pagerduty_bridge::queue::Reader;
use temporary_postgres::PostgresCluster;

use accounting::Accounting;
use load::Post;
use support::{Bridge, PagerDuty};

/// Each level is routed to its own service key; the first one to the default key.
const LEVELS: [&str; 5] = ["error", "fatal", "warning", "info", "debug"];

const ROUTES: &str = "level,fatal,another0key0for0tests000000000B2\nlevel,warning,another0key0for0tests000000000C3\n\
                      level,info,another0key0for0tests000000000D4\nlevel,debug,another0key0for0tests000000000E5";

/// The timeout for whatever depends on the end of a lease, on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// A sandbox with an unlimited journal.
fn pagerduty() -> PagerDuty {
    let pagerduty = PagerDuty::start();
    pagerduty.set_options(Options { journal_entries: usize::MAX, journal_bytes: usize::MAX, ..pagerduty.options() });
    pagerduty
}

/// On a machine that is busy with other tests, PostgreSQL may be slow.
const DATABASE_TIMEOUT: (&str, &str) = ("BRIDGE_DATABASE_TIMEOUT", "10s");

#[track_caller]
fn start(pagerduty: &PagerDuty, database: &str, settings: &[(&str, &str)]) -> Bridge {
    let usual = [
        ("BRIDGE_DATABASE_URL", database),
        ("BRIDGE_PAGERDUTY_ROUTES", ROUTES),
        // This makes a lease last 15 s.
        ("BRIDGE_PAGERDUTY_TIMEOUT", "2s"),
    ];
    Bridge::start_with(&pagerduty.url(), &[&usual, settings].concat())
}

/// The value of the variable `name`.
fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is no number")))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The URL of the same database through a proxy.
fn by_way_of(proxy: &proxy::Proxy, cluster: &PostgresCluster, url: &str) -> String {
    url.replace(&format!(":{}/", cluster.port()), &format!(":{}/", proxy.address.port()))
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        // No event announces what another process does, so it is polled.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until no event is waiting in the queue.
#[track_caller]
fn drain(database: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reader = runtime.block_on(Reader::open(DatabaseUrl::parse(database).unwrap())).unwrap();
    let mut counts = runtime.block_on(reader.overview()).unwrap();
    let mut deadline = Instant::now() + LONG;
    while counts.waiting > 0 {
        std::thread::sleep(Duration::from_millis(50));
        let now = runtime.block_on(reader.overview()).unwrap();
        if now.waiting < counts.waiting {
            deadline = Instant::now() + LONG;
        }
        counts = now;
        assert!(Instant::now() < deadline, "nothing moves any more: {counts:?}");
    }
    assert_eq!(counts.dead, 0, "{counts:?}");
}

/// Asserts that everything that was answered 202 was delivered in order; returns how many alerts were not answered 202.
#[track_caller]
fn assert_delivered(pagerduty: &PagerDuty, posts: &[Vec<Post>]) -> usize {
    let accounting = Accounting::of(&pagerduty.journal(), posts);
    let refused = posts.iter().flatten().filter(|post| post.status.is_some_and(|status| status != 202)).count();
    let unanswered = posts.iter().flatten().filter(|post| post.status.is_none()).count();
    let slowest = posts.iter().flatten().filter(|post| post.taken).map(|post| post.took).max();
    println!("the slowest 202 took {slowest:?}");
    println!("{accounting} {refused} refused, {unanswered} without an answer; {:?}", pagerduty.counters());
    accounting.assert_balanced();
    let counters = pagerduty.counters();
    assert_eq!((counters.violations, counters.refused), (0, 0));
    refused + unanswered
}
