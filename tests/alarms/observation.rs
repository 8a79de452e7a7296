//! The status and the metrics of a bridge at one moment.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Connection, PATIENCE, get};

pub(crate) const ADMIN_TOKEN: &str = "admin-token-for-tests-alone";

/// The status and the metrics of a bridge at one moment.
#[derive(Debug)]
pub(crate) struct Observation {
    /// The response of `GET /api/status`.
    pub(crate) status: Value,
    /// The response of `GET /metrics`.
    metrics: String,
}

impl Observation {
    /// Queries the bridge at `address`.
    #[track_caller]
    pub(crate) fn of(address: SocketAddr) -> Self {
        let mut connection = Connection::open(address);
        let request = format!(
            "GET /api/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
        );
        connection.send(request.as_bytes());
        let (code, status) = connection.answer().status_and_json();
        assert_eq!(code, 200, "{status}");
        Self { status, metrics: metrics(address) }
    }

    pub(crate) fn health(&self) -> &str {
        self.status["status"].as_str().unwrap()
    }

    /// The causes of the current troubles, worst first.
    pub(crate) fn troubles(&self) -> Vec<&str> {
        let troubles = self.status["troubles"].as_array().unwrap();
        troubles.iter().map(|trouble| trouble["cause"].as_str().unwrap()).collect()
    }

    /// The value of one sample.
    #[track_caller]
    pub(crate) fn sample(&self, series: &str) -> u64 {
        let line = self.metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no {series}: {}", self.metrics)).parse().unwrap()
    }

    /// The causes of the current troubles according to `/metrics`, sorted.
    pub(crate) fn trouble_metrics(&self) -> Vec<&str> {
        trouble(&self.metrics)
    }

    /// The outcomes that attempts have had, sorted.
    pub(crate) fn outcomes(&self) -> Vec<&str> {
        labels(&self.metrics, "bridge_delivery_attempts_total{outcome=\"", |value| value != "0")
    }
}

/// Queries the bridge until `condition` holds.
#[track_caller]
pub(crate) fn wait_for(address: SocketAddr, what: &str, condition: impl Fn(&Observation) -> bool) -> Observation {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let observed = Observation::of(address);
        if condition(&observed) {
            return observed;
        }
        assert!(Instant::now() < deadline, "{what} did not come: {observed:#?}");
        // No event announces the change, so it is polled.
        sleep(Duration::from_millis(20));
    }
}

/// The causes of the current troubles according to `/metrics`, for a bridge without an admin token.
#[track_caller]
pub(crate) fn troubles(address: SocketAddr) -> Vec<String> {
    trouble(&metrics(address)).into_iter().map(str::to_owned).collect()
}

#[track_caller]
fn metrics(address: SocketAddr) -> String {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8(answer.body).unwrap()
}

fn trouble(metrics: &str) -> Vec<&str> {
    labels(metrics, "bridge_trouble{cause=\"", |value| value == "1")
}

fn labels<'a>(metrics: &'a str, start: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let samples = metrics.lines().filter_map(|line| line.strip_prefix(start)?.split_once("\"} "));
    let mut labels: Vec<_> = samples.filter(|(_, value)| is_wanted(value)).map(|(label, _)| label).collect();
    labels.sort_unstable();
    labels
}
