//! The JSON of Sentry's side: the canary and the audit.

use serde::Serialize;

use crate::canary::{CanaryStatus, Progress};
use crate::monitor::SentrySide;
use crate::queue::json::time;
use crate::sentry_api::audit::{AuditStatus, Finding, ProjectAudit};

/// The canary.
#[derive(Debug, Serialize)]
pub(super) struct Canary {
    state: &'static str,
    last_sent_at: Option<String>,
    last_returned_at: Option<String>,
    /// Of the last one that came back.
    round_trip_seconds: Option<f64>,
    /// Why Sentry takes none, in the state `not_taken`.
    reason: Option<String>,
}

impl Canary {
    /// `None` where none is sent, or the queue cannot be read.
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
    /// `None` where none is done yet.
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
    /// `None` where Sentry's API is not asked.
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
