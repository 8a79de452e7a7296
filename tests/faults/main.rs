//! Every failure on the path to PagerDuty, with the real binary and a sandbox that injects faults; at least one test for
//! each kind of fault.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod idle;
mod integrations;
mod interim;
mod middlebox;
mod network;
mod permanent_errors;
mod poison;
mod raw_server;
mod redirects;
mod slow_keys;
#[path = "../bridge/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/bridge, which needs more of it")]
mod support;
mod throttled;
mod tls;
mod tls_proxy;
mod transient_errors;
mod unknown_outcome;
mod unusual_success;

use std::path::Path;

use sentry_pagerduty_bridge::queue::{Envelope, Queue};

use self::support::Bridge;

/// All lines that the bridge has logged at this level.
fn logged(bridge: &Bridge, level: &str) -> Vec<String> {
    let lines = bridge.process.stderr.all();
    let lines = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["level"] == level).map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

/// Waits until `number` log lines contain `part`.
#[track_caller]
fn wait_for_logs(bridge: &Bridge, number: usize, part: &str) {
    let mut found = 0;
    bridge.process.stderr.wait_for(&format!("log line {number} with `{part}`"), |line| {
        found += usize::from(line.contains(part));
        (found == number).then_some(())
    });
}

/// Stops the bridge, adds events to its queue that no webhook would create, and starts it again.
fn restart_with(bridge: &mut Bridge, events: Vec<Envelope>) {
    assert!(bridge.terminate("TERM").success());
    put(&bridge.database(), events);
    bridge.restart();
}

fn put(database: &Path, events: Vec<Envelope>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let queue = Queue::open(database).await.unwrap();
        for event in events {
            queue.enqueue_event(event).await.unwrap();
        }
        queue.close().await.unwrap();
    });
}
