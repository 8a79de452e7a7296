//! Whether the bridge lives, and whether it can take alerts.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

use super::AppState;

/// `GET /healthz`: 200 while the process lives.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// `GET /readyz`: 200 while alerts can be committed, 503 when they cannot, and from the first moment of shutdown.
///
/// After a commit that failed it tries one itself, so that it is green again as soon as the cause is gone. It does so, too,
/// when a shared database has not answered for more than a second, so that it is red before the first webhook is refused.
pub(super) async fn readyz(state: Data<AppState>) -> HttpResponse {
    if state.is_stopping() {
        return HttpResponse::ServiceUnavailable().json(json!({"status": "stopping"}));
    }
    if !(state.queue.is_well() && state.cluster.hears_database())
        && let Err(error) = state.queue.probe().await
    {
        return HttpResponse::ServiceUnavailable().json(json!({"status": "error", "reason": error.to_string()}));
    }
    HttpResponse::Ok().json(json!({"status": "ready"}))
}
