//! What is known at one moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::clock::{CommitTimes, Reading};
use super::{Cause, Limits};
use crate::delivery::DeliveryView;
use crate::metrics::{Metrics, Snapshot};
use crate::pagerduty::{IncidentKey, ServiceKey};
use crate::queue::{Backlog, Destination, FirstInLine, Overview, Queue, QueueError};

/// What is known at one moment. Since when events wait, when the last webhook came and when the bridge started is told as
/// if the machine's clock had always been set as it is now: a step of it makes nothing older or younger.
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
    pub attention: Result<Backlog, QueueError>,
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

    /// When PagerDuty took an event of an integration last, also in an earlier run.
    pub(super) fn last_delivered_at(&self, service_key: &ServiceKey) -> Option<DateTime<Utc>> {
        let lane = self.delivery.lanes.iter().find(|lane| lane.service_key == *service_key);
        lane.and_then(|lane| lane.last_delivered_at).max(self.metrics.delivered.get(service_key).copied())
    }
}

/// Gathers facts of a running bridge; clones look at the same one.
#[derive(Clone, Debug)]
pub struct Watch {
    started_at: DateTime<Utc>,
    started: Instant,
    commits: Arc<CommitTimes>,
    queue: Queue,
    delivery: watch::Receiver<DeliveryView>,
    metrics: Metrics,
    limits: Limits,
    own: Vec<IncidentKey>,
}

impl Watch {
    /// Watches a bridge that starts now, which is `started_at`, and whose incident keys begin with `prefix`.
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
        let (started, commits) = (Instant::now(), Arc::default());
        Self { started_at, started, commits, queue, delivery, metrics, limits, own }
    }

    /// The same, knowing by the monotonic clock when events were committed. Without that, how long events wait follows the
    /// machine's clock.
    #[must_use]
    pub fn with_commits(self, commits: Arc<CommitTimes>) -> Self {
        Self { commits, ..self }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        Self { limits, ..self.clone() }
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
        let mut queue = self.queue.reader().overview().await;
        let mut attention = self.queue.reader().backlog(&self.own).await;
        let clock = Reading { started_at: self.started_at, uptime: self.started.elapsed(), now };
        for first in attention.iter_mut().flat_map(|attention| &mut attention.first) {
            let since = self.waits_since(first, &clock);
            if let Ok(queue) = &mut queue {
                let is_first = |destination: &&mut Destination| {
                    destination.service_key == first.service_key && destination.oldest_waiting == Some(first.since)
                };
                let shown = queue.destinations.iter_mut().filter(is_first);
                shown.for_each(|destination| destination.oldest_waiting = Some(since));
            }
            first.since = since;
        }
        if let Ok(queue) = &mut queue {
            queue.oldest_waiting = queue.destinations.iter().filter_map(|destination| destination.oldest_waiting).min();
        }
        let mut metrics = self.metrics.snapshot(now);
        metrics.last_webhook_at = metrics.last_webhook_at.map(|last| match metrics.since_webhook {
            Some(ago) => clock.ago(last, ago, ago),
            None => clock.before_start(last),
        });
        Facts {
            at: now,
            started_at: clock.before_start(self.started_at),
            queue,
            attention,
            storage,
            delivery: self.delivery.borrow().clone(),
            metrics,
        }
    }

    fn waits_since(&self, first: &FirstInLine, clock: &Reading) -> DateTime<Utc> {
        // By whom and when an event was put back in line is known by the wall clock alone.
        if first.is_revived && first.since > self.started_at {
            return clock.ago(first.since, Duration::ZERO, clock.uptime);
        }
        match self.commits.age(first.id, Instant::now()) {
            Some((least, most)) if !first.is_revived => clock.ago(first.since, least, most),
            _ => clock.before_start(first.since),
        }
    }
}
