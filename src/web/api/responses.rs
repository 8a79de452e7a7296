//! The JSON of the responses. The names of the members and their order are a contract; `docs/openapi.json` describes them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::canary::{CanaryProgress, CanaryStatus};
use crate::catch_up::CatchUpStatus;
use crate::cluster::BridgeView;
use crate::metrics::Bucket;
use crate::monitor::{Headline, Health, ServiceKeyStatus, Snapshot, Trouble};
use crate::pagerduty::ServiceKey;
use crate::queue::admin::{Discarded, Retried};
use crate::queue::json::time;
use crate::queue::{Durability, ItemId, Overview, State};
use crate::sentry_api::audit::AuditStatus;

/// The health of the bridge, and everything that explains it. A part that is off, or cannot be read, is null.
pub(super) fn status(snapshot: &Snapshot, troubles: &[Trouble]) -> Value {
    let Snapshot { metrics, delivery, .. } = snapshot;
    let trouble = |trouble: &Trouble| json!({"cause": trouble.cause.name(), "status": trouble.health.name(), "sentence": trouble.sentence});
    json!({
        "status": Health::of(troubles).name(),
        "headline": Headline::of(snapshot, troubles).map(|headline| self::headline(&headline, snapshot)),
        "troubles": troubles.iter().map(trouble).collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
        "at": time(snapshot.at),
        "started_at": time(snapshot.started_at),
        "last_webhook_at": metrics.last_webhook_at.map(time),
        "last_delivered_at": metrics.last_delivered_at.map(time),
        "queue": queue(snapshot),
        "durability": snapshot.durability.as_ref().map(durability),
        "untrusted": delivery.untrusted,
        "fallback": snapshot.fallback.as_ref().map(|fallback| json!({
            "last_told_at": fallback.last_told_at.map(time),
            "outage_since": fallback.outage_since.map(time),
            "trouble": fallback.failure,
        })),
        "destinations": destinations(snapshot),
        "bridges": snapshot.cluster.bridges.iter().map(bridge).collect::<Vec<_>>(),
        "canary": snapshot.canary.as_ref().and_then(|status| status.as_ref().ok()).map(canary),
        "audit": snapshot.audit.as_ref().map(audit),
        "catch_up": snapshot.catch_up.as_ref().map(catch_up),
        "proof": snapshot.proof.as_ref().map(|proof| json!({
            "trouble": proof.status.failure,
            "failures": proof.failures.as_ref().ok().map(Vec::len),
        })),
    })
}

/// The worst trouble, when it began, and what has not been delivered.
fn headline(headline: &Headline, snapshot: &Snapshot) -> Value {
    let overview = snapshot.queue.as_ref().ok();
    json!({
        "sentence": headline.text(snapshot.at),
        "since": headline.when.map(|when| time(when.time())),
        "waiting_alerts": snapshot.waiting_alerts,
        "oldest_waiting": overview.and_then(|overview| overview.oldest_waiting).map(time),
        "dead": overview.map_or(0, |overview| overview.dead),
    })
}

fn queue(snapshot: &Snapshot) -> Option<Value> {
    let overview = snapshot.queue.as_ref().ok()?;
    Some(json!({
        "waiting": overview.waiting,
        "dead": overview.dead,
        "delivered": overview.delivered,
        "rejected": overview.rejected,
        "held": overview.held,
        "unreadable": snapshot.delivery.unreadable.events,
        "oldest_waiting": overview.oldest_waiting.map(time),
    }))
}

/// What an alert that was answered 202 survives, and the settings from which that follows, by their names in the database.
fn durability(durability: &Durability) -> Value {
    let settings: BTreeMap<_, _> = durability.settings.iter().map(|(name, value)| (*name, value)).collect();
    json!({"survives": durability.survives, "sentence": durability.survives.to_string(), "settings": settings})
}

/// What the queue holds for each service key and how fast it is sent, in the order of the keys.
fn destinations(snapshot: &Snapshot) -> Vec<Value> {
    let destination = |(key, status): (&ServiceKey, ServiceKeyStatus<'_>)| {
        let counts = status.counts;
        json!({
            "service_key": key.to_string(),
            "name": snapshot.key_names.get(key),
            "waiting": status.waiting(),
            "dead": status.dead(),
            "delivered": counts.map_or(0, |counts| counts.delivered),
            "oldest_waiting": counts.and_then(|counts| counts.oldest_waiting).map(time),
            // Null where nothing was sent in this run.
            "pace": status.deliveries.map(|view| json!({
                "allowed": view.allowed,
                "rate": view.rate,
                "under_way": view.in_flight,
                "backs_off_until": view.backs_off_until.map(time),
                "trouble": view.last_failure,
                "last_delivered_at": view.last_delivered_at.map(time),
            })),
        })
    };
    snapshot.service_keys().into_iter().map(destination).collect()
}

fn bridge(bridge: &BridgeView) -> Value {
    json!({
        "id": bridge.id.to_string(),
        "name": bridge.name,
        "version": bridge.version,
        "config": bridge.fingerprint,
        "last_seen": time(bridge.last_seen),
        "is_alive": bridge.is_alive,
        "is_self": bridge.is_self,
        "is_leader": bridge.is_leader,
        "reaches_pagerduty": bridge.reaches_pagerduty,
        "service_keys": bridge.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn canary(CanaryStatus { last, last_sent_at, progress }: &CanaryStatus) -> Value {
    let (state, reason) = match progress {
        CanaryProgress::Unknown => ("unknown", None),
        CanaryProgress::Returns => ("returns", None),
        CanaryProgress::NotTaken { reason, .. } => ("not_taken", Some(reason)),
        CanaryProgress::Lost { .. } => ("lost", None),
    };
    json!({
        "state": state,
        "last_sent_at": last_sent_at.map(time),
        "last_returned_at": last.map(|last| time(last.returned_at)),
        "round_trip_seconds": last.map(|last| last.took().as_secs_f64()),
        "reason": reason,
    })
}

/// The audits of this run; `last` is null until the first one is done.
fn audit(AuditStatus { last, failure }: &AuditStatus) -> Value {
    json!({
        "last": last.as_ref().map(|report| json!({
            "at": time(report.at),
            "token": report.token,
            "generation": report.generation,
            "projects": report.audit.projects,
            "findings": report.audit.findings,
            "notes": report.audit.notes,
        })),
        "failed_at": failure.as_ref().map(|(at, _)| time(*at)),
        "failure": failure.as_ref().map(|(_, error)| error.to_string()),
    })
}

/// What was done about missing alerts; `missing` are those that paged nobody, newest first.
fn catch_up(status: &CatchUpStatus) -> Value {
    let run = status.last.unwrap_or_default();
    let missing =
        status.reported.iter().map(|one| json!({"title": one.title, "link": one.link, "fired_at": time(one.at)}));
    json!({
        "mode": status.mode.name(),
        "is_exact": status.is_exact,
        "last_run_at": status.last.map(|run| time(run.ran_at)),
        "complete_until": status.last.map(|run| time(run.until)),
        "found": run.found,
        "enqueued": run.enqueued,
        "reported": run.reported,
        "summarized": run.summarized,
        "failed_at": status.failure.as_ref().map(|(at, _)| time(*at)),
        "failure": status.failure.as_ref().map(|(_, reason)| reason),
        "missing": missing.collect::<Vec<_>>(),
    })
}

/// The last 24 hours.
pub(super) fn activity(buckets: &[Bucket]) -> Value {
    let bucket = |bucket: &Bucket| {
        json!({
            "from": time(bucket.from),
            "received": bucket.received,
            "delivered": bucket.delivered,
            "throttled": bucket.throttled,
            "failed": bucket.failed,
        })
    };
    json!({"buckets": buckets.iter().map(bucket).collect::<Vec<_>>()})
}

/// The outcomes of a bulk request, and what is left in the queue, because one request handles only a limited number.
pub(super) fn outcomes(results: &[ItemOutcome], left: &Overview) -> Value {
    json!({"results": results, "left": {"dead": left.dead, "rejected": left.rejected}})
}

/// The outcome for one item.
#[derive(Debug, Serialize)]
pub(super) struct ItemOutcome {
    pub(super) id: String,
    #[serde(rename = "outcome")]
    pub(super) kind: ItemOutcomeKind,
    /// The reason, if the outcome alone does not explain it.
    pub(super) reason: Option<String>,
    /// The incident that a webhook belongs to.
    incident_key: Option<String>,
    /// The events that a webhook became.
    events: Vec<String>,
}

/// What was done, or why not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ItemOutcomeKind {
    #[serde(rename = "waits_again")]
    Requeued,
    Queued,
    Ignored,
    Discarded,
    #[serde(rename = "not_there")]
    NotFound,
    #[serde(rename = "no_dead_letter")]
    NotADeadLetter,
    ResolvedSince,
    #[serde(rename = "triggered_anew")]
    TriggeredSince,
    StillRejected,
    Changed,
}

impl ItemOutcomeKind {
    /// Whether nothing was done although the item exists.
    pub(super) fn is_conflict(self) -> bool {
        match self {
            Self::NotADeadLetter | Self::ResolvedSince | Self::TriggeredSince | Self::StillRejected | Self::Changed => {
                true
            }
            Self::Requeued | Self::Queued | Self::Ignored | Self::Discarded | Self::NotFound => false,
        }
    }
}

impl ItemOutcome {
    fn new(id: ItemId, kind: ItemOutcomeKind) -> Self {
        Self { id: id.to_string(), kind, reason: None, incident_key: None, events: Vec::new() }
    }

    fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    pub(super) fn retried(id: ItemId, retried: Retried) -> Self {
        match retried {
            Retried::Requeued => Self::new(id, ItemOutcomeKind::Requeued),
            Retried::ResolvedSince => Self::new(id, ItemOutcomeKind::ResolvedSince).because(format!(
                "the incident of {id} was resolved since, and {id} would open it again: use `force` to send it anyway"
            )),
            Retried::NotADeadLetter(state) => Self::new(id, ItemOutcomeKind::NotADeadLetter).because(match state {
                State::Delivered => format!("{id} is already delivered; only dead letters can be retried"),
                _ => format!("{id} is {state}; only dead letters can be retried"),
            }),
            Retried::TriggeredSince => Self::new(id, ItemOutcomeKind::TriggeredSince)
                .because(format!("{id} would resolve its incident, which was triggered again since: discard {id}")),
            Retried::NotFound | Retried::Changed => Self::not_found(id),
            Retried::Queued { incident_key, events } => Self {
                incident_key: Some(incident_key.as_str().to_owned()),
                events: events.iter().map(ToString::to_string).collect(),
                ..Self::new(id, ItemOutcomeKind::Queued)
            },
            Retried::Ignored(reason) => Self::new(id, ItemOutcomeKind::Ignored).because(reason.to_string()),
            Retried::NothingOpen(incident_key) => {
                let reason = format!("there is no open incident {}", incident_key.as_str());
                Self { incident_key: Some(incident_key.as_str().to_owned()), ..Self::new(id, ItemOutcomeKind::Ignored) }
                    .because(reason)
            }
            Retried::StillRejected(rejection) => {
                Self::new(id, ItemOutcomeKind::StillRejected).because(rejection.to_string())
            }
        }
    }

    pub(super) fn discarded(id: ItemId, discarded: Discarded) -> Self {
        match discarded {
            Discarded::Gone => Self::new(id, ItemOutcomeKind::Discarded),
            Discarded::Changed => Self::new(id, ItemOutcomeKind::Changed)
                .because(format!("{id} has changed meanwhile and is left as it is")),
            Discarded::NotFound => Self::not_found(id),
        }
    }

    fn not_found(id: ItemId) -> Self {
        Self::new(id, ItemOutcomeKind::NotFound).because(format!("the queue has no entry with the number {id}"))
    }
}

#[cfg(test)]
mod tests;
