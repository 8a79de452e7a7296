//! Sentry's side on the status page: the canary, what catch-up did, and what the audit found.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::text::{ago, count, counted, harmless, span};
use crate::canary::{CanaryProgress, CanaryStatus};
use crate::catch_up::CatchUpStatus;
use crate::monitor::Snapshot;
use crate::sentry_api::audit::{AuditFinding, AuditReport, AuditStatus};

/// How many findings are shown; `audit` prints all of them.
const MAX_FINDINGS: usize = 20;

/// How long the last canary took, and when it came back.
pub(super) fn canary_vital(snapshot: &Snapshot) -> Markup {
    let Some(Ok(canary)) = &snapshot.canary else { return html! {} };
    let is_trouble = matches!(canary.progress, CanaryProgress::NotTaken { .. } | CanaryProgress::Lost { .. });
    html! {
        div .alert[is_trouble] {
            dt { "Sentry → bridge" }
            @match canary.last {
                Some(last) => dd { (span(last.returned_at - last.sent_at)) small { (ago(snapshot.at, last.returned_at)) } },
                None => dd { "never" },
            }
        }
    }
}

/// When catch-up last asked Sentry which alerts fired, and how many of them were missing.
pub(super) fn catch_up_vital(now: DateTime<Utc>, status: &CatchUpStatus) -> Markup {
    html! {
        div .alert[status.failure.is_some()] {
            dt { "Catch-up" }
            dd {
                @match status.last {
                    Some(run) => { (ago(now, run.ran_at)) small { (count(run.found)) " missing" } }
                    None => "never",
                }
            }
        }
    }
}

/// The missing alerts for which nobody was paged, and why catch-up fails, if it does.
pub(super) fn missing_alerts(now: DateTime<Utc>, status: &CatchUpStatus) -> Markup {
    html! {
        @if status.failure.is_some() || !status.reported.is_empty() {
            section #missing aria-labelledby="missing-title" {
                h2 #missing-title { "Missing alerts" }
                @if let Some((at, why)) = &status.failure {
                    p .reason dir="auto" { "Catch-up failed " (ago(now, *at)) ", so it is not known which alerts are missing: " (harmless(why)) }
                }
                @if !status.reported.is_empty() {
                    p { "Sentry fired these, no webhook of them came, and nobody was paged:" }
                    ul {
                        @for one in &status.reported {
                            li dir="auto" {
                                @match &one.link {
                                    Some(link) if is_web(link) => a href=(link) rel="noreferrer" { (harmless(&one.title)) },
                                    _ => (harmless(&one.title)),
                                }
                                " " (ago(now, one.at))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether an external URL may be rendered as a link.
fn is_web(link: &str) -> bool {
    link.starts_with("https://") || link.starts_with("http://")
}

/// The section of Sentry's side.
pub(super) fn section(snapshot: &Snapshot) -> Markup {
    let now = snapshot.at;
    let findings =
        snapshot.audit.as_ref().and_then(|audit| audit.last.as_ref()).map_or(0, |last| last.audit.findings.len());
    html! {
        section #sentry aria-labelledby="sentry-title" {
            div .head {
                h2 #sentry-title { "Alerts in Sentry " @if findings > 0 { span .badge { (count(findings as u64)) } } }
            }
            p .empty { (canary(snapshot)) }
            @match &snapshot.audit {
                None => p .empty {
                    "Audit: off. With " code { "BRIDGE_SENTRY_URL" } ", " code { "BRIDGE_SENTRY_ORG" } " and "
                    code { "BRIDGE_SENTRY_API_TOKEN" } " set, it looks once a day for projects and alerts that would page nobody."
                },
                Some(audit) => (audited(now, audit)),
            }
        }
    }
}

fn canary(snapshot: &Snapshot) -> Markup {
    let now = snapshot.at;
    let Some(canary) = &snapshot.canary else {
        return html! {
            "Canary: off. With " code { "BRIDGE_CANARY_DSN" } " set, an event is sent through Sentry from time to time, and its webhook has to come back."
        };
    };
    match canary {
        Err(_) => html! { "Canary: unknown, because the queue cannot be read." },
        Ok(canary) => html! {
            "Canary: " (progress(&canary.progress))
            @if let Some(at) = canary.last_sent_at { ". The last one was sent " (ago(now, at)) }
            (came_back(now, canary))
        },
    }
}

fn progress(progress: &CanaryProgress) -> &'static str {
    match progress {
        CanaryProgress::Unknown => "on its way, or not sent yet",
        CanaryProgress::Returns => "comes back",
        CanaryProgress::NotTaken { .. } => "Sentry does not take it",
        CanaryProgress::Lost { .. } => "does not come back",
    }
}

fn came_back(now: DateTime<Utc>, canary: &CanaryStatus) -> Markup {
    html! {
        @match canary.last {
            Some(last) => { "; the last one came back " (ago(now, last.returned_at)) ", after " (span(last.returned_at - last.sent_at)) "." },
            None => { "; none has come back so far." },
        }
    }
}

fn audited(now: DateTime<Utc>, audit: &AuditStatus) -> Markup {
    html! {
        @if let Some((at, error)) = &audit.failure {
            p .reason dir="auto" { "The audit failed " (ago(now, *at)) ": " (harmless(&error.to_string())) }
        }
        @match &audit.last {
            Some(report) => (report_of(now, report)),
            None => @if audit.failure.is_none() { p .empty { "Audit: this bridge has not run one yet. Of several bridges that share a queue only the leader does, soon after its start." } },
        }
    }
}

fn report_of(now: DateTime<Utc>, report: &AuditReport) -> Markup {
    let projects = &report.audit.projects;
    let paging = projects.iter().filter(|project| project.pages).count();
    let findings = &report.audit.findings;
    html! {
        p .empty {
            "Audit: " (count(paging as u64)) " of " (counted(projects.len() as u64, "project pages", "projects page")) ", "
            (counted(findings.len() as u64, "finding", "findings")) ". Done " (ago(now, report.at)) " with the token of "
            span dir="auto" { (harmless(&report.token)) } "."
        }
        @for finding in findings.iter().take(MAX_FINDINGS) { (finding_of(finding)) }
        @if findings.len() > MAX_FINDINGS {
            p .more { (counted((findings.len() - MAX_FINDINGS) as u64, "more finding", "more findings")) ": run " code { "audit" } "." }
        }
        @for note in &report.audit.notes { p .empty dir="auto" { "Note: " (harmless(note)) } }
    }
}

fn finding_of(finding: &AuditFinding) -> Markup {
    let place: Vec<&str> = [&finding.project, &finding.alert].into_iter().flatten().map(String::as_str).collect();
    html! {
        article .entry {
            div .what {
                h3 .title dir="auto" {
                    @if !place.is_empty() { (harmless(&place.join(", "))) ": " }
                    (harmless(&finding.problem))
                }
                p .meta { span { "remedy: " (finding.remedy) } }
            }
        }
    }
}
