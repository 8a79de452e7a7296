//! Keys that the worker takes over from another bridge, and keys that another bridge takes over from it.

use std::collections::BTreeMap;

use log::{debug, info};

use super::super::rate_limiter;
use super::super::steps::{AttemptStep, Attempts, EndedAttempt};
use super::{UNKNOWN, Worker};
use crate::cluster::Permit;
use crate::pagerduty::ServiceKey;
use crate::pagerduty::outcome::Outcome;
use crate::queue::{Disposition, EventId, Fence};

impl Worker {
    /// Applies the state of the cluster: which keys this bridge delivers for and how long, and for which of them other
    /// bridges committed events.
    pub(super) fn follow_cluster(&mut self) {
        let Some(keys) = self.cluster.keys() else { return };
        let rights: BTreeMap<_, _> = keys.iter().map(|(key, (fence, _))| (key.clone(), *fence)).collect();
        let change = self.holdings.update(&rights, |key| self.cluster.is_busy(key));
        for key in &change.lost {
            info!(service_key:% = key; "another bridge delivers for this service key from now on");
            self.scheduler.forget(key);
            self.unreadable.forget(key);
            self.read_failures.remove(key);
        }
        let now = self.now();
        for (key, (_, left)) in keys.iter().filter(|(key, _)| self.holdings.has(key)) {
            self.scheduler.send_until(key, now + *left);
        }
        // Events that other bridges committed may be anywhere in the key's queue, because ids are assigned before the
        // commit.
        for key in self.cluster.take_hints() {
            if self.holdings.has(&key) {
                self.scheduler.rescan(&key);
            }
        }
        if !change.gaining.is_empty() {
            let until = self.cluster.now();
            let since = until - rate_limiter::lookback(self.client.timeout());
            let rate = self.scheduler.limits().rate;
            self.background.push(Box::pin(self.reads.clone().gained(change.gaining, since, until, rate)));
        }
    }

    /// Completes the takeover of `keys`, or cancels it if `attempts`, the attempts of the last minute, could not be read.
    pub(super) fn gained(&mut self, keys: BTreeMap<ServiceKey, Fence>, attempts: Option<Attempts>) {
        let Some(attempts) = attempts else {
            for (key, fence) in &keys {
                self.holdings.not_gained(key, *fence);
            }
            return;
        };
        let rights = self.cluster.keys().unwrap_or_default();
        let now = self.now();
        for (key, fence) in keys {
            let Some((_, left)) = rights.get(&key).filter(|(right, _)| *right == fence) else {
                self.holdings.not_gained(&key, fence);
                continue;
            };
            if self.holdings.gained(&key, fence) {
                self.metrics.taken_over(&key);
                info!(service_key:% = key; "this bridge delivers for the service key from now on");
                self.scheduler.send_until(&key, now + *left);
                self.restore_attempts(attempts.iter().filter(|(attempted, ..)| *attempted == key));
                self.scheduler.read_on(&key);
            }
        }
    }

    /// Returns the generation of the queue that is known. If other bridges change the queue all the time, none is known,
    /// so that the queue is always read again.
    pub(super) fn known_generation(&self) -> u64 {
        if self.cluster.is_alone() { self.generation } else { UNKNOWN }
    }

    /// Handles the end of an attempt whose key another bridge delivers for by now, or this bridge again under a newer
    /// lease. A final outcome is still settled, if the lease is not given up yet; the next owner finds out about any
    /// other.
    pub(super) fn answered_elsewhere(
        &mut self,
        key: ServiceKey,
        id: EventId,
        permit: Permit,
        outcome: &Outcome,
    ) -> Option<EndedAttempt> {
        self.scheduler.ended_elsewhere();
        let disposition = match outcome {
            Outcome::Delivered { note } => Disposition::Delivered { note: note.clone() },
            Outcome::Permanent { reason } => Disposition::Dead { reason: reason.clone() },
            _ => {
                debug!(event = id.get(); "an attempt ended after another bridge took over its service key");
                return None;
            }
        };
        let (received_at, kind, ended_at) = (permit.now(), outcome.kind(), self.now());
        Some(EndedAttempt { key, permit, id, received_at, kind, disposition, ended_at })
    }

    /// Whether a step belongs to a key that this worker delivers for, and to its current lease.
    pub(super) fn is_own(&self, step: &AttemptStep) -> bool {
        let (key, permit) = match step {
            AttemptStep::NotBegun { key, permit, .. } | AttemptStep::Answered { key, permit, .. } => (key, permit),
            AttemptStep::Settled(attempt) | AttemptStep::NotSettled(attempt) => (&attempt.key, &attempt.permit),
        };
        self.holdings.has_by(key, permit.fence())
    }
}
