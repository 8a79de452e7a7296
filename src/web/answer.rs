//! The JSON of the responses to webhooks, and the labels under which they are counted.

use actix_web::http::header::ALLOW;
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;

use crate::metrics::{WebhookAnswer, WebhookSource};
use crate::pagerduty::{EventType, IncidentKey};

/// The body of a response to a webhook. Its field names are a contract.
#[derive(Debug, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum AnswerBody<'a> {
    /// The event is committed to the queue.
    Queued {
        /// The incident it belongs to.
        incident_key: &'a IncidentKey,
        /// What it does to the incident.
        event_type: &'a str,
        /// `resolve` where Sentry had resolved the issue before its alert arrived, so that the incident is closed at once.
        #[serde(skip_serializing_if = "Option::is_none")]
        followed_by: Option<&'a str>,
    },
    /// The update of the issue is committed to the queue.
    #[serde(rename = "queued")]
    QueuedUpdate {
        /// The incident that PagerDuty's webhook is about.
        incident_key: &'a IncidentKey,
        /// What is done to its issue in Sentry: `resolve` or `unresolve`.
        issue: &'a str,
    },
    /// The webhook was understood, and there is nothing to do.
    Ignored {
        /// Why.
        reason: &'a str,
    },
    /// Not accepted.
    Error {
        /// Why, and what to do.
        reason: &'a str,
    },
}

/// The labels under which a webhook's response is counted. They are passed to the counting middleware in the extensions
/// of the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WebhookLabels {
    /// Where the webhook came from.
    pub source: WebhookSource,
    /// How it was answered.
    pub answered: WebhookAnswer,
}

impl WebhookLabels {
    /// Attaches these labels to `response`, so that it is counted under them.
    pub(super) fn attach(self, response: HttpResponse) -> HttpResponse {
        let mut response = response;
        response.extensions_mut().insert(self);
        response
    }
}

/// 202: the event is committed.
#[must_use]
pub fn queued(incident_key: &IncidentKey, event_type: EventType, followed_by: Option<EventType>) -> HttpResponse {
    let followed_by = followed_by.map(EventType::as_str);
    HttpResponse::Accepted().json(AnswerBody::Queued { incident_key, event_type: event_type.as_str(), followed_by })
}

/// 202: the update of an issue is committed.
#[must_use]
pub fn issue_update(incident_key: &IncidentKey, issue: &str) -> HttpResponse {
    HttpResponse::Accepted().json(AnswerBody::QueuedUpdate { incident_key, issue })
}

/// 202: there is nothing to do.
#[must_use]
pub fn ignored(reason: &str) -> HttpResponse {
    HttpResponse::Accepted().json(AnswerBody::Ignored { reason })
}

/// Returns an error with the status code of `response`.
#[must_use]
pub fn error(response: &mut HttpResponseBuilder, reason: &str) -> HttpResponse {
    response.json(AnswerBody::Error { reason })
}

/// 404.
pub(super) fn not_found() -> HttpResponse {
    error(&mut HttpResponse::NotFound(), "not found: webhooks go to /sentry/{token}")
}

/// 405.
pub(super) fn method_not_allowed(allow: &str, reason: &str) -> HttpResponse {
    error(HttpResponse::MethodNotAllowed().insert_header((ALLOW, allow)), reason)
}
