//! What is measured at the moment of a scrape, and the text format.

use prometheus::TextEncoder;
use prometheus::proto::{Gauge as Value, LabelPair, Metric, MetricFamily, MetricType};

/// The text format of [`Metrics::text`](super::Metrics::text), as a `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A gauge that is read at the moment of a scrape; without samples it is not shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    name: &'static str,
    help: &'static str,
    samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Gauge {
    /// One without labels; `None`: not known.
    #[must_use]
    pub fn of(name: &'static str, help: &'static str, value: Option<f64>) -> Self {
        Self { name, help, samples: value.map(|value| (Vec::new(), value)).into_iter().collect() }
    }

    /// One with a value for each value of a label, none of which may be there twice.
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

    /// One that is always 1 and tells something by its labels.
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
            let mut gauge = Value::default();
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

/// Everything in Prometheus' text format, in the order of the names.
pub(super) fn text(counters: Vec<MetricFamily>, gauges: Vec<Gauge>) -> String {
    let gauges = gauges.into_iter().filter(|gauge| !gauge.samples.is_empty()).map(Gauge::into_family);
    let mut families: Vec<_> = counters.into_iter().chain(gauges).collect();
    families.sort_by(|one, other| one.name().cmp(other.name()));
    // It writes into memory, and refuses only families without a name or a sample.
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}
