//! The JSON of the responses. The field names are a contract; `docs/openapi.json` describes them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::sentry::{Audit, Canary, CatchUp};
use crate::cluster::BridgeView;
use crate::delivery::KeyView;
use crate::metrics::Bucket;
use crate::monitor::snapshot::FallbackView;
use crate::monitor::{Headline, Health, Snapshot, Trouble};
use crate::pagerduty::{KeyNames, ServiceKey};
use crate::queue::admin::{Discarded, Retried};
use crate::queue::json::{ItemSummary, time};
use crate::queue::{Destination, Durability, ItemId, Overview, State, Survives};

/// The health of the bridge.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    #[serde(rename = "status")]
    health: &'static str,
    /// The worst trouble in one line; `None` when there is none.
    headline: Option<HeadlineView>,
    troubles: Vec<TroubleView>,
    version: &'static str,
    at: String,
    started_at: String,
    last_webhook_at: Option<String>,
    last_delivered_at: Option<String>,
    /// `None` when it cannot be read; a trouble says why.
    queue: Option<QueueCounts>,
    /// What an alert that was answered 202 survives; `None` when the database cannot be read.
    durability: Option<DurabilityView>,
    /// The TLS error for which PagerDuty is not trusted; `None` if it is trusted.
    untrusted: Option<String>,
    /// `None` when no fallback webhook is set.
    fallback: Option<Fallback>,
    destinations: Vec<DestinationView>,
    bridges: Vec<Bridge>,
    canary: Option<Canary>,
    audit: Option<Audit>,
    /// `None` where it is off.
    catch_up: Option<CatchUp>,
    /// `None` if PagerDuty's REST API is not used.
    proof: Option<ProofCheck>,
}

/// The result of proof: whether PagerDuty does what it accepts.
#[derive(Debug, Serialize)]
struct ProofCheck {
    /// Why the look-ups in PagerDuty's REST API fail, if they do.
    trouble: Option<String>,
    /// How many events PagerDuty accepted but did not act on, as far as they are reported; `None` when they cannot be
    /// read.
    failures: Option<usize>,
}

#[derive(Debug, Serialize)]
struct DurabilityView {
    survives: Survives,
    sentence: String,
    /// The settings of the database, by their names in the database.
    settings: BTreeMap<&'static str, String>,
}

impl DurabilityView {
    fn of(durability: &Durability) -> Self {
        let Durability { survives, settings } = durability;
        Self { survives: *survives, sentence: survives.to_string(), settings: settings.iter().cloned().collect() }
    }
}

#[derive(Debug, Serialize)]
struct Fallback {
    last_told_at: Option<String>,
    outage_since: Option<String>,
    /// Why the last attempt failed, if it did.
    trouble: Option<String>,
}

/// The worst trouble, when it began, and what has not been delivered.
#[derive(Debug, Serialize)]
struct HeadlineView {
    sentence: String,
    since: Option<String>,
    waiting_alerts: Option<u64>,
    oldest_waiting: Option<String>,
    dead: u64,
}

impl HeadlineView {
    fn of(headline: &Headline, snapshot: &Snapshot) -> Self {
        let overview = snapshot.queue.as_ref().ok();
        Self {
            sentence: headline.text(snapshot.at),
            since: headline.when.map(|when| time(when.parts().1)),
            waiting_alerts: snapshot.waiting_alerts,
            oldest_waiting: overview.and_then(|overview| overview.oldest_waiting).map(time),
            dead: overview.map_or(0, |overview| overview.dead),
        }
    }
}

#[derive(Debug, Serialize)]
struct TroubleView {
    cause: &'static str,
    status: &'static str,
    sentence: String,
}

#[derive(Debug, Serialize)]
struct QueueCounts {
    waiting: u64,
    dead: u64,
    delivered: u64,
    rejected: u64,
    /// Held webhooks, which wait for the secret that made their signature.
    held: u64,
    /// Waiting events that cannot be read.
    unreadable: u64,
    oldest_waiting: Option<String>,
}

#[derive(Debug, Serialize)]
struct DestinationView {
    service_key: String,
    /// `None` if the service key has no name.
    name: Option<String>,
    waiting: u64,
    dead: u64,
    delivered: u64,
    oldest_waiting: Option<String>,
    /// `None` where nothing was sent in this run.
    pace: Option<Pace>,
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the names are a contract")]
struct Bridge {
    id: String,
    name: String,
    version: String,
    config: String,
    last_seen: String,
    is_alive: bool,
    is_self: bool,
    is_leader: bool,
    reaches_pagerduty: bool,
    service_keys: Vec<String>,
}

impl Bridge {
    fn of(bridge: &BridgeView) -> Self {
        Self {
            id: bridge.id.to_string(),
            name: bridge.name.clone(),
            version: bridge.version.clone(),
            config: bridge.fingerprint.clone(),
            last_seen: time(bridge.last_seen),
            is_alive: bridge.is_alive,
            is_self: bridge.is_self,
            is_leader: bridge.is_leader,
            reaches_pagerduty: bridge.reaches_pagerduty,
            service_keys: bridge.keys.iter().map(ToString::to_string).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Pace {
    allowed: u32,
    rate: u32,
    under_way: u32,
    backs_off_until: Option<String>,
    trouble: Option<String>,
    last_delivered_at: Option<String>,
}

impl Status {
    pub(super) fn of(snapshot: &Snapshot, troubles: &[Trouble], health: Health) -> Self {
        let view = |trouble: &Trouble| TroubleView {
            cause: trouble.cause.name(),
            status: trouble.health.name(),
            sentence: trouble.sentence.clone(),
        };
        let overview = snapshot.queue.as_ref().ok();
        Self {
            health: health.name(),
            headline: Headline::of(snapshot, troubles).map(|headline| HeadlineView::of(&headline, snapshot)),
            troubles: troubles.iter().map(view).collect(),
            version: env!("CARGO_PKG_VERSION"),
            at: time(snapshot.at),
            started_at: time(snapshot.started_at),
            last_webhook_at: snapshot.metrics.last_webhook_at.map(time),
            last_delivered_at: snapshot.metrics.last_delivered_at.map(time),
            queue: overview.map(|overview| QueueCounts::of(overview, snapshot.delivery.unreadable.events)),
            durability: snapshot.durability.as_ref().map(DurabilityView::of),
            untrusted: snapshot.delivery.untrusted.clone(),
            fallback: snapshot.fallback.as_ref().map(Fallback::of),
            destinations: destinations(overview, &snapshot.delivery.keys, &snapshot.pagerduty.names),
            bridges: snapshot.cluster.bridges.iter().map(Bridge::of).collect(),
            canary: Canary::of(&snapshot.sentry),
            audit: Audit::of(&snapshot.sentry),
            catch_up: snapshot.sentry.catch_up.as_ref().map(CatchUp::of),
            proof: snapshot.pagerduty.proof.as_ref().map(|proof| ProofCheck {
                trouble: proof.status.failure.clone(),
                failures: proof.failures.as_ref().ok().map(Vec::len),
            }),
        }
    }
}

impl Fallback {
    fn of(view: &FallbackView) -> Self {
        Self {
            last_told_at: view.last_told_at.map(time),
            outage_since: view.outage_since.map(time),
            trouble: view.failure.clone(),
        }
    }
}

impl QueueCounts {
    fn of(overview: &Overview, unreadable: u64) -> Self {
        let Overview { waiting, dead, delivered, rejected, held, oldest_waiting, .. } = *overview;
        Self { waiting, dead, delivered, rejected, held, unreadable, oldest_waiting: oldest_waiting.map(time) }
    }
}

/// What the queue holds for each service key and how fast it is sent, in the order of the keys.
fn destinations(overview: Option<&Overview>, views: &[KeyView], names: &KeyNames) -> Vec<DestinationView> {
    let mut all: BTreeMap<&ServiceKey, (Option<&Destination>, Option<&KeyView>)> = BTreeMap::new();
    for destination in overview.map_or(&[][..], |overview| &overview.destinations) {
        all.entry(&destination.service_key).or_default().0 = Some(destination);
    }
    for view in views {
        all.entry(&view.service_key).or_default().1 = Some(view);
    }
    let view = |(key, (counts, view)): (&ServiceKey, (Option<&Destination>, Option<&KeyView>))| DestinationView {
        service_key: key.to_string(),
        name: names.get(key),
        waiting: counts.map_or(0, |counts| counts.waiting),
        dead: counts.map_or(0, |counts| counts.dead),
        delivered: counts.map_or(0, |counts| counts.delivered),
        oldest_waiting: counts.and_then(|counts| counts.oldest_waiting).map(time),
        pace: view.map(|view| Pace {
            allowed: view.allowed,
            rate: view.rate,
            under_way: view.in_flight,
            backs_off_until: view.backs_off_until.map(time),
            trouble: view.last_failure.clone(),
            last_delivered_at: view.last_delivered_at.map(time),
        }),
    };
    all.into_iter().map(view).collect()
}

/// The last 24 hours.
#[derive(Debug, Serialize)]
pub(super) struct Activity {
    buckets: Vec<ActivityBucket>,
}

#[derive(Debug, Serialize)]
struct ActivityBucket {
    from: String,
    received: u64,
    delivered: u64,
    throttled: u64,
    failed: u64,
}

impl Activity {
    pub(super) fn of(buckets: &[Bucket]) -> Self {
        let view = |bucket: &Bucket| {
            let Bucket { from, received, delivered, throttled, failed } = *bucket;
            ActivityBucket { from: time(from), received, delivered, throttled, failed }
        };
        Self { buckets: buckets.iter().map(view).collect() }
    }
}

/// A page of events.
#[derive(Debug, Serialize)]
pub(super) struct Events {
    pub(super) events: Vec<ItemSummary>,
    /// The value of `after` for the next page; `None` on the last page.
    pub(super) next: Option<String>,
}

/// A page of rejected webhooks.
#[derive(Debug, Serialize)]
pub(super) struct Rejected {
    pub(super) rejected: Vec<ItemSummary>,
    pub(super) next: Option<String>,
}

/// The outcome for one item.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) id: String,
    #[serde(rename = "outcome")]
    pub(super) kind: OutcomeKind,
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
pub(super) enum OutcomeKind {
    WaitsAgain,
    Queued,
    Ignored,
    Discarded,
    NotThere,
    NoDeadLetter,
    ResolvedSince,
    TriggeredAnew,
    StillRejected,
    Changed,
}

impl OutcomeKind {
    /// Whether nothing was done although the item exists.
    pub(super) fn is_conflict(self) -> bool {
        match self {
            Self::NoDeadLetter | Self::ResolvedSince | Self::TriggeredAnew | Self::StillRejected | Self::Changed => {
                true
            }
            Self::WaitsAgain | Self::Queued | Self::Ignored | Self::Discarded | Self::NotThere => false,
        }
    }
}

impl Outcome {
    fn new(id: ItemId, kind: OutcomeKind) -> Self {
        Self { id: id.to_string(), kind, reason: None, incident_key: None, events: Vec::new() }
    }

    fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    pub(super) fn retried(id: ItemId, retried: Retried) -> Self {
        match retried {
            Retried::WaitsAgain => Self::new(id, OutcomeKind::WaitsAgain),
            Retried::ResolvedSince => Self::new(id, OutcomeKind::ResolvedSince).because(format!(
                "the incident of {id} was resolved since, and {id} would open it again: use `force` to send it anyway"
            )),
            Retried::NoDeadLetter(state) => Self::new(id, OutcomeKind::NoDeadLetter).because(match state {
                State::Delivered => format!("{id} is already delivered; only dead letters can be retried"),
                _ => format!("{id} is {state}; only dead letters can be retried"),
            }),
            Retried::TriggeredAnew => Self::new(id, OutcomeKind::TriggeredAnew)
                .because(format!("{id} would resolve its incident, which was triggered again since: discard {id}")),
            Retried::NotThere | Retried::Changed => Self::not_there(id),
            Retried::Queued { incident_key, events } => Self {
                incident_key: Some(incident_key.as_str().to_owned()),
                events: events.iter().map(ToString::to_string).collect(),
                ..Self::new(id, OutcomeKind::Queued)
            },
            Retried::Ignored(reason) => Self::new(id, OutcomeKind::Ignored).because(reason.to_string()),
            Retried::NothingOpen(incident_key) => {
                let reason = format!("there is no open incident {}", incident_key.as_str());
                Self { incident_key: Some(incident_key.as_str().to_owned()), ..Self::new(id, OutcomeKind::Ignored) }
                    .because(reason)
            }
            Retried::StillRejected(rejection) => {
                Self::new(id, OutcomeKind::StillRejected).because(rejection.to_string())
            }
        }
    }

    pub(super) fn discarded(id: ItemId, discarded: Discarded) -> Self {
        match discarded {
            Discarded::Gone => Self::new(id, OutcomeKind::Discarded),
            Discarded::Changed => {
                Self::new(id, OutcomeKind::Changed).because(format!("{id} has changed meanwhile and is left as it is"))
            }
            Discarded::NotThere => Self::not_there(id),
        }
    }

    fn not_there(id: ItemId) -> Self {
        Self::new(id, OutcomeKind::NotThere).because(format!("the queue has no entry with the number {id}"))
    }
}

/// The outcomes of a bulk request.
#[derive(Debug, Serialize)]
pub(super) struct Outcomes {
    pub(super) results: Vec<Outcome>,
    /// What is left now, because one request handles only a limited number.
    pub(super) left: Left,
}

/// How many dead letters and rejected webhooks are left.
#[derive(Debug, Serialize)]
pub(super) struct Left {
    pub(super) dead: u64,
    pub(super) rejected: u64,
}

#[cfg(test)]
mod tests;
