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
    /// Before the first one, so that a bridge that starts has its machine for alerts; and how often a bridge that does not
    /// lead looks whether it does by now.
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
pub struct AuditTask<A, L> {
    api: A,
    expected: watch::Receiver<Expected>,
    handle: AuditHandle,
    schedule: Schedule,
    leads: L,
}

impl<A: SentryApi, L: Fn() -> bool> AuditTask<A, L> {
    /// A task that measures the Sentry of `api` against the newest `expected`, and keeps what it finds in `handle`. `leads`:
    /// whether this bridge does what one of several does for all.
    pub fn new(api: A, expected: watch::Receiver<Expected>, handle: AuditHandle, leads: L) -> Self {
        Self { api, expected, handle, schedule: Schedule::default(), leads }
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
            while !(self.leads)() {
                sleep(self.schedule.first).await;
            }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    use tokio::time::timeout;

    use super::*;
    use crate::config::ApiToken;
    use crate::sentry_api::Client;
    use crate::sentry_api::ours::Bridge;

    /// Waits until a condition holds, which nobody announces.
    async fn until(condition: impl Fn() -> bool) {
        let holds = async {
            while !condition() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(30), holds).await.expect("it never came");
    }

    #[actix_web::test]
    async fn a_bridge_audits_while_it_leads_and_does_not_before() {
        // Nobody listens there, so that an audit is known by its failure.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap()).parse().unwrap();
        drop(socket);
        let client = Client::new(&url, "acme", ApiToken::parse("token-of-the-tests").unwrap(), None).unwrap();
        let expected = Expected {
            bridge: Bridge { root: None, tokens: Vec::new() },
            environments: BTreeSet::new(),
            projects: BTreeSet::new(),
        };
        let (handle, leads, asked) = (AuditHandle::default(), Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let (led, counted) = (Rc::clone(&leads), Rc::clone(&asked));
        let is_leader = move || {
            counted.set(counted.get() + 1);
            led.get()
        };
        let schedule = Schedule {
            first: Duration::from_millis(1),
            every: Duration::from_hours(1),
            retry: Duration::from_hours(1),
        };
        let task =
            AuditTask::new(client, watch::channel(expected).1, handle.clone(), is_leader).with_schedule(schedule);
        let running = actix_web::rt::spawn(task.run());
        until(|| asked.get() > 3).await;
        assert_eq!(handle.status(), AuditStatus::default());
        leads.set(true);
        until(|| handle.status().failure.is_some()).await;
        running.abort();
    }
}
