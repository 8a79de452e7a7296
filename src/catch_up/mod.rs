//! Catch-up: alerts that Sentry fired and whose webhooks never came.
//!
//! - `source`: asks Sentry what fired within a window
//! - [`plan`]: which alerts are missing, and what is done about them; pure
//! - [`run`]: one run: finds missing alerts and enqueues them as their webhooks would have been
//! - `schedule`: when a run is due; pure
//! - this file: the task of a running bridge, and its status
//!
//! Missing alerts go through [`Ingest`] like every alert, with the same incident key, routes and
//! settings, so a webhook that comes late is recognised as a duplicate or is folded.

pub mod plan;
pub mod run;
mod schedule;
mod source;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, Utc};
use log::{info, warn};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cluster::IsLeader;
use crate::config::CatchUpMode;
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::pagerduty::ServiceKey;
use crate::queue::Queue;
use crate::queue::external::{CatchUpRun, SentryNotes};
use crate::sentry_api::address::BridgeAddress;
use crate::sentry_api::types::Firing;
use crate::sentry_api::{SentryClient, SentryTaskError};
use plan::{DELAY, window};
pub use run::{CatchUp, CatchUpOutcome, Sink};
use schedule::CatchUpSchedule;

/// How often the task looks whether a run is due.
const TICK: Duration = Duration::from_secs(2);

/// How many of the alerts that a run only reported are shown and logged.
const MOST_REPORTED: usize = 20;

/// The status of catch-up, for display.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CatchUpStatus {
    /// What is done about missing alerts.
    pub mode: CatchUpMode,
    /// The last run that was complete, in this or an earlier process.
    pub last: Option<CatchUpRun>,
    /// Whether Sentry recorded the firings that the last run of this process looked at, or they were guessed from new
    /// issues.
    pub is_exact: Option<bool>,
    /// When and why the last run failed; `None` once a run is complete.
    pub failure: Option<(DateTime<Utc>, String)>,
    /// The newest alerts that this process only reported.
    pub reported: Vec<ReportedAlert>,
}

/// An alert that was reported and paged nobody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportedAlert {
    /// The title of the issue.
    pub title: String,
    /// The page of the issue.
    pub link: Option<String>,
    /// When it fired, by Sentry's clock.
    pub at: DateTime<Utc>,
}

impl CatchUpStatus {
    /// The status before the first run.
    #[must_use]
    pub fn new(mode: CatchUpMode) -> Self {
        Self { mode, last: None, is_exact: None, failure: None, reported: Vec::new() }
    }
}

/// What a run needs to know of the bridge's own secrets, which may be replaced while the bridge runs.
#[derive(Clone, Debug)]
pub struct CatchUpSecrets {
    /// Determines which alerts call the bridge.
    pub bridge: BridgeAddress,
    /// The service key of the event that summarizes the alerts beyond the limit.
    pub summary_key: ServiceKey,
}

/// Runs catch-up whenever it is due.
pub struct CatchUpTask {
    api: SentryClient,
    ingest: Ingest,
    queue: Queue,
    metrics: Metrics,
    secrets: watch::Receiver<CatchUpSecrets>,
    status: watch::Sender<CatchUpStatus>,
    is_leader: IsLeader,
}

impl CatchUpTask {
    /// Creates a task that finds missing alerts through `api` and, depending on `mode`, enqueues them in `queue` or only
    /// reports them. If several bridges share a queue, only the leader does anything.
    #[must_use]
    pub fn new(
        api: SentryClient,
        ingest: Ingest,
        queue: Queue,
        metrics: Metrics,
        secrets: watch::Receiver<CatchUpSecrets>,
        mode: CatchUpMode,
        is_leader: IsLeader,
    ) -> Self {
        let status = watch::channel(CatchUpStatus::new(mode)).0;
        Self { api, ingest, queue, metrics, secrets, status, is_leader }
    }

    /// The state of the task.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<CatchUpStatus> {
        self.status.subscribe()
    }

    /// Runs for as long as it is polled.
    pub async fn run(mut self) -> Infallible {
        let began = Instant::now();
        let mut schedule = CatchUpSchedule::new(Duration::ZERO);
        if let Ok(last) = self.queue.reader().catch_up().await {
            self.status.send_modify(|status| status.last = last);
        }
        loop {
            let since_webhook = self.metrics.since_webhook();
            if schedule.is_due(began.elapsed(), self.queue.can_commit(), since_webhook) && (self.is_leader)() {
                let ran = self.run_once(Utc::now()).await;
                schedule.ran(began.elapsed(), ran.is_ok());
                self.metrics.count_catch_up_run(ran.is_ok());
                if let Err(error) = ran {
                    self.status.send_modify(|status| status.failure = Some((Utc::now(), error.to_string())));
                    warn!("catch-up failed, so alerts whose webhooks did not come may be missing: {error}");
                }
            }
            sleep(TICK).await;
        }
    }

    async fn run_once(&mut self, now: DateTime<Utc>) -> Result<(), SentryTaskError> {
        let last = self.queue.reader().catch_up().await?;
        // At the first start nothing is known that could be missing.
        let Some(window) = window(last.as_ref(), self.metrics.last_webhook_at(), now) else {
            if last.is_none() {
                let run = CatchUpRun { until: (now - DELAY).trunc_subsecs(0), ran_at: now, ..CatchUpRun::default() };
                self.complete(run, None).await?;
                info!("catch-up begins: from now on Sentry is asked for alerts whose webhooks do not come");
            }
            return Ok(());
        };
        let mode = self.status.borrow().mode;
        let CatchUpSecrets { bridge, summary_key } = self.secrets.borrow().clone();
        let run = CatchUp {
            api: &self.api,
            ingest: &self.ingest,
            reader: self.queue.reader(),
            bridge: &bridge,
            mode,
            alerts: None,
            summary_key: &summary_key,
        };
        let found = run.find(window).await?;
        for unseen in &found.unseen {
            warn!("catch-up is not complete: {unseen}");
        }
        let mut sink = self.queue.clone();
        let done = run.carry_out(&found, window.until.trunc_subsecs(0), &mut sink, tell).await?;
        self.report(&found.report);
        self.complete(done, Some(found.is_exact)).await?;
        let (fired, missing) = (found.fired, found.number());
        info!(fired, missing; "asked Sentry what fired since {}", window.from.format("%Y-%m-%d %H:%M:%S UTC"));
        Ok(())
    }

    async fn complete(&mut self, run: CatchUpRun, is_exact: Option<bool>) -> Result<(), SentryTaskError> {
        let notes = SentryNotes { at: run.ran_at, run: Some(run), issues: Vec::new() };
        self.queue.write_sentry_notes(notes).await?;
        self.metrics.count_caught_up(run.enqueued, run.reported, run.summarized);
        self.status.send_modify(|status| {
            (status.last, status.failure) = (Some(run), None);
            status.is_exact = is_exact.or(status.is_exact);
        });
        Ok(())
    }

    fn report(&self, firings: &[Firing]) {
        let mut reported: Vec<_> = firings.iter().rev().take(MOST_REPORTED).map(ReportedAlert::of).collect();
        for one in &reported {
            let at = one.at.format("%Y-%m-%d %H:%M:%S UTC");
            warn!(
                "Sentry fired an alert at {at} that never reached the bridge, and nobody is paged for it: {}",
                one.title
            );
        }
        if firings.len() > MOST_REPORTED {
            warn!("… and {} more", firings.len() - MOST_REPORTED);
        }
        self.status.send_modify(|status| {
            reported.append(&mut status.reported);
            reported.truncate(MOST_REPORTED);
            status.reported = reported;
        });
    }
}

impl ReportedAlert {
    fn of(firing: &Firing) -> Self {
        Self { title: firing.issue.title.clone(), link: firing.issue.permalink.clone(), at: firing.at }
    }
}

fn tell(firing: &Firing, outcome: &CatchUpOutcome) {
    let issue = &firing.issue.id;
    match outcome {
        CatchUpOutcome::Enqueued(events) => {
            let event = events.first().map_or(0, |event| event.get());
            warn!(event, issue; "an alert that never reached the bridge was found in Sentry and enqueued");
        }
        CatchUpOutcome::NotNeeded(why) => info!(issue; "an alert that never reached the bridge needs no event: {why}"),
    }
}
