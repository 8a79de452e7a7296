//! Events and rejected webhooks as JSON, for the command `queue` and for `/api`. The names of the fields are a contract.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

use super::{EventRecord, EventSummary, Proof, RejectedId, RejectedSummary, RejectedWebhook};
use crate::pagerduty::ServiceKey;

/// The state of rejected webhooks, which are not events.
const REJECTED: &str = "rejected";

/// An event or a rejected webhook as `queue list` shows it; `None` is written as null and means that the item has no such
/// value.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ItemSummary {
    /// Its number, as people write it.
    pub id: String,
    /// Its state: `waiting`, `dead`, `delivered` or `rejected`.
    pub state: &'static str,
    /// What it does to the incident: `trigger`, `acknowledge` or `resolve`.
    pub event_type: Option<&'static str>,
    /// The incident it belongs to.
    pub incident_key: Option<String>,
    /// The service key it goes to.
    pub service_key: Option<String>,
    /// The line people read first.
    pub description: Option<String>,
    /// How many alerts it stands for.
    pub count: Option<u32>,
    /// How many attempts were begun.
    pub attempts: Option<u32>,
    /// When the newest alert it stands for was received.
    pub received_at: String,
    /// When it is tried again; set only after a failed attempt.
    pub next_attempt_at: Option<String>,
    /// The reason for its state.
    pub reason: Option<String>,
    /// The name of the service key; left out where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What PagerDuty shows of a delivered event; left out where it was not looked up. Its `state` is `confirmed`,
    /// `suppressed`, `not_opened`, `resent` or `left_open`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

impl ItemSummary {
    /// Creates the summary of an event.
    #[must_use]
    pub fn of_event(event: EventSummary, keys: ServiceKeys) -> Self {
        Self {
            id: event.id.to_string(),
            state: event.state.as_str(),
            event_type: Some(event.event_type.as_str()),
            incident_key: Some(event.incident_key.as_str().to_owned()),
            service_key: Some(keys.show(&event.service_key)),
            description: Some(keys.clean(&event.service_key, event.description)),
            count: Some(event.count),
            attempts: Some(event.attempts),
            received_at: time(event.received_at),
            next_attempt_at: event.next_attempt_at.map(time),
            reason: event.reason.map(|reason| keys.clean(&event.service_key, reason)),
            service: None,
            proof: None,
        }
    }

    /// Creates the summary of a rejected webhook.
    #[must_use]
    pub fn of_rejected(webhook: RejectedSummary) -> Self {
        Self {
            id: webhook.id.to_string(),
            state: REJECTED,
            event_type: None,
            incident_key: None,
            service_key: None,
            description: None,
            count: None,
            attempts: None,
            received_at: time(webhook.received_at),
            next_attempt_at: None,
            reason: Some(webhook.reason),
            service: None,
            proof: None,
        }
    }

    /// Adds the name of its service key, and what PagerDuty shows of it.
    #[must_use]
    pub fn with_pagerduty(self, service: Option<String>, proof: Option<Proof>) -> Self {
        Self { service, proof, ..self }
    }
}

/// Everything that is stored about an event or a rejected webhook, as `queue show --json` and `queue export` show it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ItemDetails {
    /// An event.
    Event {
        /// The fields that a list shows.
        #[serde(flatten)]
        summary: ItemSummary,
        /// When the first alert it stands for was received.
        first_seen: String,
        /// When the last attempt was begun.
        last_attempt_at: Option<String>,
        /// When it was delivered or became a dead letter.
        finished_at: Option<String>,
        /// For a trigger that PagerDuty had not accepted by then: when a resolve of its incident was received.
        resolved_at: Option<String>,
        /// For how long in total the event itself was to blame, in seconds.
        blamed_seconds: f64,
        /// The body that is sent, as JSON, or as text if it is not valid JSON.
        event: Value,
    },
    /// A rejected webhook.
    Webhook {
        /// The fields that a list shows.
        #[serde(flatten)]
        summary: ItemSummary,
        /// The header `Sentry-Hook-Resource`.
        resource: Option<String>,
        /// The body as it was received.
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        /// The body in Base64, if it is not valid UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        body_base64: Option<String>,
    },
}

impl ItemDetails {
    /// Creates the details of an event, with the name of its service key and what PagerDuty shows of it.
    #[must_use]
    pub fn of_event(record: EventRecord, keys: ServiceKeys, service: Option<String>, proof: Option<Proof>) -> Self {
        // This covers the alert's own texts, too, which may contain the key.
        let text = keys.clean(&record.summary.service_key, String::from_utf8_lossy(&record.body).into_owned());
        let event = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self::Event {
            first_seen: time(record.summary.first_seen),
            last_attempt_at: record.last_attempt_at.map(time),
            finished_at: record.summary.finished_at.map(time),
            resolved_at: record.resolved_at.map(time),
            blamed_seconds: record.blamed.as_secs_f64(),
            summary: ItemSummary::of_event(record.summary, keys).with_pagerduty(service, proof),
            event,
        }
    }

    /// Creates the details of a rejected webhook, with each of `keys` masked where the text contains it.
    #[must_use]
    pub fn of_rejected(id: RejectedId, webhook: RejectedWebhook, keys: &[ServiceKey]) -> Self {
        let size = webhook.body.len() as u64;
        let summary = RejectedSummary { id, received_at: webhook.received_at, reason: webhook.reason, size };
        let (body, body_base64) = match String::from_utf8(webhook.body) {
            Ok(text) => (Some(keys.iter().fold(text, |text, key| key.mask(text))), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        Self::Webhook { summary: ItemSummary::of_rejected(summary), resource: webhook.resource, body, body_base64 }
    }
}

/// How service keys are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServiceKeys {
    /// By their last four characters.
    Masked,
    /// In full.
    Shown,
}

impl ServiceKeys {
    /// Returns a text that may contain the key, with the key masked unless keys are shown in full.
    fn clean(self, key: &ServiceKey, text: String) -> String {
        match self {
            Self::Masked => key.mask(text),
            Self::Shown => text,
        }
    }

    fn show(self, key: &ServiceKey) -> String {
        match self {
            Self::Masked => key.to_string(),
            Self::Shown => key.expose().to_owned(),
        }
    }
}

/// Formats a time, in UTC and to the millisecond.
#[must_use]
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
