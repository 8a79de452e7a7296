//! What the bridge learns from the APIs of Sentry and PagerDuty, and what it has to do there: all that is stored beside the
//! events, because it has to be known after a restart, or to another bridge on the same queue.
//!
//! - [`SentryNotes`]: what Sentry's API said about issues, and the runs of catch-up
//! - [`Proof`]: what PagerDuty's REST API shows of a delivered event
//! - [`CanaryRecord`]: when a canary was sent, and when its webhook came back, maybe to another bridge
//! - [`IssueUpdate`]: a change that a person made to an incident in PagerDuty, and that has to be made in Sentry. It is
//!   committed before PagerDuty's webhook is answered, and kept for a while after it has ended: PagerDuty repeats webhooks
//!   for two days, and Sentry sends the bridge a webhook about each change that the bridge made.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use strum::{EnumString, IntoStaticStr};

use super::EventId;
use crate::ingest::CanaryId;
use crate::pagerduty::{IncidentKey, ProofState, ServiceKey};

/// How long notes of issues are kept: as long as closed incidents.
pub(super) const KEEP_NOTES: TimeDelta = TimeDelta::days(180);

/// How far the bridge's clock may be behind Sentry's: a trigger that was received at most this long before a firing
/// counts as its webhook.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(1);

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

/// The maximum number of failures that are read at once; the newest are read.
pub(super) const MAX_FAILURES: u32 = 100;

/// The minimum time for which a failure is shown, even if later events of its service key are confirmed.
pub(super) const SHOWN_FOR: TimeDelta = TimeDelta::hours(1);

/// The maximum time for which a failure is shown.
pub(super) const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(1);

/// What PagerDuty shows of a delivered event. What JSON shows of it is a contract.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Proof {
    /// The event.
    #[serde(skip)]
    pub event: EventId,
    /// The integration it went to.
    #[serde(skip)]
    pub service_key: ServiceKey,
    /// What became of it.
    pub state: ProofState,
    /// When PagerDuty accepted it.
    #[serde(skip)]
    pub delivered_at: DateTime<Utc>,
    /// When it was decided what became of it.
    #[serde(skip)]
    pub judged_at: DateTime<Utc>,
    /// The number of its incident, where there is one.
    pub incident_number: Option<u64>,
    /// The URL of its incident, where there is one.
    pub incident_url: Option<String>,
    /// Why it failed, as far as that is known.
    pub reason: Option<String>,
}

/// How many canaries are kept.
pub(super) const MAX_CANARIES: u32 = 256;

/// One canary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CanaryRecord {
    /// The id of its event.
    pub id: CanaryId,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// Whether Sentry has accepted it, or why not; `None` while that is not known.
    pub taken: Option<Result<(), String>>,
    /// When its webhook came for the first time.
    pub returned_at: Option<DateTime<Utc>>,
}

/// What happened to a canary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CanaryChange {
    /// It is about to be sent.
    Sent {
        /// The id of its event.
        id: CanaryId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Sentry has answered, or could not be reached.
    Answered {
        /// The id of its event.
        id: CanaryId,
        /// Why Sentry did not accept it; `None`: it did.
        failure: Option<String>,
    },
    /// Its webhook came.
    Returned {
        /// The id of its event.
        id: CanaryId,
        /// When.
        at: DateTime<Utc>,
    },
}

/// How long updates that have ended are kept at least, counted from their webhook. PagerDuty repeats webhooks for 48 hours.
pub(super) const KEEP_UPDATES: TimeDelta = TimeDelta::days(7);

/// The maximum number of waiting updates that are read at once.
pub(super) const MAX_UPDATES: u32 = 500;

/// What is done to an issue.
#[derive(Clone, Copy, Debug, EnumString, Eq, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "lowercase")]
pub enum StatusChange {
    /// It is resolved.
    Resolve,
    /// It is unresolved again.
    Unresolve,
}

impl StatusChange {
    /// Its name in the database and in the response to the webhook.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What a person did to the incident.
    #[must_use]
    pub fn in_pagerduty(self) -> &'static str {
        match self {
            Self::Resolve => "resolved",
            Self::Unresolve => "reopened",
        }
    }

    /// The status of the issue after the change.
    #[must_use]
    pub fn in_sentry(self) -> &'static str {
        match self {
            Self::Resolve => "resolved",
            Self::Unresolve => "unresolved",
        }
    }
}

/// A change that has to be made to the issue of an incident.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssueUpdate {
    /// The id of the webhook that reported it; the same for each repetition.
    pub webhook_id: String,
    /// The incident.
    pub incident_key: IncidentKey,
    /// The change to make.
    pub change: StatusChange,
    /// When a person did it in PagerDuty, by PagerDuty's clock.
    pub happened_at: DateTime<Utc>,
    /// When the webhook came.
    pub received_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: u32,
    /// The time before which it is not tried again.
    pub next_attempt_at: DateTime<Utc>,
}

/// Why a resolve is not made whose incident was reopened.
pub(super) const REOPENED: &str = "the incident was reopened in PagerDuty";

/// How an update ended.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "lowercase")]
pub enum UpdateEnd {
    /// It is done, or there was nothing to do.
    Done,
    /// It is given up.
    Dead,
}

/// What happened to an update.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IssueUpdateChange {
    /// A webhook reported it.
    Received(IssueUpdate),
    /// An attempt failed.
    Failed {
        /// The id of the webhook that reported it.
        webhook_id: String,
        /// When it is tried again.
        next_attempt_at: DateTime<Utc>,
        /// Why it failed.
        reason: String,
    },
    /// It is done or given up.
    Ended {
        /// The id of the webhook that reported it.
        webhook_id: String,
        /// When it ended.
        at: DateTime<Utc>,
        /// How it ended.
        end: UpdateEnd,
        /// Why it was given up, or why there was nothing to do.
        reason: Option<String>,
    },
    /// An incident was reopened whose issue is not to be unresolved: waiting resolves from before that are done.
    Reopened {
        /// The incident.
        incident_key: IncidentKey,
        /// When a person reopened it, by PagerDuty's clock.
        reopened_at: DateTime<Utc>,
        /// When the webhook came.
        at: DateTime<Utc>,
    },
}
