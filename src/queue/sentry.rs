//! What the bridge learned from Sentry's API and has to know after a restart.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::pagerduty::IncidentKey;

/// For how long notes of issues are kept, as incidents that are closed are.
pub(super) const KEEP_NOTES: TimeDelta = TimeDelta::days(180);

/// What is to be kept, in a commit of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SentryNotes {
    /// The moment of the notes. Those of issues are forgotten after half a year.
    pub at: DateTime<Utc>,
    /// A run of catch-up that was complete; replaces the one before.
    pub run: Option<CatchUpRun>,
    /// Issues. What is `None` of one stays as it was.
    pub issues: Vec<IssueNote>,
}

/// What Sentry's API told of the issue of an incident.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssueNote {
    /// The incident.
    pub incident_key: IncidentKey,
    /// The latest firing that catch-up has dealt with, by Sentry's clock.
    pub fired_at: Option<DateTime<Utc>>,
    /// When the issue was last seen there.
    pub seen_at: Option<DateTime<Utc>>,
}

/// A run of catch-up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CatchUpRun {
    /// What fired before this is dealt with, by Sentry's clock.
    pub until: DateTime<Utc>,
    /// When it ended.
    pub ran_at: DateTime<Utc>,
    /// How many alerts it found that no webhook had told of.
    pub found: u64,
    /// For how many of them it enqueued an event.
    pub enqueued: u64,
    /// How many of them it only reported.
    pub reported: u64,
    /// How many of them share one summarizing event.
    pub summarized: u64,
}

/// An incident that PagerDuty has open, as far as the bridge knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenIncident {
    /// The incident.
    pub incident_key: IncidentKey,
    /// When PagerDuty accepted the last trigger of it.
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
