//! `GET /metrics`: what Prometheus scrapes.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use chrono::Utc;
use tokio::time::timeout;

use super::AppState;
use crate::build_info::BuildInfo;
use crate::metrics::{CONTENT_TYPE, Gauge};
use crate::monitor::{check, gauges, gauges_without_database};

/// How long a scrape waits for the database; Prometheus itself waits 10 seconds.
const READING: Duration = Duration::from_secs(5);

/// Returns the counters and gauges in Prometheus' text format. No authentication is needed, because they contain no
/// secrets.
///
/// The counters are returned even if the database does not answer.
pub(super) async fn metrics(state: Data<AppState>) -> HttpResponse {
    let BuildInfo { version, commit } = BuildInfo::current();
    let build = Gauge::info(
        "bridge_build_info",
        "Always 1; the labels tell which build is running.",
        vec![("version", version.to_owned()), ("commit", commit.unwrap_or("unknown").to_owned())],
    );
    let now = Utc::now();
    // Gauges and counters come from one snapshot: a counter must not include something that the gauges do not include
    // yet.
    let (metrics, measured) = if let Ok(snapshot) = timeout(READING, state.monitor.snapshot(now)).await {
        let gauges = gauges(&snapshot, &check(&snapshot, state.monitor.limits()));
        (snapshot.metrics, gauges)
    } else {
        let metrics = state.metrics.snapshot(now);
        let gauges = gauges_without_database(&metrics, state.queue.is_well());
        (metrics, gauges)
    };
    let gauges = [build].into_iter().chain(measured).collect();
    HttpResponse::Ok().insert_header(("Content-Type", CONTENT_TYPE)).body(metrics.into_text(gauges))
}
