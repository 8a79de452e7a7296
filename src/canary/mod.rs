//! The canary: a small marked event that the bridge sends to Sentry from time to time. Sentry's alert for it sends a
//! webhook to the bridge, which tests the whole path of an alert, from Sentry's intake to the queue's commit.
//!
//! - `client`: the request that sends a canary, and what the response means
//! - this file: the task that sends canaries when they are due
//! - [`status`]: derives what is shown and alarmed from the stored canaries; pure
//!
//! [`crate::ingest::canary`] makes the mark and recognises the canary's webhooks by it; [`crate::queue::external`] stores when
//! each canary was sent and came back.

mod client;
pub mod status;

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use log::{Level, debug};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Backoff;
use crate::cluster::IsLeader;
use crate::config::Dsn;
use crate::ingest::{CanaryId, Ingest};
use crate::logging::log_throttled;
use crate::metrics::Metrics;
use crate::queue::{CanaryChange, CanaryRecord, Queue};
use crate::tls::TlsError;
use client::CanaryClient;
pub use client::CanarySendError;
pub use status::{CanaryLimits, CanaryProgress, CanaryStatus, RoundTrip};

/// How often canaries are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CanarySchedule {
    /// The pause between two of them.
    pub every: Duration,
    /// The pause after a canary that Sentry did not accept. It doubles with each of them, up to `every`.
    pub retry: Duration,
}

impl CanarySchedule {
    /// A canary after each `every`, or after a minute if Sentry did not accept the last one.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self { every, retry: Duration::from_mins(1) }
    }

    /// The pause after `failures` canaries in a row that Sentry did not accept, the last of them because of `error`.
    fn after_failure(&self, failures: u32, error: &CanarySendError) -> Duration {
        let longest = self.every.max(self.retry);
        let pause = Backoff { first: self.retry, ceiling: longest }.pause(failures);
        let asked = match error {
            CanarySendError::Throttled { wait, .. } => wait.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        pause.max(asked).min(longest)
    }

    /// The pause after a start until the first canary, by what was sent before: alert rules do not fire again for a while
    /// after they fired, so a restart is no reason to send a canary early.
    fn after_start(&self, newest: Option<&CanaryRecord>, now: chrono::DateTime<Utc>) -> Duration {
        let Some(newest) = newest else { return Duration::ZERO };
        let pause = if matches!(newest.taken, Some(Err(_))) { self.retry } else { self.every };
        let since = (now - newest.sent_at).max(TimeDelta::zero()).to_std().unwrap_or_default();
        pause.saturating_sub(since)
    }
}

/// The task that sends canaries to one DSN.
pub struct CanaryTask {
    client: CanaryClient,
    ingest: Ingest,
    queue: Queue,
    metrics: Metrics,
    schedule: CanarySchedule,
    is_leader: IsLeader,
}

impl CanaryTask {
    /// A task that sends canaries to the newest `dsn`, whose webhooks `ingest` recognises. It trusts the certificate
    /// authorities of `ca_file` besides the usual ones. If several bridges share a queue, only the leader sends
    /// canaries.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(
        dsn: watch::Receiver<Dsn>,
        ca_file: Option<&Path>,
        ingest: Ingest,
        queue: Queue,
        metrics: Metrics,
        schedule: CanarySchedule,
        is_leader: IsLeader,
    ) -> Result<Self, TlsError> {
        Ok(Self { client: CanaryClient::new(dsn, ca_file)?, ingest, queue, metrics, schedule, is_leader })
    }

    /// Returns the task with another schedule.
    #[must_use]
    pub fn with_schedule(self, schedule: CanarySchedule) -> Self {
        Self { schedule, ..self }
    }

    /// Sends canaries until the future is dropped.
    pub async fn run(self) -> Infallible {
        let mut failures = 0;
        let mut due: Option<Instant> = None;
        loop {
            if !(self.is_leader)() {
                due = None;
                sleep(self.schedule.retry).await;
                continue;
            }
            match due {
                Some(at) if at <= Instant::now() => due = Some(Instant::now() + self.send(&mut failures).await),
                Some(at) => sleep_until(at).await,
                None => due = Some(Instant::now() + self.pause_after_start().await),
            }
        }
    }

    async fn pause_after_start(&self) -> Duration {
        let now = Utc::now();
        match self.queue.reader().canaries(now).await {
            Ok(records) => self.schedule.after_start(records.last(), now),
            // The storage alarm reports this error.
            Err(_) => self.schedule.retry,
        }
    }

    /// Sends a canary, and returns the pause until the next one.
    async fn send(&self, failures: &mut u32) -> Duration {
        let (at, mark) = (Utc::now(), self.ingest.canary());
        let id = mark.event_id(at, rand::random());
        // Recorded before it is sent, because its webhook may arrive before Sentry's response.
        if !self.record(CanaryChange::Sent { id, at }).await {
            return self.schedule.retry;
        }
        let sent = self.client.send(id, at, &mark).await;
        self.metrics.count_canary(sent.is_ok());
        self.record(CanaryChange::Answered { id, failure: sent.as_ref().err().map(ToString::to_string) }).await;
        match sent {
            Ok(()) => {
                *failures = 0;
                debug!(canary:% = id; "Sentry has taken the canary");
                self.schedule.every
            }
            Err(error) => {
                *failures += 1;
                log_throttled!(
                    Level::Warn, "canaries were not taken by Sentry", canary:% = id;
                    "Sentry has not taken the canary: {error}"
                );
                self.schedule.after_failure(*failures, &error)
            }
        }
    }

    async fn record(&self, change: CanaryChange) -> bool {
        let id: CanaryId = match &change {
            CanaryChange::Sent { id, .. } | CanaryChange::Answered { id, .. } | CanaryChange::Returned { id, .. } => {
                *id
            }
        };
        let recorded = self.queue.record_canary(change).await;
        if let Err(error) = &recorded {
            log_throttled!(
                Level::Warn, "canaries were not recorded", canary:% = id;
                "the canary cannot be recorded: {error}"
            );
        }
        recorded.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::ingest::CanaryMark;
    use crate::pagerduty::ServiceKey;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn failures_are_followed_by_growing_pauses_and_sentrys_own_wish() {
        let schedule = CanarySchedule::new(10 * MINUTE);
        let pauses =
            [1, 2, 3, 4, 5, 99].map(|failures| schedule.after_failure(failures, &CanarySendError::Timeout) / 60);
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10].map(Duration::from_secs));
        let throttled = |wait| CanarySendError::Throttled { reason: String::new(), wait: Some(wait) };
        assert_eq!(schedule.after_failure(1, &throttled(3 * MINUTE)), 3 * MINUTE);
        assert_eq!(
            schedule.after_failure(1, &throttled(60 * MINUTE)),
            10 * MINUTE,
            "but it is tried at the usual pace"
        );
    }

    #[test]
    fn a_restart_sends_none_before_its_time() {
        let schedule = CanarySchedule::new(10 * MINUTE);
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let mark = CanaryMark::new(&ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap());
        let after = |minutes: i64, taken| {
            let sent_at = now - TimeDelta::minutes(minutes);
            let record = CanaryRecord { id: mark.event_id(sent_at, 0), sent_at, taken, returned_at: None };
            schedule.after_start(Some(&record), now) / 60
        };
        assert_eq!(schedule.after_start(None, now), Duration::ZERO);
        assert_eq!(after(4, Some(Ok(()))), Duration::from_secs(6));
        assert_eq!(after(4, None), Duration::from_secs(6));
        assert_eq!(after(4, Some(Err("x".to_owned()))), Duration::ZERO);
        assert_eq!(after(11, Some(Ok(()))), Duration::ZERO);
        assert_eq!(after(-60, Some(Ok(()))), Duration::from_secs(10), "the clock was set back");
    }
}
