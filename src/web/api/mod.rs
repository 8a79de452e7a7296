//! `/api`: what the status page shows and does, as JSON. `docs/openapi.json` describes it.
//!
//! - [`operation`]: the one table of what can be asked
//! - `look`: the answers to those who look
//! - `act`: retry and discard
//! - `page`: which part of a list is asked for
//! - `shape`: the JSON of the answers
//!
//! Who may ask: whoever has the admin token, as `Authorization: Bearer`; a browser with a session of the status page may
//! look, but not act, for a form cannot show here that the page wrote it.

mod act;
mod look;
pub mod operation;
mod page;
mod shape;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use log::error;
use serde::Serialize;

use self::operation::Operation;
use super::admin::{self, Refusal};
use super::answer::Answer;
use super::{Shared, not_found};
use crate::printable;
use crate::queue::QueueError;

/// The description of all this.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

const NO_TOKEN: &str = "the admin token is missing: send one of BRIDGE_ADMIN_TOKEN as `Authorization: Bearer TOKEN`";
const WRONG_TOKEN: &str = "the admin token is wrong: it has to be one of BRIDGE_ADMIN_TOKEN";
const LIMITED: &str = "the admin token is wrong, and too many wrong ones came within a minute";

/// Why something is not done.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    reason: String,
}

impl Failure {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    fn bad(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    fn missing(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, reason)
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        error!("/api could not be answered: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

/// Adds `/api` to an application.
pub(super) fn routes(config: &mut ServiceConfig) {
    for path in operation::paths() {
        let mut resource = web::resource(path);
        for operation in Operation::ALL.into_iter().filter(|operation| operation.path() == path) {
            let answer = move |request, payload, shared| answer(operation, request, payload, shared);
            resource = resource.route(web::method(operation.method()).to(answer));
        }
        let others = move |request, shared| wrong_method(path, request, shared);
        config.service(resource.default_service(web::to(others)));
    }
    config.service(web::resource(["/api", "/api/{path:.*}"]).default_service(web::to(nothing)));
}

async fn answer(operation: Operation, request: HttpRequest, payload: Payload, shared: Data<Shared>) -> HttpResponse {
    let now = Utc::now();
    if let Err(refusal) = enter(&request, &shared, now).await {
        return refusal;
    }
    let id = request.match_info().get("id").unwrap_or_default();
    let query = request.query_string();
    let answered = match operation {
        Operation::OpenApi => return json(StatusCode::OK, OPENAPI.to_owned()),
        Operation::Status => Ok(look::status(&shared, now).await),
        Operation::Activity => Ok(look::activity(&shared, now)),
        Operation::Events => look::events(&shared, query).await,
        Operation::Event => look::event(&shared, id).await,
        Operation::AllRejected => look::all_rejected(&shared, query).await,
        Operation::Rejected => look::rejected(&shared, id).await,
        Operation::RetryEvent | Operation::RetryRejected => act::retry(&shared, operation, id, query).await,
        Operation::DiscardEvent | Operation::DiscardRejected => act::discard(&shared, operation, id, query).await,
        Operation::Retry => act::retry_many(&request, payload, &shared).await,
        Operation::Discard => act::discard_many(&request, payload, &shared).await,
    };
    match answered {
        Ok(text) => json(StatusCode::OK, text),
        Err(Failure { status, reason }) => error(status, &reason),
    }
}

/// Lets in whoever may ask.
async fn enter(request: &HttpRequest, shared: &Shared, now: DateTime<Utc>) -> Result<(), HttpResponse> {
    if !shared.admin.exists() {
        return Err(not_found(request.clone()).await);
    }
    let headers = request.headers();
    if request.method() == Method::GET && shared.admin.session(headers, now).is_some() {
        return Ok(());
    }
    shared.admin.bearer(headers, admin::peer(request), now).map_err(|refusal| match refusal {
        Refusal::Missing => unauthorized(NO_TOKEN),
        Refusal::Wrong => unauthorized(WRONG_TOKEN),
        Refusal::Limited(wait) => limited(wait),
    })
}

fn unauthorized(reason: &str) -> HttpResponse {
    let mut answer = error(StatusCode::UNAUTHORIZED, reason);
    let challenge = actix_web::http::header::HeaderValue::from_static("Bearer realm=\"sentry-pagerduty-bridge\"");
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

fn limited(wait: Duration) -> HttpResponse {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    let reason = format!("{LIMITED}: wait {seconds} s");
    let mut answer = error(StatusCode::TOO_MANY_REQUESTS, &reason);
    if let Ok(value) = seconds.to_string().try_into() {
        answer.headers_mut().insert(RETRY_AFTER, value);
    }
    answer
}

async fn wrong_method(path: &'static str, request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    if let Err(refusal) = enter(&request, &shared, Utc::now()).await {
        return refusal;
    }
    let allowed = operation::methods(path);
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &format!("this address takes {allowed}"));
    if let Ok(value) = allowed.try_into() {
        answer.headers_mut().insert(ALLOW, value);
    }
    answer
}

async fn nothing(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    match enter(&request, &shared, Utc::now()).await {
        Ok(()) => error(StatusCode::NOT_FOUND, "nothing is here: see /api/openapi.json"),
        Err(refusal) => refusal,
    }
}

/// An answer as text, which no serialising of these types fails to make.
fn written(answer: &impl Serialize) -> String {
    match serde_json::to_string(answer) {
        // Most of these answers are read on a terminal.
        Ok(text) => match printable::json(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(printable) => printable,
        },
        Err(error) => {
            error!("an answer of /api could not be written: {error}");
            "null".to_owned()
        }
    }
}

fn error(status: StatusCode, reason: &str) -> HttpResponse {
    json(status, written(&Answer::Error { reason }))
}

/// JSON that nobody keeps and no browser takes for anything else.
fn json(status: StatusCode, text: String) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(text)
}
