//! The JSON answers of the webhook.

use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;

use crate::pagerduty::{EventType, IncidentKey};

/// What a webhook is answered; the names of its members are a contract.
#[derive(Debug, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Answer<'a> {
    /// The event is committed and will reach PagerDuty.
    Queued {
        /// The incident it belongs to.
        incident_key: &'a IncidentKey,
        /// What it does to the incident.
        event_type: &'a str,
        /// `resolve` where Sentry had resolved it before the alert came, so that what it opens is closed at once.
        #[serde(skip_serializing_if = "Option::is_none")]
        followed_by: Option<&'a str>,
    },
    /// Understood, and nothing is to be done.
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

/// 202: the event is committed.
#[must_use]
pub fn queued(incident_key: &IncidentKey, event_type: EventType, followed_by: Option<EventType>) -> HttpResponse {
    let followed_by = followed_by.map(EventType::as_str);
    HttpResponse::Accepted().json(Answer::Queued { incident_key, event_type: event_type.as_str(), followed_by })
}

/// 202: nothing is to be done.
#[must_use]
pub fn ignored(reason: &str) -> HttpResponse {
    HttpResponse::Accepted().json(Answer::Ignored { reason })
}

/// An error under the status of `response`.
#[must_use]
pub fn error(response: &mut HttpResponseBuilder, reason: &str) -> HttpResponse {
    response.json(Answer::Error { reason })
}
