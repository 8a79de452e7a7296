//! Counts of the last 24 hours in steps of ten minutes, for the charts. Pure.

use std::collections::VecDeque;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// The length of a bucket.
const STEP: TimeDelta = TimeDelta::minutes(10);

/// The number of buckets.
const STEPS: usize = 144;

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ActivityKind {
    /// An authenticated webhook.
    Received,
    /// An event that PagerDuty accepted.
    Delivered,
    /// An attempt that PagerDuty throttled.
    Throttled,
    /// An attempt that failed in another way.
    Failed,
}

/// The counts of ten minutes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bucket {
    /// The start of the ten minutes.
    pub from: DateTime<Utc>,
    /// Authenticated webhooks.
    pub received: u64,
    /// Events delivered.
    pub delivered: u64,
    /// Attempts throttled.
    pub throttled: u64,
    /// Attempts failed in another way.
    pub failed: u64,
}

/// Counts of the last 24 hours. Steps without counts are not stored.
#[derive(Clone, Debug, Default)]
pub struct DailyActivity(VecDeque<Bucket>);

impl Bucket {
    fn empty(from: DateTime<Utc>) -> Self {
        Self { from, received: 0, delivered: 0, throttled: 0, failed: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.delivered += other.delivered;
        self.throttled += other.throttled;
        self.failed += other.failed;
    }
}

impl DailyActivity {
    /// Counts one webhook, event or attempt at `at`.
    pub fn record(&mut self, kind: ActivityKind, at: DateTime<Utc>) {
        let from = at.duration_trunc(STEP).unwrap_or(at);
        // Usually the last one, but the clock may have been set back.
        if let Err(place) = self.0.binary_search_by_key(&from, |bucket| bucket.from) {
            self.0.insert(place, Bucket::empty(from));
            if self.0.len() > STEPS {
                if place == 0 {
                    self.0.pop_back()
                } else {
                    self.0.pop_front()
                };
            }
        }
        if let Ok(place) = self.0.binary_search_by_key(&from, |bucket| bucket.from) {
            let bucket = &mut self.0[place];
            match kind {
                ActivityKind::Received => bucket.received += 1,
                ActivityKind::Delivered => bucket.delivered += 1,
                ActivityKind::Throttled => bucket.throttled += 1,
                ActivityKind::Failed => bucket.failed += 1,
            }
        }
    }

    /// Adds counts from elsewhere, such as from an earlier run or another bridge.
    pub fn add(&mut self, counted: impl IntoIterator<Item = Bucket>) {
        let mut all: Vec<Bucket> = counted.into_iter().chain(std::mem::take(&mut self.0)).collect();
        all.sort_by_key(|bucket| bucket.from);
        all.dedup_by(|later, kept| {
            let is_same = later.from == kept.from;
            if is_same {
                kept.add(later);
            }
            is_same
        });
        all.drain(..all.len().saturating_sub(STEPS));
        self.0 = all.into();
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The steps in which something was counted, oldest first.
    #[must_use]
    pub fn counted(&self) -> Vec<Bucket> {
        self.0.iter().copied().collect()
    }

    /// The start of the oldest step of the 24 hours up to `now`.
    #[must_use]
    pub fn horizon(now: DateTime<Utc>) -> DateTime<Utc> {
        now.duration_trunc(STEP).unwrap_or(now) - STEP * i32::try_from(STEPS - 1).unwrap_or_default()
    }

    /// All buckets of the 24 hours up to `now`, empty ones included, oldest first.
    #[must_use]
    pub fn last_day(&self, now: DateTime<Utc>) -> Vec<Bucket> {
        let mut counted = self.0.iter().peekable();
        let mut from = Self::horizon(now);
        let steps = (0..STEPS).map(|_| {
            let bucket = loop {
                match counted.peek() {
                    Some(bucket) if bucket.from < from => counted.next(),
                    Some(bucket) if bucket.from == from => break **bucket,
                    _ => break Bucket::empty(from),
                };
            };
            from += STEP;
            bucket
        });
        steps.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        "2026-11-23T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minutes)
    }

    fn received(activity: &DailyActivity, now: i64) -> Vec<(i64, u64)> {
        let day = activity.last_day(at(now));
        assert_eq!(day.len(), STEPS);
        assert!(day.is_sorted_by_key(|bucket| bucket.from));
        let counted = day.iter().filter(|bucket| bucket.received > 0);
        counted.map(|bucket| ((bucket.from - at(0)).num_minutes(), bucket.received)).collect()
    }

    #[test]
    fn a_day_has_144_steps_and_what_is_older_is_gone() {
        let mut activity = DailyActivity::default();
        for minutes in [0, 9, 10, 1439, 1440] {
            activity.record(ActivityKind::Received, at(minutes));
        }
        assert_eq!(received(&activity, 1439), [(0, 2), (10, 1), (1430, 1)]);
        assert_eq!(received(&activity, 1440), [(10, 1), (1430, 1), (1440, 1)]);
        assert_eq!(received(&activity, 10_000), []);
        for step in 0..1000 {
            activity.record(ActivityKind::Received, at(1440 + 10 * step));
        }
        assert_eq!(activity.0.len(), STEPS, "it is bounded");
    }

    #[test]
    fn what_happens_is_counted_where_it_belongs_also_after_the_clock_was_set_back() {
        let mut activity = DailyActivity::default();
        activity.record(ActivityKind::Received, at(500));
        activity.record(ActivityKind::Delivered, at(125));
        activity.record(ActivityKind::Throttled, at(125));
        activity.record(ActivityKind::Failed, at(129));
        let day = activity.last_day(at(130));
        let step = Bucket { from: at(120), received: 0, delivered: 1, throttled: 1, failed: 1 };
        assert_eq!(day[day.len() - 2], step);
        assert_eq!(activity.counted(), [step, Bucket { received: 1, ..Bucket::empty(at(500)) }]);
    }

    #[test]
    fn what_an_earlier_run_counted_is_added_to_what_this_one_did() {
        let mut activity = DailyActivity::default();
        activity.record(ActivityKind::Received, at(25));
        let earlier =
            [Bucket { received: 7, ..Bucket::empty(at(10)) }, Bucket { received: 3, ..Bucket::empty(at(20)) }];
        activity.add(earlier);
        assert_eq!(received(&activity, 30), [(10, 7), (20, 4)]);
    }
}
