//! `POST /sentry/{token}` and `POST /sentry`: what Sentry calls.

use std::mem::discriminant;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderMap, RETRY_AFTER};
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, rt};
use chrono::{DateTime, Utc};
use log::{Level, info, log, warn};
use tokio::time::timeout;

use super::answer;
use super::body::{self, BodyError};
use super::body_memory::{self, Reservation};
use super::{RESOURCE, Shared, nothing_here};
use crate::ingest::{Generation, Ignored, Rejection, Verdict, Webhook};
use crate::logging::repeats::{self, Cause};
use crate::metrics::{Answered, Source};
use crate::pagerduty::{EventType, IncidentKey};
use crate::queue::{Accepted, Enqueue, Enqueued, Rejected};
use crate::sentry::signature::APP_SIGNATURE;

/// When Sentry sent a webhook of the integration platform, in seconds since 1970.
const TIMESTAMP: &str = "Sentry-Hook-Timestamp";

/// The same for every repetition of one delivery; Sentry sends it since 2026.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

const WRONG_TOKEN: &str = "the token is wrong or missing: it has to be one of BRIDGE_WEBHOOK_TOKEN, at the end of the \
                           path, as the password of HTTP Basic or as a bearer token";
const WRONG_SIGNATURE: &str = "the signature is wrong or missing: Sentry-Hook-Signature has to be made of the very body \
                               with the Client Secret that BRIDGE_SENTRY_CLIENT_SECRET holds";

const POST_ONLY: &str =
    "Sentry's webhooks are sent with POST: set this address as the callback URL of the WebHooks plugin";

/// How a request has shown that it may come in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    /// By a token, before its body was read.
    Token,
    /// Not yet: only the signature of its body can show it.
    ToBeSigned,
}

/// What a webhook is answered, and as what that is counted.
struct Reply {
    source: Source,
    answered: Answered,
    response: HttpResponse,
}

impl Reply {
    fn new(source: Source, answered: Answered, response: HttpResponse) -> Self {
        Self { source, answered, response }
    }
}

/// How long an answer waits until a rejected body is kept; Sentry waits for answers at least as long.
const KEEPING: Duration = Duration::from_secs(1);

/// The webhook with its secret in the path.
pub async fn with_token(
    request: HttpRequest,
    token: Path<String>,
    payload: Payload,
    shared: Data<Shared>,
) -> HttpResponse {
    let received_at = Utc::now();
    let reply = if shared.door.opens_to(token.as_bytes()) {
        take(&request, payload, &shared, Proof::Token, received_at).await
    } else {
        shut(&request, Answered::WrongToken)
    };
    counted(reply, &shared, received_at)
}

/// The webhook with its secret in the header `Authorization`, or with nothing but Sentry's signature.
pub async fn with_header(request: HttpRequest, payload: Payload, shared: Data<Shared>) -> HttpResponse {
    let received_at = Utc::now();
    let reply = if shared.door.opens_to_authorization(request.headers()) {
        take(&request, payload, &shared, Proof::Token, received_at).await
    } else if shared.door.may_be_signed(request.headers()) {
        take(&request, payload, &shared, Proof::ToBeSigned, received_at).await
    } else if shared.door.wants_signature(request.headers()) {
        shut(&request, Answered::Unsigned)
    } else {
        shut(&request, Answered::WrongToken)
    };
    counted(reply, &shared, received_at)
}

/// Any other address under `/sentry`: most likely an alert that is lost by a typo.
pub async fn elsewhere(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    let line = repeats::line(Cause::Elsewhere, Level::Warn);
    let (peer, method) = (peer_of(&request), request.method());
    // What stands in the path may be the token.
    log!(line.level, peer, method:%; "a request to an address under /sentry that does not exist was answered 404: webhooks \
         go to /sentry/{{token}}{line}");
    counted(Reply::new(Source::Unknown, Answered::NotFound, nothing_here()), &shared, Utc::now())
}

/// Any other method than POST.
pub async fn wrong_method(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    let line = repeats::line(Cause::WrongMethod, Level::Warn);
    let (peer, method) = (peer_of(&request), request.method());
    log!(line.level, peer, method:%; "a request to the webhook was answered 405: Sentry posts its webhooks{line}");
    let mut response = HttpResponse::MethodNotAllowed();
    response.insert_header((ALLOW, "POST"));
    let response = answer::error(&mut response, POST_ONLY);
    counted(Reply::new(Source::Unknown, Answered::WrongMethod, response), &shared, Utc::now())
}

/// The address of the connection, which is the proxy's where there is one.
fn peer_of(request: &HttpRequest) -> String {
    request.peer_addr().map_or_else(|| "unknown".to_owned(), |peer| peer.ip().to_string())
}

/// Every answer of the webhook passes here.
fn counted(reply: Reply, shared: &Shared, received_at: DateTime<Utc>) -> HttpResponse {
    shared.metrics.webhook(reply.source, reply.answered, received_at);
    reply.response
}

/// Turns away whoever has shown nothing; the body of a stranger is not even read.
fn shut(request: &HttpRequest, answered: Answered) -> Reply {
    let (what, reason) =
        if answered == Answered::WrongToken { ("token", WRONG_TOKEN) } else { ("signature", WRONG_SIGNATURE) };
    let peer = peer_of(request);
    let line = repeats::line(Cause::Unproven { signature: what == "signature" }, Level::Warn);
    log!(line.level, peer; "a webhook with a wrong or missing {what} was turned away{line}");
    Reply::new(Source::Unknown, answered, answer::error(&mut HttpResponse::Unauthorized(), reason))
}

async fn take(
    request: &HttpRequest,
    mut payload: Payload,
    shared: &Shared,
    proof: Proof,
    received_at: DateTime<Utc>,
) -> Reply {
    let headers = request.headers();
    let wants_signature = shared.door.wants_signature(headers);
    if wants_signature && !shared.door.may_be_signed(headers) {
        return shut(request, Answered::Unsigned);
    }
    let mut reservation = shared.body_memory.open(proof == Proof::Token);
    let body = match body::read(request, &mut payload, shared.max_body, Some(&mut reservation)).await {
        Ok(body) => body,
        Err(error) => {
            drop(reservation);
            if error == BodyError::Crowded {
                body::discard(&mut payload).await;
            }
            return unread(error, proof);
        }
    };
    if wants_signature && !shared.door.is_signed(headers, &body) {
        if let Some(peer) = request.peer_addr() {
            shared.metrics.wrong_signature_from(peer.ip());
        }
        return shut(request, Answered::WrongSignature);
    }
    reservation.prove();
    let parsing = shared.body_memory.parse(body.len()).await;

    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let webhook = Webhook {
        resource: text(RESOURCE),
        from_sentrys_pages: headers.contains_key(APP_SIGNATURE),
        idempotency_key: text(IDEMPOTENCY_KEY),
        sent_at: sent_at(headers),
        body: &body,
        is_signed: wants_signature,
        received_at,
    };
    let (verdict, generation) = shared.ingest.judge_and_place(&webhook);
    let source = match generation {
        Some(Generation::Plugin) => Source::Legacy,
        Some(Generation::Platform) => Source::Platform,
        None => Source::Unknown,
    };
    let (answered, response) = match verdict {
        Verdict::Queue(prepared) => {
            let (incident_key, event_type) = (prepared.event.incident_key().clone(), prepared.event.event_type());
            let incoming = Enqueue::trigger(*prepared, received_at);
            // The largest things a request holds, and nobody needs them while the disk is waited for.
            drop((body, parsing, reservation));
            receive(incoming, &incident_key, event_type, shared).await
        }
        Verdict::Follow(follow_up) => {
            let (incident_key, event_type) = (follow_up.incident_key.clone(), follow_up.event_type());
            let incoming = Enqueue::follow_up(*follow_up, received_at);
            drop((body, parsing, reservation));
            receive(incoming, &incident_key, event_type, shared).await
        }
        Verdict::Ignored(reason) => ignore(reason),
        Verdict::Rejected(rejection) => {
            let rejected = rejected(&webhook, &rejection);
            let rejected = Rejected { body: Vec::from(body), ..rejected };
            drop(parsing);
            keep(shared, rejected, &rejection, reservation).await;
            let status = match rejection {
                Rejection::NotJson(_) => StatusCode::BAD_REQUEST,
                Rejection::NotSentry | Rejection::NoIssue => StatusCode::UNPROCESSABLE_ENTITY,
            };
            (Answered::Rejected, answer::error(&mut HttpResponse::build(status), &rejection.to_string()))
        }
    };
    Reply::new(source, answered, response)
}

fn sent_at(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let seconds = headers.get(TIMESTAMP)?.to_str().ok()?.trim().parse().ok()?;
    DateTime::from_timestamp(seconds, 0)
}

fn ignore(reason: Ignored) -> (Answered, HttpResponse) {
    let line = repeats::line(Cause::Ignored(discriminant(&reason)), Level::Info);
    log!(line.level, "a webhook was ignored: {reason}{line}");
    (Answered::Ignored, answer::ignored(&reason.to_string()))
}

/// Hands it to the queue, and answers when that has it on disk.
async fn receive(
    incoming: Enqueue,
    incident_key: &IncidentKey,
    event_type: EventType,
    shared: &Shared,
) -> (Answered, HttpResponse) {
    match shared.queue.enqueue(incoming).await {
        Ok(Enqueued::Queued(events)) => {
            // What a trigger brought with it has another type than the webhook.
            let followed_by = events.iter().map(|event| event.event_type).find(|other| *other != event_type);
            for Accepted { id, count, event_type } in events {
                let event = id.get();
                if followed_by == Some(event_type) {
                    info!(event, incident_key:% = incident_key; "{event_type} queued: Sentry resolved this before its alert came");
                } else if count > 1 {
                    let line = repeats::line(Cause::Folded(event), Level::Info);
                    log!(line.level, event, count, incident_key:% = incident_key; "{event_type} folded into one that waits{line}");
                } else {
                    info!(event, incident_key:% = incident_key; "{event_type} queued");
                }
            }
            (Answered::Queued, answer::queued(incident_key, event_type, followed_by))
        }
        Ok(Enqueued::Repeated) => ignore(Ignored::Repeated),
        Ok(Enqueued::Replayed) => ignore(Ignored::Replayed),
        Ok(Enqueued::Outdated) => ignore(Ignored::Outdated),
        Ok(Enqueued::NothingOpen) => ignore(Ignored::NothingOpen(event_type)),
        Err(error) => {
            let line = repeats::line(Cause::NotAccepted, Level::Error);
            log!(line.level, incident_key:% = incident_key; "an alert was not accepted: {error}{line}");
            let response = answer::error(&mut HttpResponse::ServiceUnavailable(), &error.to_string());
            (Answered::Unavailable, response)
        }
    }
}

/// What is answered to a body that was not read.
fn unread(error: BodyError, proof: Proof) -> Reply {
    let (status, is_crowded) = (status_of(error), error == BodyError::Crowded);
    // A stranger's is no alert that is lost.
    let level = if is_crowded && proof == Proof::Token { Level::Error } else { Level::Warn };
    let line = repeats::line(Cause::NotRead(status.as_u16()), level);
    log!(line.level, "a webhook was not read: {error}{line}");
    let mut response = HttpResponse::build(status);
    if is_crowded {
        response.insert_header((RETRY_AFTER, body_memory::RETRY_AFTER));
    }
    let answered = if is_crowded { Answered::Unavailable } else { Answered::Unread };
    Reply::new(Source::Unknown, answered, answer::error(&mut response, &error.to_string()))
}

/// What is kept of a webhook that was rejected but its body: all that it takes to judge it again.
fn rejected(webhook: &Webhook<'_>, rejection: &Rejection) -> Rejected {
    Rejected {
        received_at: webhook.received_at,
        resource: webhook.resource.map(str::to_owned),
        idempotency_key: webhook.idempotency_key.map(str::to_owned),
        sent_at: webhook.sent_at,
        from_sentrys_pages: webhook.from_sentrys_pages,
        is_signed: webhook.is_signed,
        reason: rejection.to_string(),
        body: Vec::new(),
    }
}

/// Keeps what was rejected, so that `queue` can show it and a later version may understand it. What is answered does
/// not depend on it.
async fn keep(shared: &Shared, rejected: Rejected, rejection: &Rejection, reservation: Reservation) {
    let queue = shared.queue.clone();
    // Its body is held until it is committed, however long whoever sent it is willing to wait.
    let kept = rt::spawn(async move {
        let kept = queue.reject(rejected).await;
        drop(reservation);
        kept
    });
    let not_kept = match timeout(KEEPING, kept).await {
        Ok(Ok(Ok(id))) => {
            warn!(rejected:% = id; "a webhook was rejected: {rejection}; it is kept as {id}: look at it with `queue show {id}`");
            return;
        }
        Ok(Ok(Err(error))) => format!("it is not kept: {error}"),
        Ok(Err(error)) => format!("it is not kept: {error}"),
        Err(_) => format!("it may not be kept: the database took longer than {KEEPING:?}"),
    };
    let line = repeats::line(Cause::NotKept, Level::Warn);
    log!(line.level, "a webhook was rejected: {rejection}; {not_kept}{line}");
}

fn status_of(error: BodyError) -> StatusCode {
    match error {
        BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Broken => StatusCode::BAD_REQUEST,
        BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        BodyError::Crowded => StatusCode::SERVICE_UNAVAILABLE,
    }
}
