//! `POST /sentry/{token}` and `POST /sentry`: authenticate, read, decide, enqueue, answer.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse, ResponseError, rt};
use chrono::{DateTime, Utc};
use log::{Level, debug, info, warn};
use percent_encoding::percent_decode_str;
use thiserror::Error;
use tokio::time::timeout;

use super::AppState;
use super::answer::{self, WebhookLabels, method_not_allowed, not_found};
use super::auth::webhook::{RESOURCE, Unauthorized, WebhookCredentials, WebhookSecrets, hook_signature};
use super::auth::{network, peer};
use super::body::{self, BodyError, Reservation};
use crate::canary::status::round_trip;
use crate::ingest::{CanaryId, Decision, IgnoreReason, Rejection, Webhook, WebhookFormat};
use crate::logging::log_throttled;
use crate::metrics::{HeldOutcome, Metrics, WebhookAnswer, WebhookSource};
use crate::queue::{
    CanaryChange, EnqueueRequest, Enqueued, EnqueuedEvent, HeldSender, HeldWebhook, QueueError, RejectedId,
    RejectedWebhook,
};
use crate::sentry::signature::{APP_SIGNATURE, HOOK_TIMESTAMP};

/// The header whose value is the same for every retry of one delivery. Sentry has sent it since 2026.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// How long a response waits for a rejected or held webhook to be committed; Sentry waits at least this long for a
/// response.
const KEEP_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a webhook is not accepted.
#[derive(Debug, Error)]
pub(super) enum WebhookError {
    /// 401.
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    /// 408, 413, 503, or 400 for a body that is incomplete.
    #[error(transparent)]
    NotRead(BodyError),
    /// 400 or 422.
    #[error("{rejection}")]
    Rejected { webhook_source: WebhookSource, rejection: Rejection },
    /// 503.
    #[error("{error}")]
    NotCommitted { webhook_source: WebhookSource, error: QueueError },
    /// 404: most likely an alert that is lost because of a typo in the URL.
    #[error("webhooks go to /sentry/{{token}}")]
    WrongPath,
    /// 405.
    #[error("send webhooks with POST: set this address as the callback URL of Sentry's WebHooks plugin")]
    WrongMethod,
}

impl WebhookError {
    fn labels(&self) -> WebhookLabels {
        let (source, answered) = match self {
            Self::Unauthorized(error) => return error.labels(),
            Self::NotRead(BodyError::NoMemory) => (WebhookSource::Unknown, WebhookAnswer::Unavailable),
            Self::NotRead(_) => (WebhookSource::Unknown, WebhookAnswer::Unread),
            Self::Rejected { webhook_source, .. } => (*webhook_source, WebhookAnswer::Rejected),
            Self::NotCommitted { webhook_source, .. } => (*webhook_source, WebhookAnswer::Unavailable),
            Self::WrongPath => (WebhookSource::Unknown, WebhookAnswer::NotFound),
            Self::WrongMethod => (WebhookSource::Unknown, WebhookAnswer::WrongMethod),
        };
        WebhookLabels { source, answered }
    }
}

impl ResponseError for WebhookError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Unauthorized(error) => error.status_code(),
            Self::NotRead(error) => error.status(),
            Self::Rejected { rejection: Rejection::NotJson(_), .. } => StatusCode::BAD_REQUEST,
            Self::Rejected { rejection: Rejection::NotSentry | Rejection::NoIssue, .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::NotCommitted { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::WrongPath => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let response = match self {
            Self::WrongPath => not_found(),
            Self::WrongMethod => method_not_allowed("POST", &self.to_string()),
            _ => {
                let mut response = HttpResponse::build(self.status_code());
                if matches!(self, Self::NotRead(BodyError::NoMemory)) {
                    response.insert_header((RETRY_AFTER, body::RETRY_AFTER));
                }
                answer::error(&mut response, &self.to_string())
            }
        };
        self.labels().attach(response)
    }
}

/// Counts every response below `/sentry` once, including those to wrong paths and methods.
pub(super) async fn count<B: MessageBody>(
    state: Data<AppState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let received_at = Utc::now();
    let response = next.call(request).await?;
    let counted = response.response().extensions().get().copied();
    if let Some(WebhookLabels { source, answered }) = counted {
        state.metrics.count_webhook(source, answered, received_at);
    }
    Ok(response)
}

/// Handles every request to `/sentry` and below.
///
/// The path is parsed here, because a route with a parameter is a regular expression, and matching it would take longer
/// than parsing a small alert.
pub(super) async fn dispatch(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, WebhookError> {
    let in_path = token_in(request.match_info().unprocessed());
    let is_webhook = in_path.is_none_or(|token| !token.contains('/'));
    let is_post = request.method() == Method::POST;
    // Requests of Sentry's own pages, for example to validate an alert's action, have the path from the integration's
    // schema instead of the webhook's path.
    let is_from_sentrys_pages = is_post && request.headers().contains_key(APP_SIGNATURE);
    if !is_webhook && !is_from_sentrys_pages {
        return Err(wrong_path(&request));
    }
    if !is_post {
        return Err(wrong_method(&request));
    }
    let token = in_path.map(|token| percent_decode_str(token).decode_utf8_lossy());
    let credentials = state.authentication.authenticate(token.as_deref(), request.headers());
    receive(credentials.map_err(|error| error.logged(&request))?, &request, payload, &state).await
}

/// Returns the token after `/sentry` in a path, if there is one. Ignores a trailing slash, so that it does not cost an
/// alert.
fn token_in(rest_of_path: &str) -> Option<&str> {
    let token = rest_of_path.strip_prefix('/').filter(|token| !token.is_empty())?;
    Some(token.strip_suffix('/').filter(|token| !token.is_empty()).unwrap_or(token))
}

/// Handles a webhook after its headers were checked: reads the body, decides, enqueues and responds.
async fn receive(
    credentials: WebhookCredentials,
    request: &HttpRequest,
    mut payload: Payload,
    state: &AppState,
) -> Result<HttpResponse, WebhookError> {
    let received_at = Utc::now();
    let headers = request.headers();
    let (body, reservation) = read(request, &mut payload, state, credentials, received_at).await?;
    let parsing = state.body_memory.parse(body.len()).await;

    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let webhook = Webhook {
        resource: text(RESOURCE),
        has_app_signature: headers.contains_key(APP_SIGNATURE),
        idempotency_key: text(IDEMPOTENCY_KEY),
        sent_at: sent_at(headers),
        body: &body,
        is_signature_verified: credentials.needs_signature(),
        received_at,
    };
    let (decision, format) = state.ingest.decide_with_format(&webhook);
    let source = match format {
        Some(WebhookFormat::Legacy) => WebhookSource::Legacy,
        Some(WebhookFormat::Platform) => WebhookSource::Platform,
        None => WebhookSource::Unknown,
    };

    let enqueue = match decision {
        Decision::Enqueue(enqueue) => enqueue,
        Decision::Ignored(IgnoreReason::Canary(id)) => return canary(state, id, source, received_at).await,
        Decision::Ignored(reason) => return Ok(ignored(source, reason)),
        Decision::Rejected(rejection) => {
            let rejected = RejectedWebhook::new(&webhook, &rejection);
            drop((body, parsing));
            keep(state, rejected, &rejection, reservation).await;
            return Err(WebhookError::Rejected { webhook_source: source, rejection });
        }
    };
    if let Some(two_way) = &state.two_way
        && two_way.settings.is_echo(&state.queue, &enqueue).await
    {
        return Ok(ignored(source, IgnoreReason::Echo));
    }
    // The largest allocations of a request; they are not needed while waiting for the disk.
    drop((body, parsing, reservation));
    commit(state, enqueue, source).await
}

/// Logs and returns the error for any method other than POST.
fn wrong_method(request: &HttpRequest) -> WebhookError {
    let (peer, method) = (peer_of(request), request.method());
    log_throttled!(
        Level::Warn, "requests to the webhook were answered 405", peer, method:%;
        "a request to the webhook was answered 405: Sentry posts its webhooks"
    );
    WebhookError::WrongMethod
}

/// Logs and returns the error for any other path under `/sentry`.
fn wrong_path(request: &HttpRequest) -> WebhookError {
    let (peer, method) = (peer_of(request), request.method());
    // The path is not logged, because it may contain the token.
    log_throttled!(
        Level::Warn, "requests to addresses under /sentry that do not exist were answered 404", peer, method:%;
        "a request to an address under /sentry that does not exist was answered 404: webhooks \
         go to /sentry/{{token}}"
    );
    WebhookError::WrongPath
}

fn peer_of(request: &HttpRequest) -> String {
    peer(request).map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())
}

/// Reads the body and verifies its signature where it needs one.
async fn read(
    request: &HttpRequest,
    payload: &mut Payload,
    state: &AppState,
    credentials: WebhookCredentials,
    received_at: DateTime<Utc>,
) -> Result<(Bytes, Reservation), WebhookError> {
    let mut reservation = state.body_memory.open(credentials.has_token());
    let body = match body::read(request, payload, state.max_body, Some(&mut reservation)).await {
        Ok(body) => body,
        Err(error) => {
            drop(reservation);
            if error == BodyError::NoMemory {
                body::discard(payload).await;
            }
            log_not_read(error, credentials);
            return Err(WebhookError::NotRead(error));
        }
    };
    if credentials.needs_signature() {
        let secrets = state.authentication.secrets();
        if !secrets.is_signed(request.headers(), &body) {
            if let Some(peer) = peer(request) {
                state.metrics.record_wrong_signature_sender(peer);
            }
            hold(request, state, credentials, body, reservation, secrets, received_at).await;
            return Err(Unauthorized::WrongSignature.logged(request).into());
        }
    }
    reservation.mark_authenticated();
    Ok((body, reservation))
}

/// Holds a webhook whose signature no known secret made, because Sentry may already use a new secret. The response does
/// not depend on the result, so that a client cannot learn from it what is held.
async fn hold(
    request: &HttpRequest,
    state: &AppState,
    credentials: WebhookCredentials,
    body: Bytes,
    reservation: Reservation,
    secrets: Arc<WebhookSecrets>,
    received_at: DateTime<Utc>,
) {
    let headers = request.headers();
    let Some(signature) = hook_signature(headers).filter(|_| !body.is_empty()) else { return };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let sender = if credentials.has_token() {
        HeldSender::Token
    } else {
        HeldSender::Network(peer(request).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), network))
    };
    let held = HeldWebhook {
        received_at,
        sender,
        signature: signature.bytes(),
        resource: text(RESOURCE),
        idempotency_key: text(IDEMPOTENCY_KEY),
        sent_at: sent_at(headers),
        body: Vec::from(body),
    };
    let (queue, metrics) = (state.queue.clone(), state.metrics.clone());
    let holding = async move {
        let is_held = queue.hold(held).await;
        // Whoever replaced the secrets meanwhile admits what is held until this handle is dropped.
        drop(secrets);
        is_held
    };
    let report = move |is_held| report_held(&metrics, is_held);
    if !store(holding, reservation, report).await {
        log_throttled!(
            Level::Warn, "webhooks with a wrong signature were not held at once";
            "a webhook with a wrong signature is not held yet: the database takes longer than {KEEP_TIMEOUT:?}"
        );
    }
}

/// Counts and logs what became of a webhook that was to be held.
fn report_held(metrics: &Metrics, is_held: Result<bool, QueueError>) {
    let not_held = match is_held {
        Ok(true) => {
            metrics.count_held(HeldOutcome::Held, 1);
            log_throttled!(
                Level::Warn, "webhooks with a wrong signature are held";
                "a webhook with a wrong signature is held for 24 hours, until a new secret verifies it"
            );
            return;
        }
        Ok(false) => {
            metrics.count_held(HeldOutcome::NoRoom, 1);
            "too many are held already".to_owned()
        }
        Err(error) => error.to_string(),
    };
    log_throttled!(
        Level::Warn, "webhooks with a wrong signature were not held";
        "a webhook with a wrong signature is not held: {not_held}"
    );
}

/// Stores a rejected or held webhook, and reports the result, no matter how long that takes. The memory of the body stays
/// reserved until then. Returns whether it took no longer than [`KEEP_TIMEOUT`], for which the client waits.
async fn store<T: 'static>(
    storing: impl Future<Output = Result<T, QueueError>> + 'static,
    reservation: Reservation,
    report: impl FnOnce(Result<T, QueueError>) + 'static,
) -> bool {
    let task = rt::spawn(async move {
        let stored = storing.await;
        drop(reservation);
        report(stored);
    });
    timeout(KEEP_TIMEOUT, task).await.is_ok()
}

fn log_not_read(error: BodyError, credentials: WebhookCredentials) {
    // Without a token, nothing shows that the lost webhook is an alert.
    let is_lost = error == BodyError::NoMemory && credentials.has_token();
    let level = if is_lost { Level::Error } else { Level::Warn };
    log_throttled!(
        level, format!("webhooks were not read and answered {}", error.status().as_u16());
        "a webhook was not read: {error}"
    );
}

fn sent_at(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let seconds = headers.get(HOOK_TIMESTAMP)?.to_str().ok()?.trim().parse().ok()?;
    DateTime::from_timestamp(seconds, 0)
}

fn ignored(source: WebhookSource, reason: IgnoreReason) -> HttpResponse {
    log_throttled!(Level::Info, format!("webhooks were ignored: {reason}"); "a webhook was ignored: {reason}");
    WebhookLabels { source, answered: WebhookAnswer::Ignored }.attach(answer::ignored(&reason.to_string()))
}

/// Responds once the return of the canary is committed, as for an alert, so that the canary tests the commit, too.
async fn canary(
    state: &AppState,
    id: Option<CanaryId>,
    source: WebhookSource,
    at: DateTime<Utc>,
) -> Result<HttpResponse, WebhookError> {
    if let Some(id) = id {
        match state.queue.record_canary(CanaryChange::Returned { id, at }).await {
            Ok(Some(sent_at)) => {
                let took = round_trip(sent_at, at);
                state.metrics.record_canary_return(took);
                info!(canary:% = id; "the canary came back after {:.1} s", took.as_secs_f64());
            }
            Ok(None) => {
                debug!(canary:% = id; "received a canary that was recorded before, or that another bridge sent");
            }
            Err(error) => {
                log_throttled!(
                    Level::Error, "canaries were not accepted", canary:% = id;
                    "the canary was not accepted: {error}"
                );
                return Err(WebhookError::NotCommitted { webhook_source: source, error });
            }
        }
    }
    let response = answer::ignored(&IgnoreReason::Canary(id).to_string());
    Ok(WebhookLabels { source, answered: WebhookAnswer::Canary }.attach(response))
}

/// Responds once the event is committed to the queue.
async fn commit(
    state: &AppState,
    enqueue: Box<EnqueueRequest>,
    source: WebhookSource,
) -> Result<HttpResponse, WebhookError> {
    let (incident_key, event_type) = (enqueue.incident_key().clone(), enqueue.event_type());
    let events = match state.queue.enqueue(enqueue).await {
        Ok(Enqueued::Queued(events)) => events,
        Ok(Enqueued::Ignored(reason)) => return Ok(ignored(source, reason)),
        Err(error) => {
            log_throttled!(
                Level::Error, "alerts were not accepted", incident_key:% = incident_key;
                "an alert was not accepted: {error}"
            );
            return Err(WebhookError::NotCommitted { webhook_source: source, error });
        }
    };
    // An event that follows a trigger has another type than the webhook's own event.
    let followed_by = events.iter().map(|event| event.event_type).find(|other| *other != event_type);
    for EnqueuedEvent { id, count, event_type } in events {
        let event = id.get();
        if followed_by == Some(event_type) {
            info!(event, incident_key:% = incident_key; "{event_type} queued: Sentry resolved this before its alert came");
        } else if count > 1 {
            log_throttled!(
                Level::Info, format!("alerts folded into event {event}"), event, count, incident_key:% = incident_key;
                "{event_type} folded into a waiting event"
            );
        } else {
            info!(event, incident_key:% = incident_key; "{event_type} queued");
        }
    }
    let response = answer::queued(&incident_key, event_type, followed_by);
    Ok(WebhookLabels { source, answered: WebhookAnswer::Queued }.attach(response))
}

/// Keeps a rejected webhook, so that people can look at it and a later version may understand it. The response does not
/// depend on the result.
async fn keep(state: &AppState, rejected: RejectedWebhook, rejection: &Rejection, reservation: Reservation) {
    let queue = state.queue.clone();
    let reason = rejection.to_string();
    let report = move |kept: Result<RejectedId, QueueError>| match kept {
        Ok(id) => {
            warn!(rejected:% = id; "a webhook was rejected: {reason}; it is kept as {id}: look at it with `queue show {id}`");
        }
        Err(error) => {
            log_throttled!(
                Level::Warn, "rejected webhooks were not kept";
                "a webhook was rejected: {reason}; it is not kept: {error}"
            );
        }
    };
    if !store(async move { queue.reject(rejected).await }, reservation, report).await {
        log_throttled!(
            Level::Warn, "rejected webhooks were not kept at once";
            "a webhook was rejected: {rejection}; it is not kept yet: the database takes longer than {KEEP_TIMEOUT:?}"
        );
    }
}
