//! The state that an earlier run left: which keys have waiting events, and the attempts that PagerDuty still counts.

use log::{Level, error, log};
use tokio::time::sleep;

use super::super::rate_limiter;
use super::super::steps::DATABASE_PAUSE;
use super::{Attempt, UNKNOWN, Worker};
use crate::delivery::Scheduler;
use crate::logging::throttle;
use crate::queue::{QueueError, WaitingKeys};

impl Worker {
    /// Restores the state that an earlier run left: which keys have waiting events, and how many attempts they had
    /// recently. Parts that cannot be read because of damage are left out.
    pub(super) async fn restore(&mut self) {
        loop {
            match self.read_earlier_run().await {
                Ok((generation, keys, attempts)) => {
                    self.generation = generation;
                    self.read_keys(&keys, Scheduler::read_on);
                    let own: Vec<_> = attempts.into_iter().filter(|(key, ..)| self.holdings.has(key)).collect();
                    self.restore_attempts(own.iter());
                    return;
                }
                Err(error) => {
                    let line = throttle::line("reads of the queue failed", Level::Error);
                    log!(line.level, "the queue cannot be read, so nothing is delivered yet: {error}{line}");
                    sleep(DATABASE_PAUSE).await;
                }
            }
        }
    }

    /// Makes the rate limiters count attempts of an earlier run, or of another bridge.
    pub(super) fn restore_attempts<'a>(&mut self, attempts: impl Iterator<Item = &'a Attempt>) {
        let (now, timeout) = (self.now(), self.client.timeout());
        for (key, recorded_at, times) in attempts {
            // If the clock was set back since, the attempt counts as new.
            let age = (self.cluster.now() - *recorded_at).to_std().unwrap_or_default();
            let end = rate_limiter::latest_arrival(age, now, timeout);
            self.scheduler.restore_attempts(key, end, (*times).max(1));
        }
    }

    async fn read_earlier_run(&self) -> Result<(u64, WaitingKeys, Vec<Attempt>), QueueError> {
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
