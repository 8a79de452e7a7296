//! The items of the queue that people see and name by their numbers: events and rejected webhooks.
//!
//! Rejected webhooks are kept so that a later version may understand them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use thiserror::Error;

use super::{EventId, State};
use crate::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use crate::sentry::{Rejection, Webhook};

/// The number of an event (`7`) or of a rejected webhook (`r7`), as people write it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ItemId {
    /// An event.
    Event(EventId),
    /// A rejected webhook.
    Rejected(RejectedId),
}

/// The error for a text that is not an [`ItemId`].
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("this is not a number of the queue: events are numbered like `7`, rejected webhooks like `r7`")]
pub struct InvalidItemId;

impl FromStr for ItemId {
    type Err = InvalidItemId;

    fn from_str(text: &str) -> Result<Self, InvalidItemId> {
        let (digits, item): (_, fn(i64) -> Self) = match text.strip_prefix('r') {
            Some(digits) => (digits, |number| Self::Rejected(RejectedId::new(number))),
            None => (text, |number| Self::Event(EventId::new(number))),
        };
        // `parse` alone would accept a sign.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number).map(item).ok_or(InvalidItemId)
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(id) => id.fmt(f),
            Self::Rejected(id) => id.fmt(f),
        }
    }
}

/// The maximum number of rejected webhooks that are kept; the oldest is deleted first.
pub const MAX_REJECTED: u32 = 1_000;

/// The maximum total size, in bytes, of the bodies of rejected webhooks; the oldest is deleted first. A body that is
/// larger by itself is not kept.
pub const MAX_REJECTED_BYTES: u32 = 64 * 1024 * 1024;

/// The number of a rejected webhook; written like `r7`, to distinguish it from the number of an event. No number is used
/// twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RejectedId(i64);

impl RejectedId {
    /// The rejected webhook with this number.
    #[must_use]
    pub fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for RejectedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// A webhook that was answered 400 or 422, with everything that is needed to map it again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RejectedWebhook {
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// Its header `Sentry-Hook-Resource`.
    pub resource: Option<String>,
    /// Its header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Its header `Sentry-Hook-Timestamp`.
    pub sent_at: Option<DateTime<Utc>>,
    /// Whether it had the header `Sentry-App-Signature`.
    pub has_app_signature: bool,
    /// Whether its body was authenticated by Sentry's signature.
    pub is_signature_verified: bool,
    /// Why it was rejected.
    pub reason: String,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
}

impl RejectedWebhook {
    /// What is kept of a webhook that was rejected.
    #[must_use]
    pub fn new(webhook: &Webhook<'_>, rejection: &Rejection) -> Self {
        Self {
            received_at: webhook.received_at,
            resource: webhook.resource.map(str::to_owned),
            idempotency_key: webhook.idempotency_key.map(str::to_owned),
            sent_at: webhook.sent_at,
            has_app_signature: webhook.has_app_signature,
            is_signature_verified: webhook.is_signature_verified,
            reason: rejection.to_string(),
            body: webhook.body.to_vec(),
        }
    }

    /// The webhook as it came.
    #[must_use]
    pub fn webhook(&self) -> Webhook<'_> {
        Webhook {
            resource: self.resource.as_deref(),
            has_app_signature: self.has_app_signature,
            idempotency_key: self.idempotency_key.as_deref(),
            sent_at: self.sent_at,
            body: &self.body,
            is_signature_verified: self.is_signature_verified,
            received_at: self.received_at,
        }
    }
}

/// An event in a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EventSummary {
    /// Its number.
    pub id: EventId,
    /// Its state.
    pub state: State,
    /// The integration it goes to.
    pub service_key: ServiceKey,
    /// The incident it belongs to.
    pub incident_key: IncidentKey,
    /// What it does to the incident.
    pub event_type: EventType,
    /// The line people read first; empty for events that carry none.
    pub description: String,
    /// How many alerts it stands for.
    pub count: u32,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the newest alert it stands for came.
    pub received_at: DateTime<Utc>,
    /// When the first alert it stands for came.
    pub first_seen: DateTime<Utc>,
    /// When it is tried again; set only after a failed attempt.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it was delivered or became a dead letter.
    pub finished_at: Option<DateTime<Utc>>,
    /// The reason for its state, from its last [`Disposition`](super::Disposition).
    pub reason: Option<String>,
}

/// Everything the queue knows about one event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EventRecord {
    /// What a list shows of it.
    pub summary: EventSummary,
    /// The API that it is sent by.
    pub api: ApiVersion,
    /// The JSON that is sent, counts included.
    pub body: Vec<u8>,
    /// When the last attempt was begun.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// For how long in total the event itself has been to blame; see [`Disposition::Retry`](super::Disposition::Retry).
    pub blamed: Duration,
    /// For a trigger that PagerDuty had not accepted by then: when a resolve of its incident came.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// A rejected webhook in a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RejectedSummary {
    /// Its number.
    pub id: RejectedId,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// Why it was rejected.
    pub reason: String,
    /// How long its body is, in bytes.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for text in ["7", "r7", "9223372036854775807"] {
            assert_eq!(text.parse::<ItemId>().unwrap().to_string(), text);
        }
        assert_eq!("r7".parse(), Ok(ItemId::Rejected(RejectedId::new(7))));
        for text in ["", "r", "-7", "+7", "r-7", "rr7", "R7", "7r", " 7", "9223372036854775808"] {
            assert_eq!(text.parse::<ItemId>(), Err(InvalidItemId), "{text}");
        }
    }
}
