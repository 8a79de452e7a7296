//! `POST /sentry/{token}` and `POST /sentry`: what Sentry calls.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use log::{error, info, warn};
use tokio::time::timeout;

use super::Shared;
use super::answer;
use super::body::{self, BodyError};
use crate::intake::{Prepared, Rejection, Verdict, Webhook};
use crate::queue::{Accepted, NewEvent, Rejected};

/// The header that tells the webhooks of Sentry's integration platform apart.
const RESOURCE: &str = "Sentry-Hook-Resource";

/// How long an answer waits until a rejected body is kept; Sentry waits for answers at least as long.
const KEEPING: Duration = Duration::from_secs(1);

/// The webhook with its secret in the path.
pub async fn with_token(
    request: HttpRequest,
    token: Path<String>,
    payload: Payload,
    shared: Data<Shared>,
) -> HttpResponse {
    if shared.door.opens_to(token.as_bytes()) { take(&request, payload, &shared).await } else { shut(&request) }
}

/// The webhook with its secret as the password of HTTP Basic.
pub async fn with_header(request: HttpRequest, payload: Payload, shared: Data<Shared>) -> HttpResponse {
    if shared.door.opens_to_basic(request.headers()) { take(&request, payload, &shared).await } else { shut(&request) }
}

/// The body of a stranger is not even read.
fn shut(request: &HttpRequest) -> HttpResponse {
    let peer = request.peer_addr().map_or_else(|| "unknown".to_owned(), |peer| peer.ip().to_string());
    warn!(peer; "a webhook with a wrong or missing token was turned away");
    answer::error(
        &mut HttpResponse::Unauthorized(),
        "the token is wrong or missing: it has to be one of BRIDGE_WEBHOOK_TOKEN, at the end of the path or as the password of HTTP Basic",
    )
}

async fn take(request: &HttpRequest, payload: Payload, shared: &Shared) -> HttpResponse {
    let received_at = Utc::now();
    let body = match body::read(request, payload, shared.max_body).await {
        Ok(body) => body,
        Err(error) => {
            warn!("a webhook was not read: {error}");
            return answer::error(&mut HttpResponse::build(status_of(error)), &error.to_string());
        }
    };
    let resource = request.headers().get(RESOURCE).and_then(|value| value.to_str().ok());
    match shared.intake.judge(&Webhook { resource, body: &body, received_at }) {
        Verdict::Queue(prepared) => queue(*prepared, received_at, shared).await,
        Verdict::Ignored(reason) => {
            info!("a webhook was ignored: {reason}");
            answer::ignored(&reason.to_string())
        }
        Verdict::Rejected(rejection) => {
            warn!("a webhook was rejected: {rejection}");
            keep(shared, resource, &body, &rejection, received_at).await;
            let status = match rejection {
                Rejection::NotJson(_) => StatusCode::BAD_REQUEST,
                Rejection::NotSentry | Rejection::NoIssue => StatusCode::UNPROCESSABLE_ENTITY,
            };
            answer::error(&mut HttpResponse::build(status), &rejection.to_string())
        }
    }
}

async fn queue(prepared: Prepared, received_at: DateTime<Utc>, shared: &Shared) -> HttpResponse {
    let event = prepared.event;
    let incident_key = event.incident_key().clone();
    let service_key = event.service_key().clone();
    let event_type = event.event_type();
    match shared.queue.accept(NewEvent::new(event, received_at)).await {
        Ok(Accepted { id, count }) => {
            let event = id.get();
            if count > 1 {
                info!(event, count, incident_key:% = incident_key, service_key:% = service_key; "{event_type} folded into one that waits");
            } else {
                info!(event, incident_key:% = incident_key, service_key:% = service_key; "{event_type} queued");
            }
            answer::queued(&incident_key, event_type)
        }
        Err(error) => {
            error!(incident_key:% = incident_key; "an alert was not accepted: {error}");
            answer::error(&mut HttpResponse::ServiceUnavailable(), &error.to_string())
        }
    }
}

/// Keeps what was rejected, so that `queue` can show it and a later version may understand it. What is answered does
/// not depend on it.
async fn keep(shared: &Shared, resource: Option<&str>, body: &[u8], rejection: &Rejection, received_at: DateTime<Utc>) {
    let rejected = Rejected {
        received_at,
        resource: resource.map(str::to_owned),
        reason: rejection.to_string(),
        body: body.to_vec(),
    };
    match timeout(KEEPING, shared.queue.reject(rejected)).await {
        Ok(Ok(id)) => info!("it is kept as {id}: look at it with `queue show {id}`"),
        Ok(Err(error)) => warn!("it is not kept: {error}"),
        Err(_) => warn!("it may not be kept: the database took longer than {KEEPING:?}"),
    }
}

fn status_of(error: BodyError) -> StatusCode {
    match error {
        BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Broken => StatusCode::BAD_REQUEST,
        BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
    }
}
