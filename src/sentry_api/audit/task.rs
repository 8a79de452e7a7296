//! The audit inside a running bridge: soon after the start, and then once a day.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::{info, warn};
use strum::VariantArray;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Audit, Expected, Kind, audit};
use crate::sentry_api::inventory::{Wanted, read};
use crate::sentry_api::{ApiError, SentryApi};

/// The pauses of the audit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Schedule {
    /// Before the first one, so that a bridge that starts has its machine for alerts.
    pub first: Duration,
    /// Between two of them.
    pub every: Duration,
    /// After one that failed.
    pub retry: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { first: Duration::from_secs(5), every: Duration::from_hours(24), retry: Duration::from_hours(1) }
    }
}

/// One audit that was done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditReport {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Whose token looked, in words.
    pub token: String,
    /// Which generation of Sentry it was, in words.
    pub generation: String,
    /// What was found.
    pub audit: Audit,
}

impl AuditReport {
    /// How many findings there are of each kind, those that there are none of included.
    pub fn by_kind(&self) -> impl Iterator<Item = (Kind, usize)> {
        let mut counts: BTreeMap<Kind, usize> = Kind::VARIANTS.iter().map(|kind| (*kind, 0)).collect();
        for finding in &self.audit.findings {
            *counts.entry(finding.kind).or_default() += 1;
        }
        counts.into_iter()
    }
}

/// The audits of this run of the bridge.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuditStatus {
    /// The last one that was done.
    pub last: Option<Arc<AuditReport>>,
    /// When the last one failed and why, where one failed after `last`.
    pub failure: Option<(DateTime<Utc>, ApiError)>,
}

/// What is known of the audits; clones share it.
#[derive(Clone, Debug, Default)]
pub struct AuditHandle(Arc<Mutex<AuditStatus>>);

impl AuditHandle {
    /// What is known now.
    #[must_use]
    pub fn status(&self) -> AuditStatus {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, AuditStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that audits. It pages for nothing: what it finds is as old as a day, and for people to read.
pub struct AuditTask<A> {
    api: A,
    expected: watch::Receiver<Expected>,
    handle: AuditHandle,
    schedule: Schedule,
}

impl<A: SentryApi> AuditTask<A> {
    /// A task that measures the Sentry of `api` against the newest `expected`, and keeps what it finds in `handle`.
    pub fn new(api: A, expected: watch::Receiver<Expected>, handle: AuditHandle) -> Self {
        Self { api, expected, handle, schedule: Schedule::default() }
    }

    /// The same with other pauses.
    #[must_use]
    pub fn with_schedule(self, schedule: Schedule) -> Self {
        Self { schedule, ..self }
    }

    /// Audits for as long as it is polled.
    pub async fn run(self) -> Infallible {
        sleep(self.schedule.first).await;
        loop {
            let pause = match self.audit().await {
                Ok(report) => {
                    self.keep(report);
                    self.schedule.every
                }
                Err(error) => {
                    warn!("the audit of Sentry's alerts failed: {error}");
                    self.handle.lock().failure = Some((Utc::now(), error));
                    self.schedule.retry
                }
            };
            sleep(pause).await;
        }
    }

    async fn audit(&self) -> Result<AuditReport, ApiError> {
        let wanted = Wanted { alerts: None, hooks: false, new_issues: true };
        let inventory = read(&self.api, wanted).await?;
        Ok(AuditReport {
            at: Utc::now(),
            token: inventory.identity.to_string(),
            generation: inventory.generation.to_string(),
            audit: audit(&inventory, &self.expected.borrow()),
        })
    }

    fn keep(&self, report: AuditReport) {
        let (findings, projects) = (report.audit.findings.len(), report.audit.projects.len());
        let mut status = self.handle.lock();
        let before = status.last.as_ref().map_or(0, |last| last.audit.findings.len());
        *status = AuditStatus { last: Some(Arc::new(report)), failure: None };
        drop(status);
        if findings > 0 && findings != before {
            warn!(findings, projects; "the audit of Sentry's alerts found {findings}: see the status page, or run `audit`");
        } else {
            info!(findings, projects; "the audit of Sentry's alerts is done: {findings} found");
        }
    }
}
