//! What other programs ask periodically: whether the process lives (`GET /healthz`), whether it can accept alerts
//! (`GET /readyz`), and Prometheus' `GET /metrics`.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use chrono::Utc;
use serde_json::json;
use tokio::time::timeout;

use super::AppState;
use crate::build_info::BuildInfo;
use crate::metrics::{CONTENT_TYPE, Gauge};
use crate::monitor::{gauges, gauges_without_database, troubles};

/// The timeout of the commit that tests a shared database which has not answered for more than a second.
const SILENT: Duration = Duration::from_millis(800);

/// How long a scrape waits for the database; Prometheus itself waits 10 seconds.
const READING: Duration = Duration::from_secs(5);

/// `GET /healthz`: 200 while the process lives.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// `GET /readyz`: 200 while alerts can be committed, 503 when they cannot, and from the first moment of shutdown.
///
/// After a failed commit it tries one itself, so that it returns 200 again as soon as the cause is gone. It also tries
/// one when a shared database has not answered for more than a second, so that it returns 503 before the first webhook is
/// refused.
pub(super) async fn readyz(state: Data<AppState>) -> HttpResponse {
    if state.is_stopping() {
        return HttpResponse::ServiceUnavailable().json(json!({"status": "stopping"}));
    }
    let reaches_database = state.cluster.reaches_database();
    if !(state.queue.can_commit() && reaches_database) {
        let refused =
            |reason: String| HttpResponse::ServiceUnavailable().json(json!({"status": "error", "reason": reason}));
        let patience = if reaches_database { Duration::MAX } else { SILENT };
        match timeout(patience, state.queue.probe()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return refused(error.to_string()),
            Err(_) => return refused("the database has not answered for more than a second".to_owned()),
        }
    }
    HttpResponse::Ok().json(json!({"status": "ready"}))
}

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
        let gauges = gauges(&snapshot, &troubles(&snapshot, state.monitor.limits()));
        (snapshot.metrics, gauges)
    } else {
        let metrics = state.metrics.snapshot(now);
        let gauges = gauges_without_database(&metrics, state.queue.can_commit());
        (metrics, gauges)
    };
    let gauges = [build].into_iter().chain(measured).collect();
    HttpResponse::Ok().insert_header(("Content-Type", CONTENT_TYPE)).body(metrics.into_text(gauges))
}
