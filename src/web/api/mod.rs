//! `/api`: what the status page shows and does, as JSON. `docs/openapi.json` describes it.
//!
//! - `operations`: the table of operations, and what each of them does
//! - `responses`: the JSON of the responses
//!
//! Everything needs the admin token, as `Authorization: Bearer`; a browser with a session of the status page may read.

mod operations;
mod responses;

use std::borrow::Cow;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError};
use chrono::Utc;
use log::error;
use serde::Serialize;
use thiserror::Error;

use self::operations::ApiOperation;
use super::AppState;
use super::answer::{AnswerBody, not_found};
use super::auth::admin::AdminAuthError;
use super::auth::peer;
use super::body::BodyError;
use crate::printable;
use crate::queue::QueueError;

/// The OpenAPI description of `/api`.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Why a request fails; `Display` is the reason in the response.
#[derive(Debug, Error)]
enum ApiError {
    /// 404: there is no admin token, so there is no `/api`.
    #[error("not found")]
    Disabled,
    /// 401 or 429.
    #[error("{}", refused(*.0))]
    Unauthorized(AdminAuthError),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// 405.
    #[error("this address takes {allowed}")]
    MethodNotAllowed { allowed: String },
    /// 409.
    #[error("{0}")]
    Conflict(String),
    /// 400, 408 or 413.
    #[error("{}", not_read(*.0))]
    NotRead(BodyError),
    /// 503.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

fn refused(refusal: AdminAuthError) -> Cow<'static, str> {
    match refusal {
        AdminAuthError::Missing => {
            Cow::Borrowed("the admin token is missing: send one of BRIDGE_ADMIN_TOKEN as `Authorization: Bearer TOKEN`")
        }
        AdminAuthError::Wrong => Cow::Borrowed("the admin token is wrong: send one of BRIDGE_ADMIN_TOKEN"),
        AdminAuthError::Limited(_) => Cow::Owned(format!(
            "the admin token is wrong, and too many wrong ones were sent: wait {} s",
            seconds(refusal)
        )),
    }
}

fn not_read(error: BodyError) -> String {
    match error {
        BodyError::TooLarge(limit) => format!("the selection is larger than {limit} bytes: select fewer"),
        other => other.to_string(),
    }
}

/// How many seconds a refused caller has to wait.
fn seconds(refusal: AdminAuthError) -> u64 {
    let AdminAuthError::Limited(wait) = refusal else { return 0 };
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Disabled | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Unauthorized(AdminAuthError::Missing | AdminAuthError::Wrong) => StatusCode::UNAUTHORIZED,
            Self::Unauthorized(AdminAuthError::Limited(_)) => StatusCode::TOO_MANY_REQUESTS,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NotRead(error) => error.status(),
            Self::Queue(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            // The same response as for any unknown address, so that it reveals nothing.
            Self::Disabled => return not_found(),
            Self::Unauthorized(limited @ AdminAuthError::Limited(_)) => {
                response.insert_header((RETRY_AFTER, seconds(*limited)));
            }
            Self::Unauthorized(_) => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"sentry-pagerduty-bridge\""));
            }
            Self::MethodNotAllowed { allowed } => {
                response.insert_header((ALLOW, allowed.as_str()));
            }
            Self::Queue(error) => error!("/api could not be answered: {error}"),
            Self::BadRequest(_) | Self::NotFound(_) | Self::Conflict(_) | Self::NotRead(_) => {}
        }
        json_response(&mut response, written(&AnswerBody::Error { reason: &self.to_string() }))
    }
}

/// A caller who may do what the request asks for. As an extractor, it rejects all other requests.
struct Caller;

impl Caller {
    fn authenticate(request: &HttpRequest, state: &AppState) -> Result<Self, ApiError> {
        if !state.admin.is_enabled() {
            return Err(ApiError::Disabled);
        }
        let (headers, now) = (request.headers(), Utc::now());
        if request.method() == Method::GET && state.admin.session(headers, now).is_some() {
            return Ok(Self);
        }
        state.admin.bearer(headers, peer(request), now).map(|()| Self).map_err(ApiError::Unauthorized)
    }
}

impl FromRequest for Caller {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let state = Data::<AppState>::from_request(request, payload).into_inner();
        ready(state.and_then(|state| Ok(Self::authenticate(request, &state)?)))
    }
}

/// Adds `/api` to an application.
pub(super) fn routes(config: &mut ServiceConfig) {
    let operations = operations::all();
    let mut paths: Vec<_> = operations.iter().map(|operation| operation.path).collect();
    paths.dedup();
    for path in paths {
        let allowed = allowed(&operations, path);
        let others =
            move |_: Caller| ready(Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allowed: allowed.clone() }));
        let of_path = operations.iter().filter(|operation| operation.path == path);
        let resource = of_path.fold(web::resource(path), |resource, operation| resource.route((operation.route)()));
        config.service(resource.default_service(web::to(others)));
    }
    config.service(web::resource(["/api", "/api/{path:.*}"]).default_service(web::to(nothing)));
}

/// The methods of a path, as the header `Allow` lists them.
fn allowed(operations: &[ApiOperation], path: &str) -> String {
    let of_path = operations.iter().filter(|operation| operation.path == path);
    of_path.map(|operation| operation.method.as_str()).collect::<Vec<_>>().join(", ")
}

async fn nothing(_: Caller) -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound("not found: see /api/openapi.json".to_owned()))
}

/// 200 with this as JSON.
fn done(answer: &impl Serialize) -> HttpResponse {
    json_response(&mut HttpResponse::Ok(), written(answer))
}

/// Serialises to JSON text, which does not fail for these types.
fn written(answer: &impl Serialize) -> String {
    match serde_json::to_string(answer) {
        // Most of these responses are read on a terminal.
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

/// A JSON response that is not cached, and that browsers do not interpret as any other type.
fn json_response(response: &mut HttpResponseBuilder, text: String) -> HttpResponse {
    response
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_description_has_every_operation_and_no_other() {
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let described: BTreeSet<(String, String)> = described["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(move |method| (path.clone(), method.to_uppercase()))
            })
            .filter(|(_, method)| method != "PARAMETERS")
            .collect();
        let operations = operations::all();
        let served: BTreeSet<_> =
            operations.iter().map(|served| (served.path.to_owned(), served.method.to_string())).collect();
        assert_eq!(served, described);
        assert_eq!(served.len(), operations.len(), "one is listed twice");
    }

    #[test]
    fn the_description_is_of_this_version() {
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_path_stands_once_with_all_of_its_methods() {
        let operations = operations::all();
        let mut paths: Vec<_> = operations.iter().map(|operation| operation.path).collect();
        paths.dedup();
        assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len(), "{paths:?}");
        assert_eq!(allowed(&operations, "/api/events/{id}"), "GET, DELETE");
    }
}
