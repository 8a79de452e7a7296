//! Liveness and readiness: whether the process runs, and whether it can accept alerts.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;
use tokio::time::timeout;

use super::AppState;

/// The timeout of the commit that tests a shared database which has not answered for more than a second.
const SILENT: Duration = Duration::from_millis(800);

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
    let hears_database = state.cluster.hears_database();
    if !(state.queue.is_well() && hears_database) {
        let refused =
            |reason: String| HttpResponse::ServiceUnavailable().json(json!({"status": "error", "reason": reason}));
        let patience = if hears_database { Duration::MAX } else { SILENT };
        match timeout(patience, state.queue.probe()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return refused(error.to_string()),
            Err(_) => return refused("the database has not answered for more than a second".to_owned()),
        }
    }
    HttpResponse::Ok().json(json!({"status": "ready"}))
}
