//! What is kept for a while: delivered events for people to look at, and what the metrics need after a restart.

use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use log::{debug, warn};
use tokio::time::sleep;

use super::store::Prune;
use super::writer::StandaloneWrite;
use super::{OutageNotice, Queue, QueueError};
use crate::metrics::{DailyActivity, Metrics, PersistedMetrics};

/// The maximum number of rows that one commit deletes, so that a webhook waits for the deletion of only a few.
const CHUNK: u32 = 200;

/// The maximum number of pages that one commit returns to the disk. For each of them another page may have to be moved.
const SHRINK_PAGES: u32 = 100;

/// The pause between two of these commits, in which others can use the disk.
const SHRINK_PAUSE: Duration = Duration::from_millis(20);

/// The minimum pause before the metrics are stored again.
const SOON: Duration = Duration::from_secs(1);

/// The maximum number of delivered events that are kept, however recent they are. At 4 KB each they take 4 GB.
pub const KEEP_ROWS: u64 = 1_000_000;

/// How long the bridge remembers where a closed incident was opened, so that it can be opened again there. An open
/// incident is remembered as long as it is open, up to a number that each engine limits.
const KEEP_INCIDENTS: TimeDelta = TimeDelta::days(180);

/// The maximum time after which a bridge that is not the leader checks again whether it is.
const LEADER_PAUSE: Duration = Duration::from_secs(5);

/// How many delivered events are kept, and for how long. Dead letters and rejected webhooks are not affected: they wait
/// until somebody acts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    /// How long they are kept. The rate of a service key is known from its attempts of the last minutes, so with less
    /// than ten minutes a bridge that restarts could send too much.
    pub age: Duration,
    /// How many of them are kept at most.
    pub rows: u64,
}

impl Queue {
    /// Deletes the delivered events that `retention` does not keep, and returns how many those were. Other operations get
    /// their turn between its commits.
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

    /// Deletes at most `most` events that were delivered before `before`, and returns how many those were.
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
                self.write_in_background(|reply| StandaloneWrite::Prune(prune, reply)).await?
            };
            gone += forgotten;
            if forgotten < u64::from(limit) {
                break;
            }
        }
        Ok(gone)
    }

    /// Returns empty space of the file to the disk, a little at a time: other operations get their turn between its
    /// commits. The space that the next storm of alerts may need is kept: 4 MiB, or a quarter of the space in use.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn shrink(&self) -> Result<(), QueueError> {
        let mut left = self.write_in_background(|reply| StandaloneWrite::Shrink(0, reply)).await?;
        while left > 0 {
            let still = self.write_in_background(|reply| StandaloneWrite::Shrink(SHRINK_PAGES, reply)).await?;
            if still >= left {
                // The file is from a version of the bridge that could not give space back yet.
                break;
            }
            left = still;
            sleep(SHRINK_PAUSE).await;
        }
        Ok(())
    }

    /// Prunes at once and after every `interval`, as long as it is polled and while `is_leader` returns true.
    pub async fn keep_pruned(
        &self,
        retention: Retention,
        interval: Duration,
        clock: impl Fn() -> DateTime<Utc>,
        is_leader: impl Fn() -> bool,
    ) -> Infallible {
        loop {
            if !is_leader() {
                sleep(interval.min(LEADER_PAUSE)).await;
                continue;
            }
            match self.prune(retention, clock()).await {
                Ok(0) => {}
                Ok(gone) => debug!("{gone} delivered events were forgotten"),
                Err(error) => warn!("old delivered events could not be deleted: {error}"),
            }
            if let Err(error) = self.shrink().await {
                warn!("the database file does not shrink: {error}");
            }
            sleep(interval).await;
        }
    }
}

impl Queue {
    /// The metrics that earlier runs of the bridge stored, as far back as they are shown at `now`.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn persisted_metrics(&self, now: DateTime<Utc>) -> Result<PersistedMetrics, QueueError> {
        self.reader().persisted_metrics(DailyActivity::horizon(now)).await
    }

    /// Stores the persisted part of `metrics`, if it has changed. It has a commit of its own, so that nothing else fails
    /// with it; what could not be stored is stored the next time.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn persist_metrics(&self, metrics: &Metrics) -> Result<(), QueueError> {
        let Some(memory) = metrics.take_unsaved() else { return Ok(()) };
        let kept = self.write_in_background(|reply| StandaloneWrite::PersistMetrics(memory.clone(), reply)).await;
        match &kept {
            Ok(()) => metrics.saved(),
            Err(_) => metrics.not_saved(&memory),
        }
        kept
    }

    /// Persists the metrics after every `interval`, and soon after [`Metrics::needs_saving`], as long as it is polled.
    pub async fn keep_metrics_persisted(&self, metrics: &Metrics, interval: Duration) -> Infallible {
        loop {
            sleep(interval.min(SOON)).await;
            tokio::select! {
                () = sleep(interval.saturating_sub(SOON)) => {}
                () = metrics.needs_saving() => {}
            }
            if let Err(error) = self.persist_metrics(metrics).await {
                // An operator finds the cause where alerts are refused, so this is only logged for debugging.
                debug!("the metrics could not be stored yet: {error}");
            }
        }
    }

    /// Stores the last message to the fallback webhook, in a commit of its own.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn write_outage_notice(&self, notice: OutageNotice) -> Result<(), QueueError> {
        self.write_in_background(|reply| StandaloneWrite::OutageNotice(notice, reply)).await
    }
}
