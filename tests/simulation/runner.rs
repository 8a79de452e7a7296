//! Runs many worlds and reports which one violated an invariant; and helpers of both simulations.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use chrono::{DateTime, Utc};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{EnqueueRequest, Envelope};

/// The other half of the machine's cores is left to the other tests.
const THREADS: usize = 2;

/// Runs `check` for each seed from 0 to `worlds`. `SIMULATION_TIMES` multiplies the number of worlds, and `SIMULATION_SEED`
/// runs one world alone.
pub(crate) fn in_worlds(worlds: u64, check: impl Fn(u64) + Sync) {
    let worlds = worlds * number("SIMULATION_TIMES").unwrap_or(1);
    let (first, end) = number("SIMULATION_SEED").map_or((0, worlds), |seed| (seed, seed + 1));
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(seed))) {
                next.store(end, Ordering::Relaxed);
                eprintln!("this was world {seed}; run it again with SIMULATION_SEED={seed}");
                resume_unwind(panic);
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    });
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")))
}

pub(crate) fn service_key(number: usize) -> ServiceKey {
    ServiceKey::parse(&format!("{number:032}")).unwrap()
}

pub(crate) fn incident_key(number: usize) -> IncidentKey {
    IncidentKey::parse(&number.to_string()).unwrap()
}

/// The request of an alert's webhook for this incident of this service key. The body contains the number of the alert.
pub(crate) fn enqueue(
    number: impl std::fmt::Display,
    key: usize,
    incident: usize,
    event_type: EventType,
    received_at: DateTime<Utc>,
) -> EnqueueRequest {
    let start = format!("{{\"number\":{number},\"details\":{{");
    EnqueueRequest::event(Envelope {
        service_key: service_key(key),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: incident_key(incident),
        event_type,
        description: String::new(),
        counts_at: Some(start.len()),
        body: (start + "}}").into_bytes(),
        received_at,
    })
}
