//! The JSON of Sentry's side: the canary, the audit and catch-up.

use serde::Serialize;

use crate::canary::{CanaryStatus, Progress};
use crate::catch_up::{CatchUpStatus, Reported};
use crate::monitor::SentrySide;
use crate::queue::json::time;
use crate::sentry_api::audit::{AuditStatus, Finding, ProjectAudit};

/// The canary.
#[derive(Debug, Serialize)]
pub(super) struct Canary {
    state: &'static str,
    last_sent_at: Option<String>,
    last_returned_at: Option<String>,
    /// The round trip of the last canary that came back.
    round_trip_seconds: Option<f64>,
    /// Why Sentry takes no canary, in the state `not_taken`.
    reason: Option<String>,
}

impl Canary {
    /// Returns `None` if no canaries are sent, or the queue cannot be read.
    pub(super) fn of(sentry: &SentrySide) -> Option<Self> {
        let CanaryStatus { last, last_sent_at, progress } = sentry.canary.as_ref()?.as_ref().ok()?;
        let (state, reason) = match progress {
            Progress::Unknown => ("unknown", None),
            Progress::Returns => ("returns", None),
            Progress::NotTaken { reason, .. } => ("not_taken", Some(reason.clone())),
            Progress::Lost { .. } => ("lost", None),
        };
        Some(Self {
            state,
            last_sent_at: last_sent_at.map(time),
            last_returned_at: last.map(|last| time(last.returned_at)),
            round_trip_seconds: last.map(|last| last.took().as_secs_f64()),
            reason,
        })
    }
}

/// The audits of this run.
#[derive(Debug, Serialize)]
pub(super) struct Audit {
    /// `None` until the first audit is done.
    last: Option<LastAudit>,
    failed_at: Option<String>,
    failure: Option<String>,
}

#[derive(Debug, Serialize)]
struct LastAudit {
    at: String,
    token: String,
    generation: String,
    projects: Vec<ProjectAudit>,
    findings: Vec<Finding>,
    notes: Vec<String>,
}

impl Audit {
    /// Returns `None` if Sentry's API is not used.
    pub(super) fn of(sentry: &SentrySide) -> Option<Self> {
        let AuditStatus { last, failure } = sentry.audit.as_ref()?;
        Some(Self {
            last: last.as_ref().map(|report| LastAudit {
                at: time(report.at),
                token: report.token.clone(),
                generation: report.generation.clone(),
                projects: report.audit.projects.clone(),
                findings: report.audit.findings.clone(),
                notes: report.audit.notes.clone(),
            }),
            failed_at: failure.as_ref().map(|(at, _)| time(*at)),
            failure: failure.as_ref().map(|(_, error)| error.to_string()),
        })
    }
}

/// What was done about missing alerts, which Sentry fired and which never came.
#[derive(Debug, Serialize)]
pub(super) struct CatchUp {
    mode: &'static str,
    /// `None` until catch-up has asked Sentry for the first time in this process.
    is_exact: Option<bool>,
    last_run_at: Option<String>,
    complete_until: Option<String>,
    found: u64,
    enqueued: u64,
    reported: u64,
    summarized: u64,
    failed_at: Option<String>,
    failure: Option<String>,
    /// The missing alerts that paged nobody, newest first.
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
struct Missing {
    title: String,
    link: Option<String>,
    fired_at: String,
}

impl CatchUp {
    pub(super) fn of(status: &CatchUpStatus) -> Self {
        let run = status.last.unwrap_or_default();
        let missing =
            |one: &Reported| Missing { title: one.title.clone(), link: one.link.clone(), fired_at: time(one.at) };
        Self {
            mode: status.mode.name(),
            is_exact: status.is_exact,
            last_run_at: status.last.map(|run| time(run.ran_at)),
            complete_until: status.last.map(|run| time(run.until)),
            found: run.found,
            enqueued: run.enqueued,
            reported: run.reported,
            summarized: run.summarized,
            failed_at: status.failure.as_ref().map(|(at, _)| time(*at)),
            failure: status.failure.as_ref().map(|(_, why)| why.clone()),
            missing: status.reported.iter().map(missing).collect(),
        }
    }
}
