//! Whether the bridge lives, and whether it can take alerts.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

use super::Shared;

/// `GET /healthz`: 200 while the process lives.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// `GET /readyz`: 200 while alerts can be committed, 503 when they cannot, and from the first moment of shutdown.
///
/// After a commit that failed it tries one itself, so that it is green again as soon as the cause is gone.
pub async fn readyz(shared: Data<Shared>) -> HttpResponse {
    if shared.is_stopping() {
        return HttpResponse::ServiceUnavailable().json(json!({"status": "stopping"}));
    }
    if !shared.queue.is_well()
        && let Err(error) = shared.queue.probe().await
    {
        return HttpResponse::ServiceUnavailable().json(json!({"status": "error", "reason": error.to_string()}));
    }
    HttpResponse::Ok().json(json!({"status": "ready"}))
}
