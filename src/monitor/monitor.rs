//! [`Monitor`], which takes the snapshots of a running bridge.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use strum::VariantArray;
use tokio::sync::watch;

use super::checks::{Cause, TroubleLimits};
use super::snapshot::{Clock, CommitTimes, FallbackView, ProofView, Snapshot};
use crate::canary::CanaryStatus;
use crate::catch_up::CatchUpStatus;
use crate::cluster::Cluster;
use crate::delivery::DeliveryView;
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::pagerduty::{IncidentKey, KeyNames};
use crate::proof::ProofStatus;
use crate::queue::{Queue, QueueError};
use crate::sentry_api::audit::AuditStatus;

/// Takes snapshots of a running bridge; clones observe the same bridge.
#[derive(Clone, Debug)]
pub struct Monitor {
    started_at: DateTime<Utc>,
    started: Instant,
    commits: Arc<CommitTimes>,
    queue: Queue,
    delivery: watch::Receiver<DeliveryView>,
    metrics: Metrics,
    pub(super) limits: TroubleLimits,
    alarm_keys: Vec<IncidentKey>,
    /// Since when alerts cannot be stored or read.
    storage_since: Arc<Mutex<Option<Instant>>>,
    catch_up: Option<watch::Receiver<CatchUpStatus>>,
    pub(super) cluster: Cluster,
    sends_canaries: bool,
    audit: Option<watch::Receiver<AuditStatus>>,
    fallback: Option<watch::Receiver<FallbackView>>,
    names: KeyNames,
    proof: Option<watch::Receiver<ProofStatus>>,
}

impl Monitor {
    /// Creates the monitor of a bridge that starts now, at `started_at`, and whose incident keys begin with `prefix`.
    #[must_use]
    pub fn new(
        started_at: DateTime<Utc>,
        queue: Queue,
        delivery: watch::Receiver<DeliveryView>,
        metrics: Metrics,
        limits: TroubleLimits,
        prefix: &str,
    ) -> Self {
        let alarm_keys = Cause::VARIANTS.iter().map(|cause| cause.incident_key(prefix)).collect();
        let (started, commits) = (Instant::now(), Arc::default());
        Self {
            started_at,
            started,
            commits,
            queue,
            delivery,
            metrics,
            limits,
            alarm_keys,
            storage_since: Arc::default(),
            sends_canaries: false,
            audit: None,
            catch_up: None,
            fallback: None,
            names: KeyNames::default(),
            proof: None,
            cluster: Cluster::alone(),
        }
    }

    /// Makes it the monitor of a bridge that shares its queue with others.
    #[must_use]
    pub fn with_cluster(self, cluster: Cluster) -> Self {
        Self { cluster, ..self }
    }

    /// Includes the stored canaries in snapshots, if the bridge sends canaries.
    #[must_use]
    pub fn with_canaries(self, sends_canaries: bool) -> Self {
        Self { sends_canaries, ..self }
    }

    /// Includes the state of the audits in snapshots, if Sentry is audited.
    #[must_use]
    pub fn with_audit(self, audit: Option<watch::Receiver<AuditStatus>>) -> Self {
        Self { audit, ..self }
    }

    /// Takes from `commits` when events were committed, by the monotonic clock. Without that, how long events have been
    /// waiting follows the machine's clock.
    #[must_use]
    pub fn with_commits(self, commits: Arc<CommitTimes>) -> Self {
        Self { commits, ..self }
    }

    /// Includes the state of catch-up in snapshots.
    #[must_use]
    pub fn with_catch_up(self, catch_up: Option<watch::Receiver<CatchUpStatus>>) -> Self {
        Self { catch_up, ..self }
    }

    /// Includes the state of the fallback webhook in snapshots.
    #[must_use]
    pub fn with_fallback(self, fallback: Option<watch::Receiver<FallbackView>>) -> Self {
        Self { fallback, ..self }
    }

    /// Includes the names of service keys in snapshots and, if PagerDuty is asked, the state of the proof.
    #[must_use]
    pub fn with_pagerduty(self, names: KeyNames, proof: Option<watch::Receiver<ProofStatus>>) -> Self {
        Self { names, proof, ..self }
    }

    /// The names of service keys.
    #[must_use]
    pub fn names(&self) -> &KeyNames {
        &self.names
    }

    /// When the bridge started.
    #[must_use]
    pub fn started_at(&self) -> DateTime<Utc> {
        self.started_at
    }

    /// The limits at which troubles begin, for [`troubles`](super::troubles).
    #[must_use]
    pub fn limits(&self) -> &TroubleLimits {
        &self.limits
    }

    /// Takes a snapshot at `now`. If the last commit failed, another one is tried, so that the end of the trouble is
    /// noticed.
    pub async fn snapshot(&self, now: DateTime<Utc>) -> Snapshot {
        let storage = if self.queue.can_commit() { Ok(()) } else { self.queue.probe().await.map(drop) };
        let queue = self.queue.reader().overview().await;
        let backlog = self.queue.reader().backlog(&self.alarm_keys).await;
        let waiting_alerts = match &queue {
            Ok(queue) if queue.waiting == 0 => Some(0),
            Ok(_) => self.queue.reader().waiting_alerts(&self.alarm_keys).await.unwrap_or_default(),
            Err(_) => None,
        };
        // A database that did not answer is not asked again.
        let durability = match &queue {
            Ok(_) => self.queue.reader().durability().await.ok(),
            Err(_) => None,
        };
        let (metrics, canary, proof) = (self.metrics(now).await, self.canary(now).await, self.proof(now).await);
        // A value borrowed from a channel blocks the task that writes to it, so nothing is awaited meanwhile.
        let delivery = self.delivery.borrow().clone();
        let fallback = self.fallback.as_ref().map(|view| view.borrow().clone());
        let mut snapshot = Snapshot {
            at: now,
            started_at: self.started_at,
            queue,
            backlog,
            waiting_alerts,
            storage,
            storage_since: None,
            durability,
            delivery,
            metrics,
            cluster: self.cluster.view(),
            canary,
            audit: self.audit.as_ref().map(|audit| audit.borrow().clone()),
            catch_up: self.catch_up.as_ref().map(|status| status.borrow().clone()),
            key_names: self.names.clone(),
            proof,
            fallback,
        };
        snapshot.storage_since = self.storage_since(&snapshot);
        let (started_at, uptime, read_at) = (self.started_at, self.started.elapsed(), Instant::now());
        snapshot.correct_times(&Clock { started_at, uptime, now, read_at }, &self.commits)
    }

    /// Since when the storage fails, as far as this run has noticed.
    fn storage_since(&self, snapshot: &Snapshot) -> Option<DateTime<Utc>> {
        let mut since = self.storage_since.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshot.storage.is_ok() && snapshot.read_error().is_none() {
            *since = None;
            return None;
        }
        let lasted = since.get_or_insert_with(Instant::now).elapsed();
        TimeDelta::from_std(lasted).ok().map(|lasted| snapshot.at - lasted)
    }

    /// The metrics, with what the other bridges of the cluster have stored.
    pub async fn metrics(&self, now: DateTime<Utc>) -> MetricsSnapshot {
        if self.cluster.is_alone() {
            return self.metrics.snapshot(now);
        }
        let saves = self.metrics.saves();
        let Ok(stored) = self.queue.persisted_metrics(now).await else { return self.metrics.snapshot(now) };
        self.metrics.follow_signatures(stored.wrong_signatures.as_ref(), saves, now);
        let mut metrics = self.metrics.snapshot(now);
        metrics.include(&stored, now);
        metrics
    }

    async fn canary(&self, now: DateTime<Utc>) -> Option<Result<CanaryStatus, QueueError>> {
        if !self.sends_canaries {
            return None;
        }
        let records = self.queue.reader().canaries(now).await;
        Some(records.map(|records| CanaryStatus::of(&records, self.limits.canary, self.started_at, now)))
    }

    async fn proof(&self, now: DateTime<Utc>) -> Option<ProofView> {
        let status = self.proof.as_ref()?;
        let failures = self.queue.reader().failed_proofs(now).await;
        Some(ProofView { status: status.borrow().clone(), failures })
    }
}
