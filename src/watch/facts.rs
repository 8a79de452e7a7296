//! What is known at one moment.

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::delivery::DeliveryView;
use crate::metrics::{Metrics, Snapshot};
use crate::queue::{Overview, Queue, QueueError};

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The moment.
    pub at: DateTime<Utc>,
    /// When this bridge started.
    pub started_at: DateTime<Utc>,
    /// What stands in the queue; the error when it cannot be read.
    pub queue: Result<Overview, QueueError>,
    /// Whether alerts can be committed.
    pub can_commit: bool,
    /// How the deliveries fare.
    pub delivery: DeliveryView,
    /// What the metrics know beyond counters.
    pub metrics: Snapshot,
}

/// Gathers facts of a running bridge; clones look at the same one.
#[derive(Clone, Debug)]
pub struct Watch {
    started_at: DateTime<Utc>,
    queue: Queue,
    delivery: watch::Receiver<DeliveryView>,
    metrics: Metrics,
}

impl Watch {
    /// Watches a bridge that started at `started_at`.
    #[must_use]
    pub fn new(
        started_at: DateTime<Utc>,
        queue: Queue,
        delivery: watch::Receiver<DeliveryView>,
        metrics: Metrics,
    ) -> Self {
        Self { started_at, queue, delivery, metrics }
    }

    /// What is known at `now`.
    pub async fn facts(&self, now: DateTime<Utc>) -> Facts {
        Facts {
            at: now,
            started_at: self.started_at,
            queue: self.queue.reader().overview().await,
            can_commit: self.queue.is_well(),
            delivery: self.delivery.borrow().clone(),
            metrics: self.metrics.snapshot(now),
        }
    }
}
