//! The control endpoints that the crate's documentation lists. They have a listener of their own, so that no request of a
//! client of the Events API can reach them.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Query, ServiceConfig};
use actix_web::{HttpResponse, ResponseError};
use serde::Deserialize;
use serde_json::json;

use crate::faults::{FaultError, FaultRule};
use crate::incidents::ManualAction;
use crate::records::{Records, SharedRecords};

/// How many journal entries are listed unless the query has a limit.
const DEFAULT_LIMIT: usize = 100;

/// Adds the endpoints.
pub(crate) fn endpoints(config: &mut ServiceConfig) {
    config
        .route("/healthz", web::get().to(async || HttpResponse::Ok().json(json!({"status": "ok"}))))
        .route("/journal", web::get().to(journal))
        .route("/incidents", web::get().to(incidents))
        .route("/incidents/act", web::post().to(act))
        .route("/webhooks", web::get().to(webhooks))
        .route("/counters", web::get().to(counters))
        .service(web::resource("/faults").get(list_faults).post(add_fault).put(add_fault).delete(clear_faults))
        .service(web::resource("/options").get(show_options).put(change_options))
        .route("/held/release", web::post().to(release_held))
        .route("/reset", web::post().to(reset));
}

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("the body is not valid for this endpoint: {0}")]
    Body(#[from] serde_json::Error),
    #[error(transparent)]
    Fault(#[from] FaultError),
}

impl ResponseError for ControlError {
    fn status_code(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::BadRequest().json(json!({"status": "error", "reason": self.to_string()}))
    }
}

#[derive(Deserialize)]
struct JournalQuery {
    service_key: Option<String>,
    limit: Option<usize>,
}

async fn journal(shared: Data<SharedRecords>, query: Query<JournalQuery>) -> HttpResponse {
    let mut entries: Vec<_> = shared.read(|records| {
        let entries = records.journal.entries().rev();
        entries
            .filter(|entry| query.service_key.as_ref().is_none_or(|key| entry.service_key() == Some(key)))
            .take(query.limit.unwrap_or(DEFAULT_LIMIT))
            .map(Arc::clone)
            .collect()
    });
    entries.reverse();
    // Serialized without the lock: bodies can be large.
    HttpResponse::Ok().json(entries.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

async fn incidents(shared: Data<SharedRecords>) -> HttpResponse {
    shared.read(|records| HttpResponse::Ok().json(records.incidents().collect::<Vec<_>>()))
}

/// Performs an action on an incident, as a person may do in PagerDuty's web app.
async fn act(shared: Data<SharedRecords>, body: Bytes) -> Result<HttpResponse, ControlError> {
    let action: ManualAction = serde_json::from_slice(&body)?;
    let changed = shared.change(|records, now| records.act(&action, now));
    Ok(HttpResponse::Ok().json(json!({"changed": changed})))
}

async fn webhooks(shared: Data<SharedRecords>) -> HttpResponse {
    shared.read(|records| HttpResponse::Ok().json(records.webhook_attempts()))
}

async fn counters(shared: Data<SharedRecords>) -> HttpResponse {
    HttpResponse::Ok().json(shared.read(Records::counters))
}

async fn list_faults(shared: Data<SharedRecords>) -> HttpResponse {
    shared.read(|records| HttpResponse::Ok().json(records.faults.all()))
}

async fn add_fault(shared: Data<SharedRecords>, body: Bytes) -> Result<HttpResponse, ControlError> {
    let rule: FaultRule = serde_json::from_slice(&body)?;
    let id = shared.inject(rule)?;
    Ok(HttpResponse::Created().json(json!({"id": id})))
}

#[derive(Deserialize)]
struct ClearQuery {
    id: Option<u64>,
}

async fn clear_faults(shared: Data<SharedRecords>, query: Query<ClearQuery>) -> HttpResponse {
    shared.change(|records, _| records.faults.clear(query.id));
    HttpResponse::NoContent().finish()
}

async fn show_options(shared: Data<SharedRecords>) -> HttpResponse {
    let options = shared.read(|records| Arc::clone(&records.options));
    HttpResponse::Ok().json(&*options)
}

async fn change_options(shared: Data<SharedRecords>, body: Bytes) -> Result<HttpResponse, ControlError> {
    let patch = serde_json::from_slice(&body)?;
    let options = shared.change(|records, _| {
        let options = Arc::new(records.options.patched(&patch)?);
        records.options = Arc::clone(&options);
        Ok::<_, serde_json::Error>(options)
    })?;
    Ok(HttpResponse::Ok().json(&*options))
}

async fn release_held(shared: Data<SharedRecords>) -> HttpResponse {
    let released = shared.change(|records, now| records.release(now, |_| true));
    HttpResponse::Ok().json(json!({"released": released}))
}

async fn reset(shared: Data<SharedRecords>) -> HttpResponse {
    shared.change(|records, _| records.reset());
    HttpResponse::NoContent().finish()
}
