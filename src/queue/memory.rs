//! What the metrics remember, kept beside the events so that it is there after a restart.

use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::debug;
use tokio::time::sleep;

use super::writer::Maintenance;
use super::{Queue, QueueError};
use crate::metrics::{Activity, Memory, Metrics};

impl Queue {
    /// What an earlier run of the bridge remembered, as far as it is shown at `now`.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn memory(&self, now: DateTime<Utc>) -> Result<Memory, QueueError> {
        self.reader().sqlite.memory(Activity::horizon(now)).await
    }

    /// Keeps what `metrics` remember, if it has changed. It has a commit of its own, so that nothing else fails with
    /// it; what could not be kept is kept the next time.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn remember(&self, metrics: &Metrics) -> Result<(), QueueError> {
        let Some(memory) = metrics.take_unkept() else { return Ok(()) };
        let kept = self.maintain(|reply| Maintenance::PersistMetrics(memory.clone(), reply)).await;
        if kept.is_err() {
            metrics.not_kept(&memory);
        }
        kept
    }

    /// Does that after every `interval`, for as long as it is polled.
    pub async fn keep_remembering(&self, metrics: &Metrics, interval: Duration) -> Infallible {
        loop {
            sleep(interval).await;
            if let Err(error) = self.remember(metrics).await {
                // Whoever looks for trouble finds it where alerts are refused.
                debug!("what happened lately is not kept yet: {error}");
            }
        }
    }
}
