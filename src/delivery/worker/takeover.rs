//! Service keys that the worker takes over, from an earlier run of this bridge or from another bridge, and those that another
//! bridge takes over from it. PagerDuty still counts the attempts that were made for them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use log::{Level, debug, error, info};
use tokio::time::sleep;

use super::super::rate_limiter;
use super::super::steps::{self, AttemptResult, DATABASE_PAUSE, EndedAttempt};
use super::Worker;
use crate::cluster::Permit;
use crate::delivery::Scheduler;
use crate::logging::log_throttled;
use crate::pagerduty::ServiceKey;
use crate::pagerduty::outcome::Outcome;
use crate::queue::{Disposition, EventId, Fence, QueueError, RecentAttempts, WaitingKeys};

/// A generation that the queue never has.
const UNKNOWN: u64 = u64::MAX;

impl Worker {
    /// Restores the state that an earlier run left: which keys have waiting events, and how many attempts they had
    /// recently. Parts that cannot be read because of damage are left out.
    pub(super) async fn restore(&mut self) {
        loop {
            match self.read_earlier_run().await {
                Ok((generation, keys, attempts)) => {
                    self.generation = generation;
                    self.read_keys(&keys, Scheduler::read_on);
                    let own: Vec<_> = attempts.into_iter().filter(|(key, ..)| self.owned_keys.has(key)).collect();
                    self.restore_attempts(own.iter());
                    return;
                }
                Err(error) => {
                    log_throttled!(
                        Level::Error, "reads of the queue failed";
                        "the queue cannot be read, so nothing is delivered yet: {error}"
                    );
                    sleep(DATABASE_PAUSE).await;
                }
            }
        }
    }

    /// Makes the rate limiters count attempts of an earlier run, or of another bridge.
    pub(super) fn restore_attempts<'a>(
        &mut self,
        attempts: impl Iterator<Item = &'a (ServiceKey, DateTime<Utc>, u32)>,
    ) {
        let (now, timeout) = (self.now(), self.client.timeout());
        for (key, recorded_at, times) in attempts {
            // If the clock was set back since, the attempt counts as new.
            let age = (self.cluster.now() - *recorded_at).to_std().unwrap_or_default();
            let end = rate_limiter::latest_arrival(age, now, timeout);
            self.scheduler.restore_attempts(key, end, (*times).max(1));
        }
    }

    async fn read_earlier_run(&self) -> Result<(u64, WaitingKeys, RecentAttempts), QueueError> {
        let reader = self.queue.reader();
        let started = self.cluster.now();
        let since = started - rate_limiter::lookback(self.client.timeout());
        let rate = self.scheduler.limits().rate;
        // The generation is read first, so that a change during the other reads is noticed later.
        let generation = unless_damaged(reader.generation().await)?;
        let keys = unless_damaged(reader.waiting_keys().await)?;
        let attempts = unless_damaged(reader.attempts_since(since, started, rate).await)?.unwrap_or_default();
        // If the keys could not be read, they have to be read again later.
        let generation = generation.filter(|_| keys.is_some()).unwrap_or(UNKNOWN);
        Ok((generation, keys.unwrap_or_default(), attempts))
    }

    /// Applies the state of the cluster: which keys this bridge delivers for and how long, and for which of them other
    /// bridges committed events.
    pub(super) fn follow_cluster(&mut self) {
        let Some(keys) = self.cluster.keys() else { return };
        let leases: BTreeMap<_, _> = keys.iter().map(|(key, (fence, _))| (key.clone(), *fence)).collect();
        for key in &self.owned_keys.give_up(&leases) {
            info!(service_key:% = key; "another bridge delivers for this service key from now on");
            self.scheduler.forget(key);
            self.unreadable.forget(key);
            self.read_failures.remove(key);
        }
        let now = self.now();
        for (key, (_, left)) in keys.iter().filter(|(key, _)| self.owned_keys.has(key)) {
            self.scheduler.send_until(key, now + *left);
        }
        // Events that other bridges committed may be anywhere in the key's queue, because ids are assigned before the
        // commit.
        for key in self.cluster.take_hints() {
            if self.owned_keys.has(&key) {
                self.scheduler.reread(&key);
            }
        }
        let new = self.owned_keys.begin_takeover(&leases, |key| self.cluster.is_busy(key));
        if !new.is_empty() {
            let until = self.cluster.now();
            let since = until - rate_limiter::lookback(self.client.timeout());
            let rate = self.scheduler.limits().rate;
            self.background.push(Box::pin(steps::take_over(self.queue.reader().clone(), new, since, until, rate)));
        }
    }

    /// Completes the takeover of `keys`, or cancels it if `attempts`, the attempts of the last minute, could not be read.
    pub(super) fn complete_takeovers(&mut self, keys: BTreeMap<ServiceKey, Fence>, attempts: Option<RecentAttempts>) {
        let Some(attempts) = attempts else {
            for (key, fence) in &keys {
                self.owned_keys.cancel_takeover(key, *fence);
            }
            return;
        };
        let rights = self.cluster.keys().unwrap_or_default();
        let now = self.now();
        for (key, fence) in keys {
            let Some((_, left)) = rights.get(&key).filter(|(right, _)| *right == fence) else {
                self.owned_keys.cancel_takeover(&key, fence);
                continue;
            };
            if self.owned_keys.complete_takeover(&key, fence) {
                self.metrics.record_takeover(&key);
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
        received_at: DateTime<Utc>,
        outcome: &Outcome,
    ) -> Option<EndedAttempt> {
        self.scheduler.ended_elsewhere();
        let disposition = match outcome {
            Outcome::Delivered { note } => Disposition::Delivered { note: note.clone() },
            Outcome::Refused { reason } => Disposition::Dead { reason: reason.clone() },
            _ => {
                debug!(event = id.get(); "an attempt ended after another bridge took over its service key");
                return None;
            }
        };
        let (kind, ended_at) = (outcome.kind(), self.now());
        Some(EndedAttempt { key, permit, id, received_at, kind, disposition, ended_at })
    }

    /// Whether the result belongs to a key that this worker delivers for, and to its current lease.
    pub(super) fn is_own(&self, result: &AttemptResult) -> bool {
        let (key, permit) = match result {
            AttemptResult::NotBegun { key, permit, .. } | AttemptResult::Ended { key, permit, .. } => (key, permit),
            AttemptResult::Settled(attempt) | AttemptResult::NotSettled(attempt) => (&attempt.key, &attempt.permit),
        };
        self.owned_keys.has_by(key, permit.fence())
    }
}

/// Returns what was read, or `None` if damage prevents the read.
fn unless_damaged<T>(read: Result<T, QueueError>) -> Result<Option<T>, QueueError> {
    match read {
        Err(error) if error.is_damage() => {
            error!("a part of the queue is damaged and cannot be read; the other events are delivered: {error}");
            Ok(None)
        }
        read => read.map(Some),
    }
}
