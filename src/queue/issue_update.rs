//! What people did to incidents in PagerDuty and has to be done to the issues in Sentry.
//!
//! It is committed before PagerDuty's webhook is answered, and kept for a while after it is done: PagerDuty repeats webhooks for
//! two days, and Sentry tells the bridge by a webhook what the bridge did.

use chrono::{DateTime, TimeDelta, Utc};
use strum::{EnumString, IntoStaticStr};

use super::writer::Maintenance;
use super::{Queue, QueueError};
use crate::pagerduty::IncidentKey;

/// For how long what is dealt with is kept. PagerDuty repeats webhooks for 48 hours.
pub(super) const KEEP_UPDATES: TimeDelta = TimeDelta::days(7);

/// How many that wait are read at once.
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
    /// Its name in the database and in the answer of the webhook.
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

    /// The status of the issue after it.
    #[must_use]
    pub fn in_sentry(self) -> &'static str {
        match self {
            Self::Resolve => "resolved",
            Self::Unresolve => "unresolved",
        }
    }
}

/// What has to be done to the issue of an incident.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssueUpdate {
    /// The webhook that told of it; the same for each repetition.
    pub webhook_id: String,
    /// The incident.
    pub incident_key: IncidentKey,
    /// What is to be done.
    pub change: StatusChange,
    /// When somebody did it in PagerDuty, by PagerDuty's clock.
    pub happened_at: DateTime<Utc>,
    /// When the webhook came.
    pub received_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: u32,
    /// Before this it is not tried again.
    pub next_attempt_at: DateTime<Utc>,
}

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
    /// A webhook told of it.
    Received(IssueUpdate),
    /// An attempt failed.
    Failed {
        /// The webhook that told of it.
        webhook_id: String,
        /// When it is tried again.
        next_attempt_at: DateTime<Utc>,
        /// Why it failed.
        reason: String,
    },
    /// It needs nothing more.
    Ended {
        /// The webhook that told of it.
        webhook_id: String,
        /// When.
        at: DateTime<Utc>,
        /// How.
        end: UpdateEnd,
        /// Why it is given up, or why nothing was to be done.
        reason: Option<String>,
    },
}

impl Queue {
    /// Commits what happened to an update, and returns whether that is news: not for a webhook that came before, nor for an
    /// update that has ended.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn record_issue_update(&self, change: IssueUpdateChange) -> Result<bool, QueueError> {
        self.maintain(|reply| Maintenance::IssueUpdate(Box::new(change), reply)).await
    }
}
