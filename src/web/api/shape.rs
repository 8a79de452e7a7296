//! The JSON of the answers. The names are a contract; `docs/openapi.json` describes them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::delivery::LaneView;
use crate::metrics::Bucket;
use crate::monitor::{Facts, Trouble, Word};
use crate::pagerduty::ServiceKey;
use crate::queue::admin::{Discarded, Retried};
use crate::queue::{Destination, ItemId, Overview};
use crate::row::{Row, time};

/// How the bridge fares.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    #[serde(rename = "status")]
    word: &'static str,
    troubles: Vec<TroubleSaid>,
    version: &'static str,
    at: String,
    started_at: String,
    last_webhook_at: Option<String>,
    last_delivered_at: Option<String>,
    /// `None` when it cannot be read; there is trouble then.
    queue: Option<Standing>,
    /// Why PagerDuty cannot be trusted.
    untrusted: Option<String>,
    destinations: Vec<DestinationSaid>,
}

#[derive(Debug, Serialize)]
struct TroubleSaid {
    cause: &'static str,
    status: &'static str,
    sentence: String,
}

#[derive(Debug, Serialize)]
struct Standing {
    waiting: u64,
    dead: u64,
    delivered: u64,
    rejected: u64,
    /// Those among the waiting that cannot be read.
    unreadable: u64,
    oldest_waiting: Option<String>,
}

#[derive(Debug, Serialize)]
struct DestinationSaid {
    service_key: String,
    waiting: u64,
    dead: u64,
    delivered: u64,
    oldest_waiting: Option<String>,
    /// `None` where nothing was sent in this run.
    pace: Option<Pace>,
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
    pub(super) fn of(facts: &Facts, troubles: &[Trouble], word: Word) -> Self {
        let said = |trouble: &Trouble| TroubleSaid {
            cause: trouble.cause.name(),
            status: trouble.word.name(),
            sentence: trouble.sentence.clone(),
        };
        let overview = facts.queue.as_ref().ok();
        Self {
            word: word.name(),
            troubles: troubles.iter().map(said).collect(),
            version: env!("CARGO_PKG_VERSION"),
            at: time(facts.at),
            started_at: time(facts.started_at),
            last_webhook_at: facts.metrics.last_webhook_at.map(time),
            last_delivered_at: facts.metrics.last_delivered_at.map(time),
            queue: overview.map(|overview| Standing::of(overview, facts.delivery.unreadable.events)),
            untrusted: facts.delivery.untrusted.clone(),
            destinations: destinations(overview, &facts.delivery.lanes),
        }
    }
}

impl Standing {
    fn of(overview: &Overview, unreadable: u64) -> Self {
        let Overview { waiting, dead, delivered, rejected, oldest_waiting, .. } = *overview;
        Self { waiting, dead, delivered, rejected, unreadable, oldest_waiting: oldest_waiting.map(time) }
    }
}

/// What stands in the queue for each service key and how fast it goes out, in the order of the keys.
fn destinations(overview: Option<&Overview>, lanes: &[LaneView]) -> Vec<DestinationSaid> {
    let mut all: BTreeMap<&ServiceKey, (Option<&Destination>, Option<&LaneView>)> = BTreeMap::new();
    for destination in overview.map_or(&[][..], |overview| &overview.destinations) {
        all.entry(&destination.service_key).or_default().0 = Some(destination);
    }
    for lane in lanes {
        all.entry(&lane.service_key).or_default().1 = Some(lane);
    }
    let said = |(key, (stands, lane)): (&ServiceKey, (Option<&Destination>, Option<&LaneView>))| DestinationSaid {
        service_key: key.to_string(),
        waiting: stands.map_or(0, |stands| stands.waiting),
        dead: stands.map_or(0, |stands| stands.dead),
        delivered: stands.map_or(0, |stands| stands.delivered),
        oldest_waiting: stands.and_then(|stands| stands.oldest_waiting).map(time),
        pace: lane.map(|lane| Pace {
            allowed: lane.allowed,
            rate: lane.rate,
            under_way: lane.under_way,
            backs_off_until: lane.backs_off_until.map(time),
            trouble: lane.trouble.clone(),
            last_delivered_at: lane.last_delivered_at.map(time),
        }),
    };
    all.into_iter().map(said).collect()
}

/// The last 24 hours.
#[derive(Debug, Serialize)]
pub(super) struct Activity {
    buckets: Vec<BucketSaid>,
}

#[derive(Debug, Serialize)]
struct BucketSaid {
    from: String,
    received: u64,
    delivered: u64,
    throttled: u64,
    failed: u64,
}

impl Activity {
    pub(super) fn of(buckets: &[Bucket]) -> Self {
        let said = |bucket: &Bucket| {
            let Bucket { from, received, delivered, throttled, failed } = *bucket;
            BucketSaid { from: time(from), received, delivered, throttled, failed }
        };
        Self { buckets: buckets.iter().map(said).collect() }
    }
}

/// A page of events.
#[derive(Debug, Serialize)]
pub(super) struct Events {
    pub(super) events: Vec<Row>,
    /// What to give as `after` for the next page; `None` on the last one.
    pub(super) next: Option<String>,
}

/// A page of rejected webhooks.
#[derive(Debug, Serialize)]
pub(super) struct Rejected {
    pub(super) rejected: Vec<Row>,
    pub(super) next: Option<String>,
}

/// What became of one thing.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) id: String,
    #[serde(rename = "outcome")]
    pub(super) became: &'static str,
    /// In words, where the outcome alone does not say it.
    pub(super) reason: Option<String>,
    /// The incident that a webhook belongs to.
    incident_key: Option<String>,
    /// The events that a webhook became.
    events: Vec<String>,
}

impl Outcome {
    fn new(id: ItemId, became: &'static str) -> Self {
        Self { id: id.to_string(), became, reason: None, incident_key: None, events: Vec::new() }
    }

    fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    pub(super) fn retried(id: ItemId, retried: Retried) -> Self {
        match retried {
            Retried::WaitsAgain => Self::new(id, "waits_again"),
            Retried::ResolvedSince => Self::new(id, "resolved_since").because(format!(
                "the incident of {id} was resolved since, and it would open it again: `force` sends it all the same"
            )),
            Retried::NoDeadLetter(state) => {
                Self::new(id, "no_dead_letter").because(format!("{id} is no dead letter, but {state}"))
            }
            Retried::TriggeredAnew => Self::new(id, "triggered_anew").because(format!(
                "{id} is not sent, because its incident was triggered anew since and would be closed by it: discard it"
            )),
            Retried::NotThere | Retried::Outrun => Self::not_there(id),
            Retried::Queued { incident_key, events } => Self {
                incident_key: Some(incident_key.as_str().to_owned()),
                events: events.iter().map(ToString::to_string).collect(),
                ..Self::new(id, "queued")
            },
            Retried::Ignored(reason) => Self::new(id, "ignored").because(reason.to_string()),
            Retried::NothingOpen(incident_key) => {
                let reason = format!("nothing is open for incident {}", incident_key.as_str());
                Self { incident_key: Some(incident_key.as_str().to_owned()), ..Self::new(id, "ignored") }
                    .because(reason)
            }
            Retried::StillRejected(rejection) => Self::new(id, "still_rejected").because(rejection.to_string()),
        }
    }

    pub(super) fn discarded(id: ItemId, discarded: Discarded) -> Self {
        match discarded {
            Discarded::Gone => Self::new(id, "discarded"),
            Discarded::Changed => {
                Self::new(id, "changed").because(format!("{id} changed meanwhile and is left as it is"))
            }
            Discarded::NotThere => Self::not_there(id),
        }
    }

    fn not_there(id: ItemId) -> Self {
        Self::new(id, "not_there").because(format!("the queue has nothing with the number {id}"))
    }
}

/// What became of many.
#[derive(Debug, Serialize)]
pub(super) struct Outcomes {
    pub(super) results: Vec<Outcome>,
    /// What is there now: a bulk takes so many at once and no more.
    pub(super) left: Left,
}

/// What somebody has to look at.
#[derive(Debug, Serialize)]
pub(super) struct Left {
    pub(super) dead: u64,
    pub(super) rejected: u64,
}
