//! Everything that was answered 202 is delivered, although the real binary is killed at random moments and PagerDuty fails.
//!
//! `CRASH_KILLS` sets the number of kills; `CRASH_SEED` repeats the choices of a run, but not the timing of the machine.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod accounting;
mod faulty_disk;
mod load;
mod power_cut;
mod random_faults;
mod resolves;
#[path = "../bridge/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/bridge, which needs more of it")]
mod support;

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use pagerduty_sandbox::{Options, Sandbox};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sentry_pagerduty_bridge::queue::{Overview, Reader};

use self::accounting::Accounting;
use self::load::Clients;
use self::support::{Bridge, PATIENCE, PagerDuty};

/// The number of kills if `CRASH_KILLS` is not set.
const KILLS: usize = 50;

/// The largest number of alerts between two kills.
const POSTS: usize = 60;

/// How long a kill is delayed until PagerDuty receives a request.
const MEANT: Duration = Duration::from_millis(200);

/// The value of the variable `name`.
fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is no number")))
}

#[test]
fn killed_at_any_moment_the_bridge_delivers_all_it_had_answered_202_for() {
    let kills = number("CRASH_KILLS").unwrap_or(KILLS);
    let seed = number("CRASH_SEED").unwrap_or_else(rand::random);
    println!("CRASH_SEED={seed} CRASH_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);

    let pagerduty = PagerDuty::start();
    pagerduty.set_options(Options { journal_entries: usize::MAX, journal_bytes: usize::MAX, ..pagerduty.options() });
    let mut bridge = Bridge::start(&pagerduty.url());
    let clients = Clients::start(bridge.address);
    for _ in 0..kills {
        pagerduty.clear_faults();
        for rule in random_faults::rules(&mut random) {
            pagerduty.inject(rule).unwrap();
        }
        let posts = random.random_range(1..=POSTS);
        let answered = clients.answered() + random.random_range(1..=posts);
        clients.post(posts);
        clients.wait_for_answers(answered);
        if random.random() {
            // Kills during a delivery rather than during a webhook. There may be no delivery while all keys back off.
            let requests = pagerduty.counters().requests + random.random_range(1..=5);
            let comes = Sandbox::wait_for(&pagerduty, MEANT, |records| records.counters().requests >= requests);
            let _ = runtime().block_on(comes);
        }
        bridge.process.kill();
        bridge.restart();
        clients.move_to(bridge.address);
    }
    let posts = clients.end();
    pagerduty.clear_faults();
    // Restarted once more, because a restart ends all backoffs.
    bridge.process.kill();
    bridge.restart();
    let counts = drained(&bridge.database());

    let accounting = Accounting::of(&pagerduty.journal(), &posts);
    println!("{accounting} {counts:?} {:?}", pagerduty.counters());
    accounting.assert_balanced();
    assert_eq!((counts.waiting, counts.dead), (0, 0));
    assert_eq!((pagerduty.counters().violations, pagerduty.counters().refused), (0, 0));
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits until no event is waiting in the queue.
#[track_caller]
fn drained(database: &Path) -> Overview {
    runtime().block_on(async {
        let reader = Reader::open(database).await.unwrap();
        let (mut deadline, mut least) = (Instant::now() + PATIENCE, u64::MAX);
        loop {
            let counts = reader.overview().await.unwrap();
            if counts.waiting == 0 {
                return counts;
            }
            if counts.waiting < least {
                (deadline, least) = (Instant::now() + PATIENCE, counts.waiting);
            }
            assert!(Instant::now() < deadline, "nothing moves any more: {counts:?}");
            // No event announces that another process changed the database, so it is polled.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}
