//! How much memory the mapping of an alert takes in addition to its body.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers of tests included")]

use std::fs;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use peak_alloc::PeakAlloc;
use sentry_pagerduty_bridge::ingest::{Ingest, Policy, Webhook};
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_pagerduty_bridge::routing::Routes;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// How many bytes the mapping may take in addition to the length of the body.
const BESIDE: usize = 64 * 1024;

/// The recorded and composed bodies, with their names.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let bodies = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |path: PathBuf| (path.display().to_string(), fs::read(path).unwrap());
    bodies.map(read).collect()
}

/// A recorded body that was made `size` bytes longer, by stack frames and by extra data.
fn grown(size: usize) -> Vec<u8> {
    let mut body: Value = serde_json::from_str(include_str!("../fixtures/legacy-9.1/node-exception.json")).unwrap();
    let line =
        json!({"at": 1_764_152_000.125, "message": "GET /cart \"200\" 12 ms", "rows": [1, 2, 3], "cached": null});
    body["event"]["extra"] = json!({"log": vec![line; size / 2 / 80]});
    let frames = body.pointer_mut("/event/exception/values/0/stacktrace/frames").unwrap().as_array_mut().unwrap();
    let length = serde_json::to_string(&frames[0]).unwrap().len();
    *frames = frames.iter().cycle().take(size / 2 / length).cloned().collect();
    serde_json::to_vec(&body).unwrap()
}

/// This is the only test of its binary, because the allocator counts the allocations of all threads.
#[test]
fn an_alert_takes_at_most_as_much_memory_as_its_body_and_64_kib() {
    let key = ServiceKey::parse("00000000000000000000000000000001").unwrap();
    let ingest = Ingest::new(Routes::new(key, "").unwrap(), Policy::default());
    let grown = [1_000, 13_000, 125_000, 1_000_000].map(|size| (format!("{size} bytes more"), grown(size)));
    let bodies: Vec<_> = fixtures().into_iter().chain(grown).collect();
    assert!(bodies.len() > 100);
    for (name, body) in &bodies {
        let webhook = Webhook::of_body(body, DateTime::UNIX_EPOCH);
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let decision = ingest.decide(&webhook);
        let taken = ALLOCATOR.peak_usage() - before;
        drop(decision);
        assert!(taken <= body.len() + BESIDE, "{name}: {taken} bytes for a body of {}", body.len());
    }
}
