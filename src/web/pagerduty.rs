//! `POST /pagerduty`: PagerDuty's webhooks V3, which report what people did to incidents.
//!
//! PagerDuty waits five seconds for a response, retries a webhook that was answered 5xx for two days, and drops one that
//! was answered 4xx: after three of those in a row it disables the subscription for a day. So a webhook with a correct
//! signature is answered 202 once it is committed, and also if it asks for nothing.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use log::{Level, info};

use super::AppState;
use super::answer::{self, method_not_allowed, not_found};
use super::auth::peer;
use super::body;
use crate::logging::log_throttled;
use crate::metrics::{PagerDutyAnswer, UpdateOutcome};
use crate::pagerduty::IncidentKey;
use crate::queue::{IssueUpdateChange, QueueError};
use crate::two_way::webhook::{NoUpdate, SIGNATURE, WEBHOOK_ID, is_signed, requested_update};

/// The largest body that is read. PagerDuty sends 256 KB at most.
const MAX_BODY: usize = 1024 * 1024;

const WRONG_SIGNATURE: &str = "the signature is wrong or missing: X-PagerDuty-Signature must be made from the body with the secret \
                               of the webhook subscription, as set in BRIDGE_PAGERDUTY_WEBHOOK_SECRET";

/// Handles a webhook. Returns 404 while no secret is set.
pub(super) async fn receive(request: HttpRequest, mut payload: Payload, state: Data<AppState>) -> HttpResponse {
    let Some(two_way) = &state.two_way else { return not_found() };
    let received_at = Utc::now();
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let mut reservation = state.body_memory.open(false);
    let read = match header(SIGNATURE) {
        // Without a signature nothing could authenticate the body, so it is not read.
        None => Err((PagerDutyAnswer::WrongSignature, StatusCode::UNAUTHORIZED, WRONG_SIGNATURE.to_owned())),
        Some(signature) => match body::read(&request, &mut payload, MAX_BODY, Some(&mut reservation)).await {
            Err(error) => Err((PagerDutyAnswer::Unread, error.status(), error.to_string())),
            Ok(body) if is_signed(signature, &two_way.secrets.borrow(), &body) => Ok(body),
            Ok(_) => Err((PagerDutyAnswer::WrongSignature, StatusCode::UNAUTHORIZED, WRONG_SIGNATURE.to_owned())),
        },
    };
    let body = match read {
        Ok(body) => body,
        Err((answered, status, reason)) => {
            state.metrics.count_pagerduty_webhook(answered);
            let peer = peer(&request).map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            log_throttled!(
                Level::Warn, "webhooks of PagerDuty were refused", peer;
                "a webhook of PagerDuty was refused: {reason}"
            );
            return answer::error(&mut HttpResponse::build(status), &reason);
        }
    };
    let update = match requested_update(&body, header(WEBHOOK_ID), received_at, &two_way.settings) {
        Ok(update) => update,
        Err(unwanted) => {
            if let NoUpdate::ReopenOff { incident_key, happened_at } = &unwanted
                && let Err(error) = withdraw(&state, incident_key, *happened_at, received_at).await
            {
                return unavailable(&state, &error);
            }
            return ignored(&state, &unwanted);
        }
    };
    drop((body, reservation));
    let incident_key = update.incident_key.clone();
    let is_known = match state.queue.reader().knows_incident(&incident_key).await {
        Ok(is_known) => is_known,
        Err(error) => return unavailable(&state, &error),
    };
    if !is_known {
        return ignored(&state, &NoUpdate::Unknown(incident_key));
    }
    let change = update.change;
    match state.queue.record_issue_update(IssueUpdateChange::Received(update)).await {
        Ok(true) => {
            info!(incident_key:% = incident_key; "a person {} the incident in PagerDuty, so its issue becomes {} in Sentry", change.in_pagerduty(), change.in_sentry());
            state.metrics.count_pagerduty_webhook(PagerDutyAnswer::Queued);
            answer::issue_update(&incident_key, change.name())
        }
        Ok(false) => ignored(&state, &NoUpdate::Repeated),
        Err(error) => unavailable(&state, &error),
    }
}

/// Ends the resolve of an issue that still waits for Sentry when its incident is reopened: Sentry's webhook about it would
/// close the incident again.
async fn withdraw(
    state: &AppState,
    incident_key: &IncidentKey,
    reopened_at: DateTime<Utc>,
    at: DateTime<Utc>,
) -> Result<(), QueueError> {
    let change = IssueUpdateChange::Reopened { incident_key: incident_key.clone(), reopened_at, at };
    if state.queue.record_issue_update(change).await? {
        info!(incident_key:% = incident_key; "a person reopened the incident in PagerDuty before its issue was resolved in Sentry, so it is not resolved");
        state.metrics.count_issue_update(UpdateOutcome::Superseded);
    }
    Ok(())
}

/// Handles any method other than POST.
pub(super) async fn wrong_method(state: Data<AppState>) -> HttpResponse {
    if state.two_way.is_none() {
        return not_found();
    }
    method_not_allowed(
        "POST",
        "send webhooks with POST: set this address as the URL of PagerDuty's webhook subscription",
    )
}

fn ignored(state: &AppState, unwanted: &NoUpdate) -> HttpResponse {
    let level = if matches!(unwanted, NoUpdate::Shape(_) | NoUpdate::NoKey) { Level::Warn } else { Level::Info };
    log_throttled!(level, "webhooks of PagerDuty were ignored"; "a webhook of PagerDuty was ignored: {unwanted}");
    state.metrics.count_pagerduty_webhook(PagerDutyAnswer::Ignored);
    answer::ignored(&unwanted.to_string())
}

/// Returns 503, so that PagerDuty sends the webhook again.
fn unavailable(state: &AppState, error: &QueueError) -> HttpResponse {
    log_throttled!(
        Level::Error, "webhooks of PagerDuty were not accepted";
        "a webhook of PagerDuty was not accepted, and PagerDuty sends it again: {error}"
    );
    state.metrics.count_pagerduty_webhook(PagerDutyAnswer::Unavailable);
    answer::error(&mut HttpResponse::ServiceUnavailable(), &error.to_string())
}
