//! The counters and histograms, which start at zero with the process.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::labels::{Answered, Source};
use crate::pagerduty::EventType;
use crate::pagerduty::OutcomeKind;

/// From a commit on a fast disk to one that Sentry does not wait for any more, in seconds.
const COMMIT_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// From a delivery at once to one after an outage of a day, in seconds.
const LATENCY_BUCKETS: [f64; 14] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// What is counted. Every value of every label is there from the start, so that the first of anything is an increase.
#[derive(Debug)]
pub(super) struct Counters {
    registry: Registry,
    pub(super) webhooks: IntCounterVec,
    pub(super) rejected_kept: IntCounter,
    pub(super) queued: IntCounterVec,
    pub(super) folded: IntCounter,
    pub(super) attempts: IntCounterVec,
    pub(super) delivered: IntCounter,
    pub(super) dead: IntCounter,
    pub(super) commit_seconds: Histogram,
    pub(super) commits_failed: IntCounter,
    pub(super) latency_seconds: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        let registry = Registry::new();
        let counters = Self {
            webhooks: counters(
                &registry,
                "bridge_webhooks_total",
                "Webhooks that were answered, by where they came from and what they were answered.",
                &["source", "answer"],
            ),
            rejected_kept: counter(
                &registry,
                "bridge_webhooks_rejected_kept_total",
                "Webhooks that were answered 400 or 422 and whose bodies were kept to look at.",
            ),
            queued: counters(
                &registry,
                "bridge_events_queued_total",
                "Events that were put into the queue, the bridge's own alarms included, by what they do to their incident.",
                &["event_type"],
            ),
            folded: counter(
                &registry,
                "bridge_events_folded_total",
                "Alerts that were folded into a waiting trigger of their incident instead of being queued.",
            ),
            attempts: counters(
                &registry,
                "bridge_delivery_attempts_total",
                "Attempts to deliver an event to PagerDuty, by how they ended.",
                &["outcome"],
            ),
            delivered: counter(&registry, "bridge_events_delivered_total", "Events that PagerDuty took."),
            dead: counter(
                &registry,
                "bridge_events_dead_total",
                "Events that became dead letters, which wait until somebody retries or discards them.",
            ),
            commit_seconds: histogram(
                &registry,
                "bridge_queue_commit_seconds",
                "Seconds one commit to the database took; many alerts may share one.",
                &COMMIT_BUCKETS,
            ),
            commits_failed: counter(
                &registry,
                "bridge_queue_commits_failed_total",
                "Commits to the database that failed; alerts in them were answered 503.",
            ),
            latency_seconds: histogram(
                &registry,
                "bridge_delivery_latency_seconds",
                "Seconds from the webhook until PagerDuty took the event; from the newest one where alerts were folded.",
                &LATENCY_BUCKETS,
            ),
            registry,
        };
        counters.begin_at_zero();
        counters
    }
}

impl Counters {
    fn begin_at_zero(&self) {
        for source in Source::ALL {
            for answered in Answered::ALL.into_iter().filter(|answered| can_be(source, *answered)) {
                self.webhooks.with_label_values(&[source.name(), answered.name()]);
            }
        }
        for event_type in [EventType::Trigger, EventType::Acknowledge, EventType::Resolve] {
            self.queued.with_label_values(&[event_type.as_str()]);
        }
        for kind in OutcomeKind::ALL {
            self.attempts.with_label_values(&[kind.name()]);
        }
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

/// Whether the webhook answers this to webhooks of this source.
fn can_be(source: Source, answered: Answered) -> bool {
    match answered {
        Answered::Queued | Answered::Ignored => source != Source::Unknown,
        Answered::Rejected => source != Source::Legacy,
        Answered::Unavailable => true,
        Answered::WrongToken
        | Answered::WrongSignature
        | Answered::Unsigned
        | Answered::Unread
        | Answered::NotFound
        | Answered::WrongMethod => source == Source::Unknown,
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    registered(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
}

#[expect(clippy::expect_used, reason = "every name, label and bucket is a literal, and any test makes all of them")]
fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("the name and the labels are well-formed");
    registry.register(Box::new(collector.clone())).expect("the name is used once");
    collector
}
