//! The fallback webhook, `BRIDGE_FALLBACK_URL`: it is notified when PagerDuty itself takes no events, because no alarm
//! arrives there then, and when that is over.
//!
//! - `outage`: whether PagerDuty takes events, when the webhook is notified and how often that is tried; pure
//! - `message`: the JSON of a notice
//! - `webhook`: one attempt to send it
//!
//! [`FallbackTask`] runs beside the deliveries, which never wait for it. The last notice is stored in the queue, so
//! that a restart changes nothing.

mod message;
mod outage;
mod webhook;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use log::{Level, error, info};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub use message::Message;
pub use outage::FallbackError;
pub use webhook::FallbackWebhook;

use super::snapshot::{FallbackView, Snapshot};
use super::{Intervals, Monitor, troubles};
use crate::logging::log_throttled;
use crate::queue::{OutageNotice, Queue};
use outage::{Notice, Outages, assess};

/// The timeout for saving the last notice: while the disk hangs, PagerDuty may be down as well.
const SAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Notifies the fallback webhook of outages.
pub struct FallbackTask {
    monitor: Monitor,
    queue: Queue,
    webhook: FallbackWebhook,
    unsent_alarm: watch::Receiver<Option<String>>,
    view: watch::Sender<FallbackView>,
    intervals: Intervals,
    outages: Outages,
    last: Option<OutageNotice>,
    /// Whether `last` is not stored yet.
    is_unsaved: bool,
    started: Instant,
}

impl FallbackTask {
    /// Creates a task that notifies `webhook` of outages of the PagerDuty that the bridge of `monitor` delivers to.
    ///
    /// If several bridges share a queue, only the leader notifies. `unsent_alarm` holds why the alarm that is not enqueued
    /// could not be sent to PagerDuty; while it could not, the task notifies even if the bridge is not the leader. `view`
    /// publishes the state of the webhook.
    #[must_use]
    pub fn new(
        monitor: Monitor,
        queue: Queue,
        webhook: FallbackWebhook,
        unsent_alarm: watch::Receiver<Option<String>>,
        view: watch::Sender<FallbackView>,
    ) -> Self {
        let intervals = Intervals::default();
        let outages = Outages::new(intervals, monitor.limits());
        Self {
            monitor,
            queue,
            webhook,
            unsent_alarm,
            view,
            intervals,
            outages,
            last: None,
            is_unsaved: false,
            started: Instant::now(),
        }
    }

    /// Replaces the intervals. Must be called before [`FallbackTask::run`].
    #[must_use]
    pub fn with_intervals(self, intervals: Intervals) -> Self {
        Self { intervals, outages: Outages::new(intervals, self.monitor.limits()), ..self }
    }

    /// Checks periodically for as long as it is polled.
    pub async fn run(mut self) -> Infallible {
        loop {
            sleep(self.intervals.check).await;
            self.check().await;
        }
    }

    async fn check(&mut self) {
        self.load_last().await;
        // Of several bridges on one queue, only the leader notifies; the others show its last notice. Without the database
        // there is no leader, so every bridge tells by itself that its alarm cannot be sent.
        if self.monitor.cluster.is_leader() || self.unsent_alarm.borrow().is_some() {
            let snapshot = self.monitor.snapshot(Utc::now()).await;
            let troubles = troubles(&snapshot, self.monitor.limits());
            let unsent_alarm = self.unsent_alarm.borrow().clone();
            let assessment = assess(&snapshot, &troubles, unsent_alarm.as_deref());
            let (is_told, now) = (self.outage_since().is_some(), self.started.elapsed());
            let delivered_at = snapshot.metrics.last_delivered_at;
            if let Some(notice) = self.outages.update(&assessment, is_told, delivered_at, now) {
                self.tell(&notice, &snapshot).await;
            }
        } else {
            self.outages.not_leading(self.started.elapsed());
        }
        self.save_last().await;
        let (last_told_at, outage_since) = (self.last.map(|last| last.told_at), self.outage_since());
        self.view.send_modify(|view| (view.last_told_at, view.outage_since) = (last_told_at, outage_since));
    }

    fn outage_since(&self) -> Option<DateTime<Utc>> {
        self.last?.outage_since
    }

    /// Loads the last notice each time, because another bridge may have sent it.
    async fn load_last(&mut self) {
        // If it cannot be read, the last one that is known here stays in use.
        if !self.is_unsaved
            && let Ok(last) = self.queue.reader().outage_notice().await
        {
            self.last = last;
        }
    }

    async fn save_last(&mut self) {
        if let Some(last) = self.last
            && self.is_unsaved
        {
            // Why nothing can be committed is logged where alerts are refused.
            let saved = timeout(SAVE_TIMEOUT, self.queue.write_outage_notice(last)).await;
            self.is_unsaved = !matches!(saved, Ok(Ok(())));
        }
    }

    async fn tell(&mut self, notice: &Notice, snapshot: &Snapshot) {
        let (message, outage_since) = match notice {
            Notice::Outage(outage) => (Message::outage(outage, snapshot), Some(outage.since)),
            Notice::Over => (Message::over(self.outage_since(), snapshot), None),
        };
        let what = if outage_since.is_some() { "PagerDuty takes no events" } else { "the outage of PagerDuty is over" };
        let sent = self.webhook.send(&message).await;
        let now = self.started.elapsed();
        let failure = match sent {
            Ok(()) => {
                info!("the fallback webhook was told that {what}");
                self.outages.told();
                None
            }
            Err(error) => {
                let failure = format!("{}: {error}", self.webhook.host());
                let is_last = self.outages.failed(&error, now);
                if is_last {
                    error!("the fallback webhook could not be told that {what}, and is not tried again: {failure}");
                } else {
                    log_throttled!(
                        Level::Warn, "the fallback webhook was not told";
                        "the fallback webhook is not told yet that {what}: {failure}"
                    );
                }
                Some(failure)
            }
        };
        let is_told = failure.is_none();
        // An outage is over even if its end could not be sent: the next outage is a new one.
        if is_told || (outage_since.is_none() && self.outages.is_given_up()) {
            let told_at = if is_told { Some(snapshot.at) } else { self.last.map(|last| last.told_at) };
            self.last = Some(OutageNotice { told_at: told_at.unwrap_or(snapshot.at), outage_since });
            self.is_unsaved = true;
        }
        self.view.send_modify(|view| view.failure = failure);
    }
}
