//! Updates of issues: changes that people made to incidents in PagerDuty and that the bridge has to make to the issues in
//! Sentry.
//!
//! An update is committed before PagerDuty's webhook is answered, and kept for a while after it has ended: PagerDuty
//! repeats webhooks for two days, and Sentry sends the bridge a webhook about each change that the bridge made.

use chrono::{DateTime, TimeDelta, Utc};
use strum::{EnumString, IntoStaticStr};

use super::writer::Maintenance;
use super::{Queue, QueueError};
use crate::pagerduty::IncidentKey;

/// How long updates that have ended are kept at least, counted from their webhook. PagerDuty repeats webhooks for 48 hours.
pub(super) const KEEP_UPDATES: TimeDelta = TimeDelta::days(7);

/// The maximum number of waiting updates that are read at once.
pub(super) const MOST_UPDATES: u32 = 500;

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

impl Queue {
    /// Commits what happened to an update. Returns `false` if nothing changed: the webhook had come before, the update
    /// has already ended, or no resolve waited.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn record_issue_update(&self, change: IssueUpdateChange) -> Result<bool, QueueError> {
        self.maintain(|reply| Maintenance::IssueUpdate(Box::new(change), reply)).await
    }
}
