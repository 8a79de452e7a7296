//! The time of the bridge's mapping, compared with the time that `serde_json` needs to skip the same bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chrono::Utc;
use sentry_pagerduty_bridge::ingest::{Decision, Webhook};
use serde::de::IgnoredAny;

use crate::body::{Sample, USUAL};
use crate::{baselines, load};

/// How long each is measured.
const TIME: Duration = Duration::from_millis(300);

/// How often each is measured, in turn.
const ROUNDS: usize = 9;

pub(crate) fn run() {
    let ingest = baselines::ingest();
    for size in [1_000, USUAL, 125_000, 500_000, 8_000_000] {
        let body = Sample::new(size).body(1);
        let webhook = Webhook::of_body(&body, Utc::now());
        assert!(matches!(ingest.decide(&webhook), Decision::Enqueue(_)));
        let (mut skipped, mut mapped) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            skipped.push(time(|| {
                black_box(serde_json::from_slice::<IgnoredAny>(black_box(&body)).unwrap());
            }));
            mapped.push(time(|| drop(black_box(ingest.decide(black_box(&webhook))))));
        }
        let ratio = load::middle(mapped.iter().zip(&skipped).map(|(mapped, skipped)| mapped / skipped).collect());
        println!(
            "{:>8} bytes: skipped in {:>8.2} µs, mapped in {:>8.2} µs: {ratio:.2} times (median of the rounds' ratios)",
            body.len(),
            load::middle(skipped),
            load::middle(mapped),
        );
    }
}

/// How long one run takes, in µs.
fn time(run: impl Fn()) -> f64 {
    let begun = Instant::now();
    let mut runs = 0_u32;
    while begun.elapsed() < TIME {
        run();
        runs += 1;
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(runs)
}
