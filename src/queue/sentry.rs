//! What the bridge learned from Sentry's API and has to know after a restart.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::pagerduty::IncidentKey;

/// How long notes of issues are kept: as long as closed incidents.
pub(super) const KEEP_NOTES: TimeDelta = TimeDelta::days(180);

/// How far the bridge's clock may be behind Sentry's: a trigger that was received at most this long before a firing
/// counts as its webhook.
pub const CLOCKS: TimeDelta = TimeDelta::minutes(1);

/// What the bridge learned from Sentry's API and stores, in a commit of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SentryNotes {
    /// The time of the notes. Notes of issues are deleted after half a year.
    pub at: DateTime<Utc>,
    /// A run of catch-up that was complete; replaces the one before.
    pub run: Option<CatchUpRun>,
    /// Notes of issues. A field that is `None` keeps its stored value.
    pub issues: Vec<IssueNote>,
}

/// What Sentry's API said about the issue of an incident.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssueNote {
    /// The incident.
    pub incident_key: IncidentKey,
    /// When the latest alert that catch-up has dealt with fired, by Sentry's clock; at least as late as the latest trigger
    /// that was discarded.
    pub fired_at: Option<DateTime<Utc>>,
    /// When Sentry last saw the issue.
    pub seen_at: Option<DateTime<Utc>>,
}

/// A run of catch-up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CatchUpRun {
    /// All alerts that fired before this, by Sentry's clock, are dealt with.
    pub until: DateTime<Utc>,
    /// When it ended.
    pub ran_at: DateTime<Utc>,
    /// How many alerts it found for which no webhook had come.
    pub found: u64,
    /// For how many of them it enqueued an event.
    pub enqueued: u64,
    /// How many of them it only reported.
    pub reported: u64,
    /// How many of them share one summarizing event.
    pub summarized: u64,
}

/// An incident that is open in PagerDuty, as far as the bridge knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenIncident {
    /// The incident.
    pub incident_key: IncidentKey,
    /// When PagerDuty accepted its last trigger.
    pub since: DateTime<Utc>,
}

impl OpenIncident {
    /// The `limit` incidents that changed last, each once.
    pub(super) fn newest(mut changes: Vec<(IncidentKey, DateTime<Utc>)>, limit: u32) -> Vec<Self> {
        changes.sort_by_key(|(_, changed_at)| std::cmp::Reverse(*changed_at));
        let mut seen = HashSet::new();
        let fresh = changes.into_iter().filter(|(key, _)| seen.insert(key.clone())).take(limit as usize);
        fresh.map(|(incident_key, since)| Self { incident_key, since }).collect()
    }
}
