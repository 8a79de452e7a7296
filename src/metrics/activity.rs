//! The last 24 hours in steps of ten minutes, for the charts. Pure.

use std::collections::VecDeque;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// How long one bucket is.
const STEP: TimeDelta = TimeDelta::minutes(10);

/// How many buckets are shown.
const STEPS: usize = 144;

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Happening {
    /// A webhook that proved where it comes from.
    Received,
    /// An event that PagerDuty took.
    Delivered,
    /// An attempt that PagerDuty throttled.
    Throttled,
    /// An attempt that failed in another way.
    Failed,
}

/// What happened in ten minutes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bucket {
    /// When they began.
    pub from: DateTime<Utc>,
    /// Webhooks received.
    pub received: u64,
    /// Events delivered.
    pub delivered: u64,
    /// Attempts throttled.
    pub throttled: u64,
    /// Attempts failed in another way.
    pub failed: u64,
}

/// Counts of the last 24 hours.
#[derive(Clone, Debug, Default)]
pub struct Activity(VecDeque<Bucket>);

impl Bucket {
    fn empty(from: DateTime<Utc>) -> Self {
        Self { from, received: 0, delivered: 0, throttled: 0, failed: 0 }
    }
}

impl Activity {
    /// Counts one more.
    pub fn note(&mut self, happening: Happening, at: DateTime<Utc>) {
        let from = at.duration_trunc(STEP).unwrap_or(at);
        if self.0.back().is_none_or(|last| last.from < from) {
            self.0.push_back(Bucket::empty(from));
        }
        while self.0.len() > STEPS {
            self.0.pop_front();
        }
        // A clock that was set back counts into the newest bucket.
        let Some(bucket) = self.0.back_mut() else { return };
        match happening {
            Happening::Received => bucket.received += 1,
            Happening::Delivered => bucket.delivered += 1,
            Happening::Throttled => bucket.throttled += 1,
            Happening::Failed => bucket.failed += 1,
        }
    }

    /// The buckets of the 24 hours up to `now`, also those in which nothing happened, oldest first.
    #[must_use]
    pub fn last_day(&self, now: DateTime<Utc>) -> Vec<Bucket> {
        let newest = now.duration_trunc(STEP).unwrap_or(now);
        (0..STEPS)
            .rev()
            .map(|back| newest - STEP * i32::try_from(back).unwrap_or_default())
            .map(|from| {
                self.0.iter().find(|bucket| bucket.from == from).copied().unwrap_or_else(|| Bucket::empty(from))
            })
            .collect()
    }
}
