//! The audit inside a running bridge: soon after the start, and then once a day.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::{info, warn};
use strum::VariantArray;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{AuditSettings, FindingKind, SentryAudit, audit};
use crate::cluster::IsLeader;
use crate::sentry_api::inventory::{InventoryOptions, read};
use crate::sentry_api::{SentryApiError, SentryClient};

/// The pauses of the audit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditSchedule {
    /// Before the first audit, so that a starting bridge has the machine for alerts. It is also how often a bridge that
    /// is not the leader checks whether it has become the leader.
    pub first: Duration,
    /// Between two audits.
    pub every: Duration,
    /// After an audit that failed.
    pub retry: Duration,
}

impl Default for AuditSchedule {
    fn default() -> Self {
        Self { first: Duration::from_secs(5), every: Duration::from_hours(24), retry: Duration::from_hours(1) }
    }
}

/// A completed audit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditReport {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// The owner and scopes of the token, in words.
    pub token: String,
    /// The generation of the Sentry, in words.
    pub generation: String,
    /// Its result.
    pub audit: SentryAudit,
}

impl AuditReport {
    /// The number of findings of each kind, including kinds without findings.
    pub fn by_kind(&self) -> impl Iterator<Item = (FindingKind, usize)> {
        let mut counts: BTreeMap<FindingKind, usize> = FindingKind::VARIANTS.iter().map(|kind| (*kind, 0)).collect();
        for finding in &self.audit.findings {
            *counts.entry(finding.kind).or_default() += 1;
        }
        counts.into_iter()
    }
}

/// The state of the audits of this run of the bridge.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuditStatus {
    /// The last completed audit.
    pub last: Option<Arc<AuditReport>>,
    /// When and why the last attempt failed, if it failed after `last`.
    pub failure: Option<(DateTime<Utc>, SentryApiError)>,
}

/// The task that audits. It never pages: its findings may be a day old and are meant for people to read.
pub struct AuditTask {
    api: SentryClient,
    expected: watch::Receiver<AuditSettings>,
    status: watch::Sender<AuditStatus>,
    schedule: AuditSchedule,
    is_leader: IsLeader,
}

impl AuditTask {
    /// Creates a task that audits the Sentry of `api` against the newest `expected`. Only the leader audits.
    #[must_use]
    pub fn new(api: SentryClient, expected: watch::Receiver<AuditSettings>, is_leader: IsLeader) -> Self {
        let status = watch::channel(AuditStatus::default()).0;
        Self { api, expected, status, schedule: AuditSchedule::default(), is_leader }
    }

    /// The state of the audits.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<AuditStatus> {
        self.status.subscribe()
    }

    /// Replaces the pauses.
    #[must_use]
    pub fn with_schedule(self, schedule: AuditSchedule) -> Self {
        Self { schedule, ..self }
    }

    /// Audits for as long as it is polled.
    pub async fn run(self) -> Infallible {
        sleep(self.schedule.first).await;
        loop {
            while !(self.is_leader)() {
                sleep(self.schedule.first).await;
            }
            let pause = match self.audit().await {
                Ok(report) => {
                    self.keep(report);
                    self.schedule.every
                }
                Err(error) => {
                    warn!("the audit of Sentry's alerts failed: {error}");
                    self.status.send_modify(|status| status.failure = Some((Utc::now(), error)));
                    self.schedule.retry
                }
            };
            sleep(pause).await;
        }
    }

    async fn audit(&self) -> Result<AuditReport, SentryApiError> {
        let options = InventoryOptions { alerts: None, hooks: false, new_issues: true };
        let inventory = read(&self.api, options).await?;
        Ok(AuditReport {
            at: Utc::now(),
            token: inventory.identity.to_string(),
            generation: inventory.generation().to_owned(),
            audit: audit(&inventory, &self.expected.borrow()),
        })
    }

    fn keep(&self, report: AuditReport) {
        let (findings, projects) = (report.audit.findings.len(), report.audit.projects.len());
        let before = self.status.send_replace(AuditStatus { last: Some(Arc::new(report)), failure: None });
        let before = before.last.map_or(0, |last| last.audit.findings.len());
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
    use crate::sentry_api::address::BridgeAddress;

    /// Polls until a condition holds, because nothing signals it.
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
        // Nothing listens on this port, so an audit shows up as a failure.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap()).parse().unwrap();
        drop(socket);
        let client =
            SentryClient::new(&url, "acme", ApiToken::parse_sentry("token-of-the-tests").unwrap(), None).unwrap();
        let expected = AuditSettings {
            bridge: BridgeAddress { root: None, tokens: Vec::new() },
            environments: BTreeSet::new(),
            projects: BTreeSet::new(),
        };
        let (leads, asked) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let (led, counted) = (Rc::clone(&leads), Rc::clone(&asked));
        let is_leader = Box::new(move || {
            counted.set(counted.get() + 1);
            led.get()
        });
        let schedule = AuditSchedule {
            first: Duration::from_millis(1),
            every: Duration::from_hours(1),
            retry: Duration::from_hours(1),
        };
        let task = AuditTask::new(client, watch::channel(expected).1, is_leader).with_schedule(schedule);
        let status = task.status();
        let running = actix_web::rt::spawn(task.run());
        until(|| asked.get() > 3).await;
        assert_eq!(*status.borrow(), AuditStatus::default());
        leads.set(true);
        until(|| status.borrow().failure.is_some()).await;
        running.abort();
    }
}
