//! The scenario of a world: its alerts, faults, crashes and admin actions.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sentry_pagerduty_bridge::delivery::DeliveryLimits;
use sentry_pagerduty_bridge::pagerduty::EventType;

use crate::fault::{Content, Fault, Kind};
use crate::queue::utc;

/// An alert that Sentry sends.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    /// The same in every variant of a world.
    pub(crate) number: usize,
    pub(crate) at: Duration,
    pub(crate) key: usize,
    pub(crate) incident: usize,
    pub(crate) event_type: EventType,
    pub(crate) content: Content,
}

/// The bridge is killed after this number of steps, and started again after `down`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    pub(crate) after_steps: u64,
    pub(crate) down: Duration,
}

/// An admin action of an operator.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AdminAction {
    /// Retries every dead letter of the key.
    RetryDead { key: usize },
    /// Deletes the waiting event at this position in the queue of the key.
    Discard { key: usize, place: usize },
    /// Deletes every dead letter of the key.
    DiscardDead { key: usize },
}

/// The scenario of a world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) limits: DeliveryLimits,
    pub(crate) keys: usize,
    pub(crate) alerts: Vec<Alert>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) crashes: Vec<Crash>,
    pub(crate) admin_actions: Vec<(Duration, AdminAction)>,
    /// When the machine's clock is set, and by how many seconds.
    pub(crate) clock_steps: Vec<(Duration, i64)>,
    /// Admin actions after a number of steps, to hit moments that have no predictable time.
    pub(crate) admin_actions_between: Vec<(u64, AdminAction)>,
    /// From when to when nothing can be committed or read.
    pub(crate) disk_failures: Vec<(Duration, Duration)>,
    /// Until this time, this part of the page reads fails.
    pub(crate) bad_reads: (Duration, f64),
    /// Alerts, by their numbers, that cannot be read from the queue until this time.
    pub(crate) unreadable: HashMap<usize, Duration>,
    /// The part of the announcements that is dropped, so that their keys have to be read.
    pub(crate) overflows: f64,
    /// The longest travel time of a request or a response without faults.
    pub(crate) travel: Duration,
    /// The duration of a commit in milliseconds.
    pub(crate) commit: RangeInclusive<u64>,
}

/// The longest duration of an attempt.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

impl Scenario {
    /// The same scenario with the events of one key only, and without the faults of others.
    pub(crate) fn only_key(&self, key: usize) -> Self {
        let mut scenario = self.clone();
        scenario.alerts.retain(|alert| alert.key == key);
        scenario.faults.retain(|fault| fault.key.is_none_or(|own| own == key));
        scenario
    }

    /// The time by the machine's clock.
    pub(crate) fn wall_clock(&self, now: Duration) -> DateTime<Utc> {
        let steps = self.clock_steps.iter().filter(|(at, _)| *at <= now);
        utc(now) + TimeDelta::seconds(steps.map(|(_, seconds)| seconds).sum())
    }

    /// Whether attempts may look older than they are when the bridge starts again.
    pub(crate) fn jumps_ahead(&self) -> bool {
        !self.crashes.is_empty() && self.clock_steps.iter().any(|(_, seconds)| *seconds > 0)
    }

    /// From this time on there are no faults and no new alerts; the bridge may still be killed.
    pub(crate) fn faults_end(&self) -> Duration {
        let alerts = self.alerts.iter().map(|alert| alert.at);
        let faults = self.faults.iter().map(|fault| fault.until);
        let poison = self.alerts.iter().filter_map(|alert| match alert.content {
            Content::Poison { until, .. } => Some(until),
            Content::Fine | Content::Invalid => None,
        });
        let admin_actions = self.admin_actions.iter().map(|(at, _)| *at);
        let disk = self.disk_failures.iter().map(|(_, until)| *until);
        let steps = self.clock_steps.iter().map(|(at, _)| *at);
        let damage = self.unreadable.values().copied().chain([self.bad_reads.0]);
        let last = alerts.chain(faults).chain(poison).chain(admin_actions).chain(disk).chain(steps).chain(damage).max();
        // The last alert has to be committed.
        last.unwrap_or_default() + Duration::from_secs(1)
    }

    /// The longest `Retry-After` of PagerDuty.
    pub(crate) fn longest_retry_after(&self) -> Duration {
        let asked = self.faults.iter().filter_map(|fault| match fault.kind {
            Kind::Errors { retry_after, .. } | Kind::Throttled { retry_after, .. } => retry_after,
            _ => None,
        });
        asked.max().unwrap_or_default()
    }
}
