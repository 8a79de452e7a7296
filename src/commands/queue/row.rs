//! What is told about an event or a rejected webhook, as JSON. The names are a contract.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::pagerduty::ServiceKey;
use crate::queue::{Record, Rejected, RejectedId, RejectedSummary, Summary};

/// The state of rejected webhooks, which are no events.
const REJECTED: &str = "rejected";

/// What `queue list` tells; `None` is written as null and means that there is no such thing.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) state: &'static str,
    pub(super) event_type: Option<&'static str>,
    pub(super) incident_key: Option<String>,
    pub(super) service_key: Option<String>,
    pub(super) description: Option<String>,
    pub(super) count: Option<u32>,
    pub(super) attempts: Option<u32>,
    pub(super) received_at: String,
    pub(super) next_attempt_at: Option<String>,
    pub(super) reason: Option<String>,
}

impl Row {
    pub(super) fn of_event(event: Summary, keys: Keys) -> Self {
        Self {
            id: event.id.to_string(),
            state: event.state.as_str(),
            event_type: Some(event.event_type.as_str()),
            incident_key: Some(event.incident_key.as_str().to_owned()),
            service_key: Some(keys.show(&event.service_key)),
            description: Some(event.description),
            count: Some(event.count),
            attempts: Some(event.attempts),
            received_at: time(event.received_at),
            next_attempt_at: event.next_attempt_at.map(time),
            reason: event.reason,
        }
    }

    pub(super) fn of_rejected(webhook: RejectedSummary) -> Self {
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
        }
    }
}

/// All that is known: what `queue show --json` and `queue export` tell.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    #[serde(flatten)]
    pub(super) row: Row,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// What only one of the two kinds has.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Rest {
    Event {
        first_seen: String,
        last_attempt_at: Option<String>,
        finished_at: Option<String>,
        blamed_seconds: f64,
        /// What is sent, as JSON; as text if it is none.
        event: Value,
    },
    Webhook {
        resource: Option<String>,
        #[serde(flatten)]
        body: Body,
    },
}

/// A body as it came.
#[derive(Debug, Serialize)]
pub(super) enum Body {
    #[serde(rename = "body")]
    Text(String),
    /// It is no UTF-8.
    #[serde(rename = "body_base64")]
    Base64(String),
}

impl Whole {
    pub(super) fn of_event(record: Record, keys: Keys) -> Self {
        let mut event = serde_json::from_slice(&record.body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&record.body).into_owned()));
        if let Some(key) = event.get_mut("service_key") {
            *key = keys.show(&record.service_key).into();
        }
        let rest = Rest::Event {
            first_seen: time(record.first_seen),
            last_attempt_at: record.last_attempt_at.map(time),
            finished_at: record.finished_at.map(time),
            blamed_seconds: record.blamed.as_secs_f64(),
            event,
        };
        Self { row: Row::of_event(record.into(), keys), rest }
    }

    pub(super) fn of_rejected(id: RejectedId, webhook: Rejected) -> Self {
        let size = webhook.body.len() as u64;
        let summary = RejectedSummary { id, received_at: webhook.received_at, reason: webhook.reason, size };
        let body = match String::from_utf8(webhook.body) {
            Ok(text) => Body::Text(text),
            Err(error) => Body::Base64(STANDARD.encode(error.as_bytes())),
        };
        Self { row: Row::of_rejected(summary), rest: Rest::Webhook { resource: webhook.resource, body } }
    }
}

/// Whether service keys are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keys {
    /// Their last four characters.
    Masked,
    Whole,
}

impl Keys {
    fn show(self, key: &ServiceKey) -> String {
        match self {
            Self::Masked => key.to_string(),
            Self::Whole => key.expose().to_owned(),
        }
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
