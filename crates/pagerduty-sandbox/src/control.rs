//! The control port: what happened, and what shall go wrong.
//!
//! It stands on an address of its own, so that nothing a client of PagerDuty sends can reach it. Bodies are JSON, with
//! or without a `Content-Type`; refusals are `400 {"status":"error","reason":"…"}`. It knows no passwords: bind it to
//! loopback. With `C=http://127.0.0.1:8091`:
//!
//! ```text
//! curl $C/healthz                                     # {"status":"ok"}
//! curl "$C/journal?service_key=KEY&limit=10"          # the newest entries, oldest first; 100 unless told
//! curl $C/incidents                                   # every incident and its log
//! curl $C/counters                                    # exact, whatever the journal has forgotten
//! curl $C/faults                                      # the rules that stand, and how often each acted
//! curl $C/faults -d '{"times":3,"fault":{"kind":"answer","status":503,"body":"html"}}'        # {"id":1}
//! curl $C/faults -d '{"event_type":"trigger","fault":{"kind":"late","until":"resolved"}}'
//! curl -X DELETE "$C/faults?id=1"                     # one rule; without `id` all
//! curl -X POST $C/held/release                        # applies what `late` faults hold back
//! curl $C/options                                     # all options
//! curl -X PUT $C/options -d '{"throttle":{"limit":5}}'                                        # changes those named
//! curl -X POST $C/reset                               # forgets everything but the options, faults too
//! ```
//!
//! The members of a rule are those of [`FaultRule`], the kinds those of [`Fault`](crate::Fault).

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Query, ServiceConfig};
use actix_web::{HttpResponse, ResponseError};
use serde::Deserialize;
use serde_json::json;

use crate::faults::{FaultError, FaultRule};
use crate::records::Shared;

/// How many journal entries are shown unless told.
const SHOWN: usize = 100;

/// Adds the endpoints.
pub(crate) fn endpoints(config: &mut ServiceConfig) {
    config
        .route("/healthz", web::get().to(async || HttpResponse::Ok().json(json!({"status": "ok"}))))
        .route("/journal", web::get().to(journal))
        .route("/incidents", web::get().to(incidents))
        .route("/counters", web::get().to(counters))
        .service(web::resource("/faults").get(list_faults).post(add_fault).put(add_fault).delete(clear_faults))
        .service(web::resource("/options").get(show_options).put(patch_options))
        .route("/held/release", web::post().to(release))
        .route("/reset", web::post().to(reset));
}

/// Why a control request was refused.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("the body is not what this endpoint takes: {0}")]
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
struct Shown {
    service_key: Option<String>,
    limit: Option<usize>,
}

async fn journal(shared: Data<Shared>, shown: Query<Shown>) -> HttpResponse {
    // Written out after the lock is gone: bodies may be large.
    let mut entries: Vec<_> = shared.read(|records| {
        let entries = records.journal.entries().rev();
        entries
            .filter(|entry| shown.service_key.as_ref().is_none_or(|key| entry.text("service_key") == Some(key)))
            .take(shown.limit.unwrap_or(SHOWN))
            .map(Arc::clone)
            .collect()
    });
    entries.reverse();
    HttpResponse::Ok().json(entries.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

async fn incidents(shared: Data<Shared>) -> HttpResponse {
    shared.read(|records| HttpResponse::Ok().json(records.incidents().collect::<Vec<_>>()))
}

async fn counters(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(shared.read(crate::Records::counters))
}

async fn list_faults(shared: Data<Shared>) -> HttpResponse {
    shared.read(|records| HttpResponse::Ok().json(records.script.rules()))
}

async fn add_fault(shared: Data<Shared>, body: Bytes) -> Result<HttpResponse, ControlError> {
    let rule: FaultRule = serde_json::from_slice(&body)?;
    let id = shared.inject(rule)?;
    Ok(HttpResponse::Created().json(json!({"id": id})))
}

#[derive(Deserialize)]
struct Cleared {
    id: Option<u64>,
}

async fn clear_faults(shared: Data<Shared>, cleared: Query<Cleared>) -> HttpResponse {
    shared.change(|records, _| records.script.clear(cleared.id));
    HttpResponse::NoContent().finish()
}

async fn show_options(shared: Data<Shared>) -> HttpResponse {
    let options = shared.read(|records| Arc::clone(&records.options));
    HttpResponse::Ok().json(&*options)
}

async fn patch_options(shared: Data<Shared>, body: Bytes) -> Result<HttpResponse, ControlError> {
    let patch = serde_json::from_slice(&body)?;
    let options = shared.change(|records, _| {
        let options = Arc::new(records.options.patched(&patch)?);
        records.options = Arc::clone(&options);
        Ok::<_, serde_json::Error>(options)
    })?;
    Ok(HttpResponse::Ok().json(&*options))
}

async fn release(shared: Data<Shared>) -> HttpResponse {
    let released = shared.change(|records, now| records.release(now, |_| true));
    HttpResponse::Ok().json(json!({"released": released}))
}

async fn reset(shared: Data<Shared>) -> HttpResponse {
    shared.change(|records, _| records.reset());
    HttpResponse::NoContent().finish()
}
