//! The JSON of the responses, to the byte: the names and their order are a contract.

use std::sync::Arc;

use insta::assert_snapshot;
use serde::Serialize;

use super::*;
use crate::canary::{CanaryProgress, CanaryStatus, RoundTrip};
use crate::catch_up::{CatchUpStatus, ReportedAlert};
use crate::cluster::ClusterView;
use crate::config::CatchUpMode;
use crate::monitor::snapshot::{FallbackView, ProofView};
use crate::pagerduty::{IncidentKey, KeyNames, ProofState};
use crate::proof::ProofStatus;
use crate::queue::external::CatchUpRun;
use crate::queue::leases::BridgeId;
use crate::queue::{EventId, Proof, QueueError, RejectedId};
use crate::sentry_api::SentryApiError;
use crate::sentry_api::audit::AuditStatus;
use crate::web::ui::tests::samples::{ago, audit, dead, degraded, now, snapshot, well};

/// The text of a response with one member per line, so that a diff shows what changed, and without the version.
fn lines(response: &impl Serialize) -> String {
    let version = format!("\"version\":\"{}\",\"at\"", env!("CARGO_PKG_VERSION"));
    super::super::written(response).replace(&version, "\"version\":\"VERSION\",\"at\"").replace(",\"", ",\n\"")
}

fn status_of(snapshot: &Snapshot, troubles: &[Trouble]) -> String {
    lines(&status(snapshot, troubles))
}

/// A snapshot in which everything has a value.
fn full() -> (Snapshot, Vec<Trouble>) {
    let mut status = degraded();
    let snapshot = &mut status.snapshot;
    let key = dead().service_key;
    snapshot.waiting_alerts = Some(1_190);
    snapshot.delivery.untrusted = Some("the certificate has expired".to_owned());
    snapshot.delivery.unreadable.events = 2;
    snapshot.fallback = Some(FallbackView {
        last_told_at: Some(ago(60)),
        outage_since: Some(ago(120)),
        failure: Some("chat.example.com: answered 500".to_owned()),
    });
    snapshot.key_names = KeyNames::new([(key.clone(), "Payments".to_owned())]);
    let proof = Proof {
        event: EventId::new(7),
        service_key: key.clone(),
        state: ProofState::NotOpened,
        delivered_at: ago(30),
        judged_at: ago(20),
        incident_number: None,
        incident_url: None,
        reason: Some("a rule suppressed it".to_owned()),
    };
    let status_of_proof = ProofStatus { failure: Some("answered 403".to_owned()), is_refused: true };
    snapshot.proof = Some(ProofView { status: status_of_proof, failures: Ok(vec![proof]) });
    snapshot.cluster = ClusterView {
        bridges: vec![BridgeView {
            id: BridgeId::new(0x1234_5678_9abc_4def_8123_4567_89ab_cdef),
            name: "one.example.com".to_owned(),
            version: "0.1.0 (abcdef)".to_owned(),
            fingerprint: "7f3c2a91".to_owned(),
            last_seen: ago(1),
            is_alive: true,
            is_self: true,
            is_leader: false,
            reaches_pagerduty: true,
            keys: vec![key],
        }],
    };
    snapshot.canary = Some(Ok(CanaryStatus {
        last: Some(RoundTrip { sent_at: ago(1_000), returned_at: ago(995) }),
        last_sent_at: Some(ago(100)),
        progress: CanaryProgress::NotTaken { since: ago(900), reason: "answered 413".to_owned() },
    }));
    let error = SentryApiError::Forbidden { call: "GET /api/0/".to_owned(), scope: "org:read" };
    let mut report = audit();
    report.audit.findings.truncate(1);
    report.audit.notes.push("a note".to_owned());
    snapshot.audit = Some(AuditStatus { last: Some(Arc::new(report)), failure: Some((ago(5), error)) });
    snapshot.catch_up = Some(CatchUpStatus {
        last: Some(CatchUpRun { until: ago(90), ran_at: ago(80), found: 6, enqueued: 1, reported: 2, summarized: 3 }),
        is_exact: Some(true),
        failure: Some((ago(10), "Sentry answered 500".to_owned())),
        reported: vec![ReportedAlert {
            title: "TypeError".to_owned(),
            link: Some("https://sentry.example.com/issues/42/".to_owned()),
            at: ago(200),
        }],
        ..CatchUpStatus::new(CatchUpMode::Report)
    });
    (status.snapshot, status.troubles)
}

#[test]
fn the_status_in_which_everything_has_a_value() {
    let (snapshot, troubles) = full();
    assert_snapshot!(status_of(&snapshot, &troubles));
}

#[test]
fn the_status_of_a_bridge_that_has_just_started() {
    assert_snapshot!(status_of(&snapshot(), &[]));
}

#[test]
fn the_status_while_nothing_can_be_read() {
    let (mut snapshot, mut troubles) = full();
    let error = QueueError::Closed;
    snapshot.queue = Err(error.clone());
    snapshot.backlog = Err(error.clone());
    snapshot.waiting_alerts = None;
    snapshot.durability = None;
    snapshot.canary = Some(Err(error.clone()));
    snapshot.audit = Some(AuditStatus::default());
    snapshot.catch_up = Some(CatchUpStatus::new(CatchUpMode::Page));
    snapshot.proof = Some(ProofView { status: ProofStatus::default(), failures: Err(error) });
    troubles[0].cause = crate::monitor::Cause::Storage;
    troubles[0].health = Health::Failing;
    assert_snapshot!(status_of(&snapshot, &troubles));
}

#[test]
fn the_states_of_the_canary_are_named() {
    let (mut snapshot, _) = full();
    let state = |snapshot: &Snapshot| {
        let text = status_of(snapshot, &[]);
        text.lines().find(|line| line.starts_with("\"canary\"")).map(str::to_owned).unwrap_or_default()
    };
    let mut states = Vec::new();
    for progress in [CanaryProgress::Unknown, CanaryProgress::Returns, CanaryProgress::Lost { sent_at: now() }] {
        let canary = CanaryStatus { progress, ..CanaryStatus::default() };
        snapshot.canary = Some(Ok(canary));
        states.push(state(&snapshot));
    }
    assert_eq!(states, ["unknown", "returns", "lost"].map(|state| format!("\"canary\":{{\"state\":\"{state}\",")));
}

#[test]
fn the_activity_of_two_steps() {
    assert_snapshot!(lines(&activity(&well().snapshot.metrics.activity[80..82])));
}

#[test]
fn the_outcomes_of_what_is_done_with_items() {
    let (event, webhook) = (ItemId::Event(EventId::new(7)), ItemId::Rejected(RejectedId::new(4)));
    let incident_key = IncidentKey::parse("42").unwrap();
    let results = vec![
        ItemOutcome::retried(event, Retried::Requeued),
        ItemOutcome::retried(event, Retried::ResolvedSince),
        ItemOutcome::retried(event, Retried::TriggeredSince),
        ItemOutcome::retried(event, Retried::NotADeadLetter(State::Delivered)),
        ItemOutcome::retried(event, Retried::NotADeadLetter(State::Waiting)),
        ItemOutcome::retried(event, Retried::NotFound),
        ItemOutcome::retried(webhook, Retried::Changed),
        ItemOutcome::retried(
            webhook,
            Retried::Queued { incident_key: incident_key.clone(), events: vec![EventId::new(8), EventId::new(9)] },
        ),
        ItemOutcome::retried(webhook, Retried::Ignored(crate::ingest::IgnoreReason::Repeated)),
        ItemOutcome::retried(webhook, Retried::NothingOpen(incident_key)),
        ItemOutcome::retried(webhook, Retried::StillRejected(crate::ingest::Rejection::NoIssue)),
        ItemOutcome::discarded(event, Discarded::Gone),
        ItemOutcome::discarded(event, Discarded::Changed),
        ItemOutcome::discarded(webhook, Discarded::NotFound),
    ];
    assert_snapshot!(lines(&outcomes(&results, &Overview { dead: 3, rejected: 2, ..Overview::default() })));
}
