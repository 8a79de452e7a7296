//! The data that the pages show in tests.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::delivery::view::{DeliveryView, KeyView};
use crate::metrics::{Bucket, MetricsSnapshot};
use crate::monitor::{Cause, Health, Snapshot, Trouble};
use crate::pagerduty::{ApiVersion, EventType, IncidentKey, SentryOrigin, ServiceKey};
use crate::queue::{
    Backlog, DeadLetters, Durability, EventId, EventRecord, EventSummary, Overview, RejectedId, RejectedSummary,
    ServiceKeyCounts, State, Survives,
};
use crate::sentry_api::audit::{AuditFinding, AuditReport, FindingKind, ProjectAudit, SentryAudit};
use crate::web::ui::layout::{PageFrame, footer};
use crate::web::ui::lists::{EventEntry, Listing};
use crate::web::ui::notice::ActionNotice;
use crate::web::ui::overview::{StatusLists, StatusPage};

/// The current time in all samples.
pub(in crate::web) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_353_671, 0).unwrap()
}

pub(in crate::web) fn ago(seconds: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(seconds)
}

fn key(end: &str) -> ServiceKey {
    ServiceKey::parse(&format!("0123456789abcdef0123456789ab{end}")).unwrap()
}

pub(super) fn frame() -> PageFrame {
    PageFrame { at: now(), footer: Some(footer(now(), "0.1.0", Some("7f3c2a91"), ago(93_600))) }
}

/// A bridge that has just started.
pub(in crate::web) fn snapshot() -> Snapshot {
    Snapshot {
        durability: Some(Durability {
            survives: Survives::Crash,
            settings: vec![("journal_mode", "WAL".to_owned()), ("synchronous", "FULL".to_owned())],
        }),
        ..Snapshot::empty(now(), ago(4))
    }
}

/// An audit of one project with more findings than the page shows.
pub(in crate::web) fn audit() -> AuditReport {
    let finding = AuditFinding {
        kind: FindingKind::ProjectWithoutPage,
        project: Some("shop".to_owned()),
        alert: None,
        problem: "no rule of it calls the bridge".to_owned(),
        remedy: FindingKind::ProjectWithoutPage.remedy(),
    };
    AuditReport {
        at: ago(3_600),
        token: "member@example.com".to_owned(),
        generation: "workflows".to_owned(),
        audit: SentryAudit {
            projects: vec![ProjectAudit { project: "shop".to_owned(), pages: false, alerts: Vec::new() }],
            findings: vec![finding; 21],
            notes: Vec::new(),
        },
    }
}

fn key_view(end: &str) -> KeyView {
    KeyView {
        service_key: key(end),
        allowed: 120,
        rate: 120,
        in_flight: 0,
        backs_off_until: None,
        last_failure: None,
        is_permanent: false,
        is_throttled: false,
        last_delivered_at: Some(ago(12)),
    }
}

fn destination(end: &str, waiting: u64, dead: u64) -> ServiceKeyCounts {
    let oldest_waiting = (waiting > 0).then(|| ago(192));
    ServiceKeyCounts { service_key: key(end), waiting, dead, delivered: 40, oldest_waiting }
}

fn day() -> Vec<Bucket> {
    let bucket = |place: u64| Bucket {
        from: ago(86_400) + TimeDelta::minutes(10 * i64::try_from(place).unwrap()),
        received: place % 7,
        delivered: place % 7,
        throttled: u64::from(place == 80),
        failed: 0,
    };
    (0..144).map(bucket).collect()
}

pub(super) fn delivered() -> EventSummary {
    EventSummary {
        id: EventId::new(9),
        state: State::Delivered,
        service_key: key("WXYZ"),
        incident_key: IncidentKey::parse("42").unwrap(),
        event_type: EventType::Trigger,
        description: "TypeError: Cannot read property 'total' of undefined".to_owned(),
        count: 3,
        attempts: 1,
        received_at: ago(13),
        first_seen: ago(14),
        next_attempt_at: None,
        finished_at: Some(ago(13) + TimeDelta::milliseconds(84)),
        reason: None,
    }
}

pub(in crate::web) fn dead() -> EventSummary {
    EventSummary {
        id: EventId::new(7),
        state: State::Dead,
        attempts: 2,
        received_at: ago(7_500),
        finished_at: Some(ago(7_490)),
        reason: Some("answered 400: Service key is the wrong length".to_owned()),
        count: 1,
        ..delivered()
    }
}

fn waiting() -> EventSummary {
    EventSummary {
        id: EventId::new(8),
        state: State::Waiting,
        event_type: EventType::Resolve,
        description: String::new(),
        received_at: ago(192),
        finished_at: None,
        count: 1,
        ..delivered()
    }
}

/// Shows an event as if its alert came from the shop.
pub(super) fn from_shop(event: EventSummary) -> EventEntry {
    let origin = SentryOrigin {
        project: Some("Checkout".to_owned()),
        environment: Some("production".to_owned()),
        level: Some("error".to_owned()),
        link: Some("https://sentry.example.com/issues/42/".to_owned()),
        event_id: None,
    };
    EventEntry { event, origin, service: None, proof: None }
}

/// An event whose texts try to inject markup.
pub(super) fn hostile() -> EventSummary {
    EventSummary {
        incident_key: IncidentKey::parse("\"><script>alert(2)</script>").unwrap(),
        description: "<img src=x onerror=alert(1)> \u{202e}gnp.exe\u{7} ' onmouseover='alert(3)".to_owned(),
        reason: Some("<img src=y onerror=alert(4)>".to_owned()),
        ..dead()
    }
}

pub(super) fn rejected() -> RejectedSummary {
    RejectedSummary {
        id: RejectedId::new(4),
        received_at: ago(300),
        reason: "not JSON: expected value at line 1 column 1".to_owned(),
        size: 13_200,
    }
}

pub(super) fn record(entry: &EventSummary) -> EventRecord {
    let body = serde_json::json!({
        "service_key": entry.service_key.expose(),
        "incident_key": entry.incident_key.as_str(),
        "event_type": entry.event_type.as_str(),
        "description": entry.description,
        "details": {"url": "https://sentry.example.test/42/"},
    });
    EventRecord {
        api: ApiVersion::V1,
        summary: EventSummary {
            count: 2,
            first_seen: entry.received_at - TimeDelta::seconds(30),
            next_attempt_at: None,
            ..entry.clone()
        },
        body: body.to_string().into_bytes(),
        last_attempt_at: entry.finished_at,
        blamed: Duration::ZERO,
        resolved_at: None,
    }
}

pub(in crate::web) fn well() -> StatusPage {
    let queue = Overview { delivered: 40, service_keys: vec![destination("WXYZ", 0, 0)], ..Overview::default() };
    let snapshot = Snapshot {
        queue: Ok(queue),
        delivery: DeliveryView { keys: vec![key_view("WXYZ")], ..DeliveryView::default() },
        metrics: MetricsSnapshot {
            last_webhook_at: Some(ago(13)),
            last_delivered_at: Some(ago(12)),
            activity: day(),
            ..MetricsSnapshot::default()
        },
        ..snapshot()
    };
    let recent = Listing { entries: vec![from_shop(delivered())], older: Some(9) };
    let lists = StatusLists { recent, ..StatusLists::default() };
    StatusPage { snapshot, health: Health::Healthy, troubles: Vec::new(), lists: Some(lists), notice: None }
}

pub(in crate::web) fn degraded() -> StatusPage {
    let mut status = well();
    status.snapshot.queue = Ok(Overview {
        waiting: 1_204,
        dead: 1,
        delivered: 40,
        rejected: 51,
        held: 3,
        held_with_token_since: None,
        oldest_waiting: Some(ago(192)),
        service_keys: vec![destination("WXYZ", 0, 0), destination("A1B2", 1_204, 1)],
    });
    let throttled = KeyView {
        allowed: 60,
        backs_off_until: Some(now() + TimeDelta::milliseconds(23_400)),
        last_failure: Some("answered 403: too many requests".to_owned()),
        ..key_view("A1B2")
    };
    status.snapshot.delivery.keys.push(throttled);
    let letters = DeadLetters {
        service_key: key("A1B2"),
        number: 1,
        newest: EventId::new(7),
        died_at: ago(7_490),
        reason: dead().reason,
    };
    status.snapshot.backlog = Ok(Backlog { first: Vec::new(), dead: vec![letters] });
    status.health = Health::Degraded;
    status.troubles = vec![Trouble {
        cause: Cause::DeadLetters,
        health: Health::Degraded,
        sentence: "1 dead letter: look at its reason, then retry or discard it".to_owned(),
    }];
    status.lists = Some(StatusLists {
        dead: Listing { entries: vec![from_shop(dead())], older: None },
        rejected: Listing { entries: vec![rejected()], older: Some(4) },
        recent: Listing { entries: [delivered(), waiting(), dead()].map(from_shop).to_vec(), older: None },
    });
    let notice = ActionNotice::of_query("notice=retried&done=2&left=1&events=7-8&why=resolved").unwrap();
    status.notice = Some(notice.line(&[waiting(), dead()], None));
    status
}
