//! What PagerDuty's REST API shows of delivered events: whether PagerDuty did what it accepted.

use chrono::{DateTime, TimeDelta, Utc};

use super::writer::Maintenance;
use super::{EventId, Queue, QueueError};
use crate::pagerduty::{ProofState, ServiceKey};

/// The maximum number of failures that are read at once; the newest are read.
pub(super) const MOST_FAILURES: u32 = 100;

/// The minimum time for which a failure is shown, even if later events of its service key are confirmed.
pub(super) const SHOWN_FOR: TimeDelta = TimeDelta::hours(1);

/// The maximum time for which a failure is shown.
pub(super) const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(1);

/// What is known of a delivered event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// The event.
    pub event: EventId,
    /// The integration it went to.
    pub service_key: ServiceKey,
    /// What became of it.
    pub state: ProofState,
    /// When PagerDuty accepted it.
    pub delivered_at: DateTime<Utc>,
    /// When it was decided what became of it.
    pub judged_at: DateTime<Utc>,
    /// The number of its incident, where there is one.
    pub incident_number: Option<u64>,
    /// The URL of its incident, where there is one.
    pub incident_url: Option<String>,
    /// Why it failed, as far as that is known.
    pub reason: Option<String>,
}

impl Queue {
    /// Stores what became of a delivered event, in a commit of its own. Nothing is stored for an event that was deleted.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn record_proof(&self, proof: Proof) -> Result<(), QueueError> {
        self.maintain(|reply| Maintenance::Proof(Box::new(proof), reply)).await
    }
}
