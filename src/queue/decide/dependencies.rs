//! What a batch depends on.

use std::collections::{BTreeMap, BTreeSet};

use super::{Batch, Edit};
use crate::envelope::{EnqueueRequest, Envelope};
use crate::pagerduty::{IncidentKey, ServiceKey};
use crate::queue::store::{Dependencies, IncidentQueueKey};
use crate::queue::{BeginRequest, Disposition, EventId, Fence, SettleRequest};

/// The keys that identify an incident queue.
pub(super) type IncidentQueueRef<'b> = (&'b IncidentKey, &'b ServiceKey);

pub(super) fn queue_of(envelope: &Envelope) -> IncidentQueueRef<'_> {
    (&envelope.incident_key, &envelope.service_key)
}

pub(super) fn owned((incident_key, service_key): IncidentQueueRef<'_>) -> IncidentQueueKey {
    IncidentQueueKey { incident_key: incident_key.clone(), service_key: service_key.clone() }
}

/// What has to be loaded to decide a batch.
pub(in crate::queue) fn dependencies(batch: &Batch<'_>) -> Dependencies {
    let (mut queues, mut incidents) = (BTreeSet::new(), BTreeSet::new());
    let (mut seen, mut dedup_keys) = (BTreeSet::new(), BTreeSet::new());
    let (mut issues, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for enqueue in &batch.enqueues {
        match enqueue {
            EnqueueRequest::Event { envelope, .. } => {
                queues.insert(queue_of(envelope));
                issues.extend(&envelope.issue_key);
                shared.extend(envelope.issue_key.is_some().then(|| queue_of(envelope)));
            }
            EnqueueRequest::FollowUp(follow_up) => {
                incidents.extend([&follow_up.incident_key].into_iter().chain(&follow_up.shared_key));
                issues.insert(&follow_up.incident_key);
                let reopening = follow_up.reopening.as_ref().map(|reopening| &reopening.service_key);
                for service_key in [follow_up.fallback.as_ref(), reopening] {
                    shared.extend(follow_up.shared_key.as_ref().zip(service_key));
                }
            }
        }
        let dedup = enqueue.dedup();
        seen.extend(&dedup.replay_key);
        if batch.is_late {
            seen.extend(&dedup.lookup_keys);
        } else if batch.is_shared_by_bridges {
            dedup_keys.extend(&dedup.lookup_keys);
        }
    }
    let to_settle: BTreeSet<_> = batch.settles.iter().map(|settle| settle.id).collect();
    let fold_targets = |settle: &&&SettleRequest| {
        !matches!(settle.disposition, Disposition::Retry { .. } | Disposition::RetryNow { .. })
    };
    let ended: Vec<_> = batch.settles.iter().filter(fold_targets).collect();
    // An attempt does not wait for an event that ends in this batch under the same fence. Under another fence, the
    // event may not end.
    let skipped = |begin: &BeginRequest| {
        let ended = ended.iter().filter(|settle| settle.fence == begin.fence).map(|settle| settle.id);
        begin.skipped.iter().copied().chain(ended).collect::<Vec<_>>()
    };
    let to_begin: BTreeMap<_, _> = batch.begins.iter().map(|begin| (begin.id, skipped(begin))).collect();
    let unrecorded: BTreeSet<_> = batch.unrecorded.iter().map(|(id, _)| *id).collect();
    Dependencies {
        queues: queues.into_iter().map(owned).collect(),
        incidents: incidents.into_iter().cloned().collect(),
        issues: issues.into_iter().cloned().collect(),
        shared_incidents: shared.into_iter().map(owned).collect(),
        seen: seen.into_iter().cloned().collect(),
        dedup_keys: dedup_keys.into_iter().cloned().collect(),
        to_settle: to_settle.into_iter().collect(),
        unrecorded: unrecorded.into_iter().filter(|id| !to_begin.contains_key(id)).collect(),
        to_begin: to_begin.into_iter().collect(),
        fences: fences(batch),
        skips_folding: batch.skips_folding,
        ..batch.edit.map(Edit::dependencies).unwrap_or_default()
    }
}

/// The fence under which each event is begun or settled: the latest one, because what began under an earlier one is
/// fenced off by then.
pub(super) fn fences(batch: &Batch<'_>) -> BTreeMap<EventId, Fence> {
    let begins = batch.begins.iter().map(|begin| (begin.id, begin.fence));
    let settles = batch.settles.iter().map(|settle| (settle.id, settle.fence));
    let mut fences = BTreeMap::new();
    for (id, fence) in begins.chain(settles) {
        if let Some(fence) = fence {
            let latest = fences.entry(id).or_insert(fence);
            *latest = fence.max(*latest);
        }
    }
    fences
}
