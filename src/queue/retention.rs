//! What is kept for a while: delivered events for people to look at, and what the metrics need after a restart.

use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use log::{debug, warn};
use tokio::time::sleep;

use super::sentry::SentryNotes;
use super::store::Prune;
use super::writer::Maintenance;
use super::{OutageNotice, Queue, QueueError};
use crate::metrics::{Activity, Metrics, PersistedMetrics};

/// How many rows one commit forgets at most, so that a webhook waits for few of them.
const CHUNK: u32 = 200;

/// How many pages one commit gives back to the disk at most. Each may be another page that is moved.
const SHRINK_PAGES: u32 = 100;

/// How long the disk is left to others between two of these commits.
const SHRINK_PAUSE: Duration = Duration::from_millis(20);

/// How long the metrics are not stored again after they were.
const SOON: Duration = Duration::from_secs(1);

/// How many delivered events are kept at most, however young they are. At 4 KB each they take 4 GB.
pub const KEEP_ROWS: u64 = 1_000_000;

/// For how long the bridge remembers where an incident was opened that is closed, so that it is opened again there. One
/// that is open is remembered for as long as it is.
const KEEP_INCIDENTS: TimeDelta = TimeDelta::days(180);

/// How soon a bridge that does not lead looks whether it does by now.
const LEADER_PAUSE: Duration = Duration::from_secs(5);

/// How much is kept. Dead letters and rejected webhooks are none of it: they wait until somebody acts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    /// For how long. The rate of a service key is known from the attempts of its last minutes, so less than ten of them
    /// could let a bridge that starts again send too much.
    pub age: Duration,
    /// How many events.
    pub rows: u64,
}

impl Queue {
    /// Deletes the delivered events that `retention` does not keep, and returns how many those were. Others get their
    /// turn between its commits.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn prune(&self, retention: Retention, now: DateTime<Utc>) -> Result<u64, QueueError> {
        let age = TimeDelta::from_std(retention.age).unwrap_or(TimeDelta::MAX);
        let before = now.checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let incidents_before = now - KEEP_INCIDENTS;
        let old = self.forget(before, incidents_before, u64::MAX).await?;
        let surplus = self.reader().delivered().await?.saturating_sub(retention.rows);
        Ok(old + self.forget(DateTime::<Utc>::MAX_UTC, incidents_before, surplus).await?)
    }

    /// Forgets at most `most` events that were delivered before a moment.
    async fn forget(
        &self,
        before: DateTime<Utc>,
        incidents_before: DateTime<Utc>,
        most: u64,
    ) -> Result<u64, QueueError> {
        let mut gone = 0;
        while gone < most {
            let limit = u32::try_from(most - gone).unwrap_or(CHUNK).min(CHUNK);
            let forgotten = {
                let prune = Prune { before, incidents_before, limit };
                self.maintain(|reply| Maintenance::Prune(prune, reply)).await?
            };
            gone += forgotten;
            if forgotten < u64::from(limit) {
                break;
            }
        }
        Ok(gone)
    }

    /// Returns to the disk what is empty in the file, a little at a time: others get their turn between its commits.
    /// What the next storm may need is kept: 4 MiB, or a quarter of what is in use.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn shrink(&self) -> Result<(), QueueError> {
        let mut left = self.maintain(|reply| Maintenance::Shrink(0, reply)).await?;
        while left > 0 {
            let still = self.maintain(|reply| Maintenance::Shrink(SHRINK_PAGES, reply)).await?;
            if still >= left {
                // A file from before the bridge gave space back.
                break;
            }
            left = still;
            sleep(SHRINK_PAUSE).await;
        }
        Ok(())
    }

    /// Prunes at once and after every `interval`, for as long as it is polled and while `leads` says so.
    pub async fn keep_pruned(
        &self,
        retention: Retention,
        interval: Duration,
        clock: impl Fn() -> DateTime<Utc>,
        leads: impl Fn() -> bool,
    ) -> Infallible {
        loop {
            if !leads() {
                sleep(interval.min(LEADER_PAUSE)).await;
                continue;
            }
            match self.prune(retention, clock()).await {
                Ok(0) => {}
                Ok(gone) => debug!("{gone} delivered events were forgotten"),
                Err(error) => warn!("old history is still kept: {error}"),
            }
            if let Err(error) = self.shrink().await {
                warn!("the database file does not shrink: {error}");
            }
            sleep(interval).await;
        }
    }
}

impl Queue {
    /// What an earlier run of the bridge remembered, as far as it is shown at `now`.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn persisted_metrics(&self, now: DateTime<Utc>) -> Result<PersistedMetrics, QueueError> {
        self.reader().persisted_metrics(Activity::horizon(now)).await
    }

    /// Keeps what `metrics` remember, if it has changed. It has a commit of its own, so that nothing else fails with
    /// it; what could not be kept is kept the next time.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn persist_metrics(&self, metrics: &Metrics) -> Result<(), QueueError> {
        let Some(memory) = metrics.take_unsaved() else { return Ok(()) };
        let kept = self.maintain(|reply| Maintenance::PersistMetrics(memory.clone(), reply)).await;
        if kept.is_err() {
            metrics.not_saved(&memory);
        }
        kept
    }

    /// Does that after every `interval`, and soon after attempts began to fail or to succeed again, for as long as it is polled.
    pub async fn keep_metrics_persisted(&self, metrics: &Metrics, interval: Duration) -> Infallible {
        loop {
            sleep(interval.min(SOON)).await;
            tokio::select! {
                () = sleep(interval.saturating_sub(SOON)) => {}
                () = metrics.failing_changed() => {}
            }
            if let Err(error) = self.persist_metrics(metrics).await {
                // An operator who looks for the trouble finds it where alerts are refused.
                debug!("what happened lately is not kept yet: {error}");
            }
        }
    }

    /// Keeps what Sentry's API told. It has a commit of its own, so that no alert fails with it.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn write_sentry_notes(&self, notes: SentryNotes) -> Result<(), QueueError> {
        self.maintain(|reply| Maintenance::SentryNotes(notes, reply)).await
    }

    /// Stores what the fallback webhook was told last, in a commit of its own.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn write_outage_notice(&self, notice: OutageNotice) -> Result<(), QueueError> {
        self.maintain(|reply| Maintenance::OutageNotice(notice, reply)).await
    }
}
