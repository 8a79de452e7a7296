//! `GET /metrics`: what Prometheus scrapes.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use chrono::Utc;
use tokio::time::timeout;

use super::Shared;
use crate::build_info::BuildInfo;
use crate::metrics::Gauge;
use crate::metrics::gauge::CONTENT_TYPE;
use crate::monitor::{gauges, gauges_without_database, judge};

/// How long a scrape waits for the database; Prometheus itself waits 10 seconds.
const READING: Duration = Duration::from_secs(5);

/// The counters and gauges in Prometheus' text format. Anybody may read them: there is no secret in them.
///
/// The counters are there whatever the database does.
pub async fn metrics(shared: Data<Shared>) -> HttpResponse {
    let BuildInfo { version, commit } = BuildInfo::current();
    let build = Gauge::info(
        "bridge_build_info",
        "Always 1; the labels tell which build is running.",
        vec![("version", version.to_owned()), ("commit", commit.unwrap_or("unknown").to_owned())],
    );
    let mut shown = vec![build];
    let now = Utc::now();
    shown.extend(match timeout(READING, shared.watch.facts(now)).await {
        Ok(facts) => gauges(&facts, &judge(&facts, shared.watch.limits())),
        Err(_) => gauges_without_database(&shared.metrics.snapshot(now), shared.queue.is_well()),
    });
    HttpResponse::Ok().insert_header(("Content-Type", CONTENT_TYPE)).body(shared.metrics.text(shown))
}
