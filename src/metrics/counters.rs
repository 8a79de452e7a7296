//! What Prometheus scrapes: counters and histograms, which start at zero with the process, gauges, which are measured at
//! the moment of a scrape, and the text format.

use prometheus::core::Collector;
use prometheus::proto::{Gauge as GaugeValue, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};
use strum::VariantArray;

use super::labels::{HeldOutcome, IssueCheck, PagerDutyAnswer, UpdateOutcome, WebhookAnswer, WebhookSource, label};
use crate::pagerduty::{EventType, OutcomeKind, ProofState};

/// The `Content-Type` of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// From a commit on a fast disk to one that takes longer than Sentry waits for an answer, in seconds.
const COMMIT_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// From an immediate delivery to one after an outage of a day, in seconds.
const LATENCY_BUCKETS: [f64; 14] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// From a Sentry that has nothing else to do to one with a backlog of an hour, in seconds.
const ROUND_TRIP_BUCKETS: [f64; 12] = [0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

/// The counters. Every value of every label exists from the start, so that Prometheus sees the first occurrence of
/// anything as an increase.
#[derive(Debug)]
pub(super) struct Counters {
    registry: Registry,
    pub(super) webhooks: IntCounterVec,
    pub(super) rejected_kept: IntCounter,
    pub(super) held: IntCounterVec,
    pub(super) queued: IntCounterVec,
    pub(super) folded: IntCounter,
    pub(super) attempts: IntCounterVec,
    pub(super) delivered: IntCounter,
    pub(super) dead: IntCounter,
    pub(super) commit_seconds: Histogram,
    pub(super) commits_failed: IntCounter,
    pub(super) latency_seconds: Histogram,
    pub(super) catch_up_runs: IntCounterVec,
    pub(super) caught_up: IntCounterVec,
    pub(super) issue_checks: IntCounterVec,
    pub(super) pagerduty_webhooks: IntCounterVec,
    pub(super) issue_updates: IntCounterVec,
    pub(super) proofs: IntCounterVec,
    pub(super) canaries_sent: IntCounterVec,
    pub(super) canary_seconds: Histogram,
}

impl Default for Counters {
    #[allow(clippy::too_many_lines, reason = "one statement for each metric")]
    fn default() -> Self {
        let registry = Registry::new();
        let counters = Self {
            webhooks: counters(
                &registry,
                "bridge_webhooks_total",
                "Webhooks answered, by source and answer.",
                &["source", "answer"],
            ),
            rejected_kept: counter(
                &registry,
                "bridge_webhooks_rejected_kept_total",
                "Webhooks answered 400 or 422 whose bodies were stored for inspection.",
            ),
            held: counters(
                &registry,
                "bridge_webhooks_held_total",
                "Webhooks with a wrong signature, by what became of them: held until a secret verifies them, no_room, admitted, expired.",
                &["outcome"],
            ),
            queued: counters(
                &registry,
                "bridge_events_queued_total",
                "Events enqueued, including the bridge's own alarms, by event type.",
                &["event_type"],
            ),
            folded: counter(
                &registry,
                "bridge_events_folded_total",
                "Alerts folded into a waiting trigger of the same incident instead of being enqueued as events of their own.",
            ),
            attempts: counters(
                &registry,
                "bridge_delivery_attempts_total",
                "Attempts to deliver an event to PagerDuty, by outcome.",
                &["outcome"],
            ),
            delivered: counter(&registry, "bridge_events_delivered_total", "Events accepted by PagerDuty."),
            dead: counter(
                &registry,
                "bridge_events_dead_total",
                "Events that became dead letters; each is kept until it is retried or discarded.",
            ),
            commit_seconds: histogram(
                &registry,
                "bridge_queue_commit_seconds",
                "Duration of commits to the database in seconds; many alerts may share one commit.",
                &COMMIT_BUCKETS,
            ),
            commits_failed: counter(
                &registry,
                "bridge_queue_commits_failed_total",
                "Failed commits to the database; their alerts were answered 503.",
            ),
            latency_seconds: histogram(
                &registry,
                "bridge_delivery_latency_seconds",
                "Seconds from the receipt of a webhook until PagerDuty accepted its event; where alerts were folded, from the newest.",
                &LATENCY_BUCKETS,
            ),
            catch_up_runs: counters(
                &registry,
                "bridge_catch_up_runs_total",
                "Times that Sentry was asked which alerts it fired, by outcome.",
                &["outcome"],
            ),
            caught_up: counters(
                &registry,
                "bridge_catch_up_alerts_total",
                "Alerts that Sentry fired and whose webhooks never came, by what was done about them.",
                &["outcome"],
            ),
            issue_checks: counters(
                &registry,
                "bridge_issue_checks_total",
                "Times that Sentry was asked about the issue of an open incident, by what it said.",
                &["status"],
            ),
            pagerduty_webhooks: counters(
                &registry,
                "bridge_pagerduty_webhooks_total",
                "Webhooks of PagerDuty answered, by answer.",
                &["answer"],
            ),
            issue_updates: counters(
                &registry,
                "bridge_issue_updates_total",
                "Attempts to do in Sentry what people did in PagerDuty, by outcome.",
                &["outcome"],
            ),
            proofs: counters(
                &registry,
                "bridge_event_proofs_total",
                "Delivered events that were looked up in PagerDuty, by what became of them.",
                &["state"],
            ),
            canaries_sent: counters(
                &registry,
                "bridge_canaries_sent_total",
                "Canaries sent to Sentry, by whether Sentry accepted them.",
                &["taken"],
            ),
            canary_seconds: histogram(
                &registry,
                "bridge_canary_round_trip_seconds",
                "Seconds from the sending of a canary to Sentry until its webhook came.",
                &ROUND_TRIP_BUCKETS,
            ),
            registry,
        };
        counters.initialize_labels();
        counters
    }
}

impl Counters {
    fn initialize_labels(&self) {
        for source in WebhookSource::VARIANTS {
            for answered in WebhookAnswer::VARIANTS.iter().filter(|answered| answered.is_possible_for(*source)) {
                self.webhooks.with_label_values(&[label(*source), label(*answered)]);
            }
        }
        for outcome in HeldOutcome::VARIANTS {
            self.held.with_label_values(&[label(*outcome)]);
        }
        for event_type in [EventType::Trigger, EventType::Acknowledge, EventType::Resolve] {
            self.queued.with_label_values(&[event_type.as_str()]);
        }
        for outcome in ["complete", "failed"] {
            self.catch_up_runs.with_label_values(&[outcome]);
        }
        for outcome in ["enqueued", "reported", "summarized"] {
            self.caught_up.with_label_values(&[outcome]);
        }
        for check in IssueCheck::VARIANTS {
            self.issue_checks.with_label_values(&[label(*check)]);
        }
        for answered in PagerDutyAnswer::VARIANTS {
            self.pagerduty_webhooks.with_label_values(&[label(*answered)]);
        }
        for outcome in UpdateOutcome::VARIANTS {
            self.issue_updates.with_label_values(&[label(*outcome)]);
        }
        for state in ProofState::VARIANTS {
            self.proofs.with_label_values(&[state.name()]);
        }
        for taken in ["yes", "no"] {
            self.canaries_sent.with_label_values(&[taken]);
        }
        for kind in OutcomeKind::ALL {
            self.attempts.with_label_values(&[kind.name()]);
        }
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
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

/// A gauge, measured at the moment of a scrape. Without samples it is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    name: &'static str,
    help: &'static str,
    samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Gauge {
    /// Creates a gauge without labels; `None` if the value is not known.
    #[must_use]
    pub fn of(name: &'static str, help: &'static str, value: Option<f64>) -> Self {
        Self { name, help, samples: value.map(|value| (Vec::new(), value)).into_iter().collect() }
    }

    /// Creates a gauge with a sample for each value of a label; no value may occur twice.
    #[must_use]
    pub fn by<L: Into<String>>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> Self {
        let samples = values.into_iter().map(|(of, value)| (vec![(label, of.into())], value)).collect();
        Self { name, help, samples }
    }

    /// Creates a gauge that is always 1 and carries information in its labels.
    #[must_use]
    pub fn info(name: &'static str, help: &'static str, labels: Vec<(&'static str, String)>) -> Self {
        Self { name, help, samples: vec![(labels, 1.0)] }
    }

    fn into_family(self) -> MetricFamily {
        let metrics = self.samples.into_iter().map(|(labels, value)| {
            let labels = labels.into_iter().map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name(name.to_owned());
                pair.set_value(value);
                pair
            });
            let mut gauge = GaugeValue::default();
            gauge.set_value(value);
            let mut metric = Metric::default();
            metric.set_label(labels.collect());
            metric.set_gauge(gauge);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(metrics.collect());
        family
    }
}

/// Counters and gauges in Prometheus' text format, in the order of their names.
pub(super) fn text(counters: Vec<MetricFamily>, gauges: Vec<Gauge>) -> String {
    let gauges = gauges.into_iter().filter(|gauge| !gauge.samples.is_empty()).map(Gauge::into_family);
    let mut families: Vec<_> = counters.into_iter().chain(gauges).collect();
    families.sort_by(|one, other| one.name().cmp(other.name()));
    // Writing into memory cannot fail; the encoder refuses only families without a name or a sample.
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}
