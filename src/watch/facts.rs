//! What is known at one moment.

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::{Cause, Limits};
use crate::delivery::DeliveryView;
use crate::metrics::{Metrics, Snapshot};
use crate::pagerduty::IncidentKey;
use crate::queue::{Attention, Overview, Queue, QueueError};

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The moment.
    pub at: DateTime<Utc>,
    /// When this bridge started.
    pub started_at: DateTime<Utc>,
    /// What stands in the queue; the error when it cannot be read.
    pub queue: Result<Overview, QueueError>,
    /// What of it wants attention. Alarms of the bridge that wait are not looked at, so that none is its own cause; those
    /// that died are, for somebody has to learn that nobody is told.
    pub attention: Result<Attention, QueueError>,
    /// Whether alerts can be committed; the error when they cannot.
    pub storage: Result<(), QueueError>,
    /// How the deliveries fare.
    pub delivery: DeliveryView,
    /// What the metrics know beyond counters.
    pub metrics: Snapshot,
}

impl Facts {
    /// Why the queue cannot be read. That too many people look at it is no reason.
    pub(super) fn read_error(&self) -> Option<&QueueError> {
        let errors = [self.queue.as_ref().err(), self.attention.as_ref().err()];
        errors.into_iter().flatten().find(|error| !matches!(error, QueueError::Busy { .. }))
    }
}

/// Gathers facts of a running bridge; clones look at the same one.
#[derive(Clone, Debug)]
pub struct Watch {
    started_at: DateTime<Utc>,
    queue: Queue,
    delivery: watch::Receiver<DeliveryView>,
    metrics: Metrics,
    limits: Limits,
    own: Vec<IncidentKey>,
}

impl Watch {
    /// Watches a bridge that started at `started_at` and whose incident keys begin with `prefix`.
    #[must_use]
    pub fn new(
        started_at: DateTime<Utc>,
        queue: Queue,
        delivery: watch::Receiver<DeliveryView>,
        metrics: Metrics,
        limits: Limits,
        prefix: &str,
    ) -> Self {
        let own = Cause::ALL.map(|cause| cause.incident_key(prefix)).to_vec();
        Self { started_at, queue, delivery, metrics, limits, own }
    }

    /// When the bridge started.
    #[must_use]
    pub fn started_at(&self) -> DateTime<Utc> {
        self.started_at
    }

    /// Where trouble begins, for [`judge`](super::judge()).
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is known at `now`. Where a commit failed, another one is tried, so that it is known when that is over.
    pub async fn facts(&self, now: DateTime<Utc>) -> Facts {
        let storage = if self.queue.is_well() { Ok(()) } else { self.queue.probe().await.map(drop) };
        Facts {
            at: now,
            started_at: self.started_at,
            queue: self.queue.reader().overview().await,
            attention: self.queue.reader().attention(&self.own).await,
            storage,
            delivery: self.delivery.borrow().clone(),
            metrics: self.metrics.snapshot(now),
        }
    }
}
