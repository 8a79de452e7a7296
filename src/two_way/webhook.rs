//! What PagerDuty's webhooks V3 ask for. Pure.
//!
//! Sources: `docs/webhooks` of PagerDuty's developer documentation, August 2026: the payload (01), the rules of delivery
//! (02) and the signature (04).

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::config::SigningSecret;
use crate::issue_status::decide::{IncidentSubject, subject};
use crate::pagerduty::IncidentKey;
use crate::queue::{IssueUpdate, StatusChange};

/// The header with the signatures of the raw body: `v1=` and 64 hexadecimal digits; several, separated by commas, while the
/// secret is rotated.
pub const SIGNATURE: &str = "X-PagerDuty-Signature";

/// The header with the id of the webhook, which is the same for each redelivery.
pub const WEBHOOK_ID: &str = "X-Webhook-Id";

/// How many signatures of one request are compared. PagerDuty sends one for each secret; there are two while a secret is
/// rotated.
const MAX_SIGNATURES: usize = 8;

/// How much of a webhook's id is kept, in characters.
const MAX_ID: usize = 200;

/// Whether a value of [`SIGNATURE`] contains a signature of `body` made with one of `secrets`. Each is compared in
/// constant time.
#[must_use]
pub fn is_signed(header: &str, secrets: &[SigningSecret], body: &[u8]) -> bool {
    let signatures = header.split(',').filter_map(|part| part.trim().strip_prefix("v1=")).take(MAX_SIGNATURES);
    let parsed = signatures.filter_map(|digits| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok().map(|()| bytes)
    });
    parsed.fold(false, |found, signature| {
        secrets.iter().fold(found, |found, secret| secret.signed(body, &signature) | found)
    })
}

/// The settings that decide what a webhook asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TwoWaySettings {
    /// The prefix of the issue's number in incident keys.
    pub prefix: String,
    /// Whether reopening an incident unresolves its issue.
    pub reopens: bool,
}

/// Why a webhook asks for no update; `Display` is a sentence.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NoUpdate {
    /// It is not a JSON object of the documented shape.
    #[error("it does not have the documented format: {0}")]
    Shape(String),
    /// The test webhook of a subscription.
    #[error("it is a ping: the webhook subscription works")]
    Ping,
    /// An event of another type.
    #[error("{0} changes nothing in Sentry")]
    OtherEvent(String),
    /// Reopening is off. What was to be resolved before is not resolved any more.
    #[error("BRIDGE_PAGERDUTY_REOPEN is off, so a reopened incident changes nothing in Sentry")]
    ReopenOff {
        /// The incident.
        incident_key: IncidentKey,
        /// When it was reopened, by PagerDuty's clock.
        happened_at: DateTime<Utc>,
    },
    /// No person did it, but a service, a workflow, or the bridge itself through the Events API.
    #[error("the change was made by {0} and not by a person, so nothing is changed in Sentry")]
    Automation(String),
    /// PagerDuty does not say the incident key.
    #[error("PagerDuty does not say the incident key, so its issue is not known")]
    NoKey,
    /// The incident key is not that of an issue.
    #[error("the incident key {0} does not belong to an issue of this Sentry")]
    NoIssue(String),
    /// The bridge has no trigger of this incident, delivered or not.
    #[error("the bridge has opened no incident {0}")]
    Unknown(IncidentKey),
    /// The same webhook was received before.
    #[error("duplicate of a webhook that was received before")]
    Repeated,
}

#[derive(Deserialize)]
struct PagerDutyWebhook {
    event: PagerDutyWebhookEvent,
}

#[derive(Deserialize)]
struct PagerDutyWebhookEvent {
    id: String,
    #[serde(rename = "event_type")]
    kind: String,
    occurred_at: Option<DateTime<Utc>>,
    #[serde(default)]
    agent: Value,
    #[serde(default)]
    data: Value,
}

/// Parses the update that a webhook with a valid signature asks for. `webhook_id` is its header; if that is missing,
/// redeliveries are recognised by the event's own id.
///
/// # Errors
///
/// Returns why the webhook asks for no update.
pub fn requested_update(
    body: &[u8],
    webhook_id: Option<&str>,
    received_at: DateTime<Utc>,
    settings: &TwoWaySettings,
) -> Result<IssueUpdate, NoUpdate> {
    let PagerDutyWebhook { event } = serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_data() { "a member is missing or of another type" } else { "it is not JSON" };
        NoUpdate::Shape(format!("{what} (line {}, column {})", error.line(), error.column()))
    })?;
    let change = match event.kind.as_str() {
        "incident.resolved" => StatusChange::Resolve,
        "incident.reopened" => StatusChange::Unresolve,
        "pagey.ping" => return Err(NoUpdate::Ping),
        other => return Err(NoUpdate::OtherEvent(other.chars().take(60).collect())),
    };
    // A change that the bridge made through the Events API has no agent, or an integration as its agent. Only what a
    // person did is passed on to Sentry, so that there are no loops.
    match event.agent["type"].as_str() {
        Some("user_reference" | "user") => {}
        Some(other) => return Err(NoUpdate::Automation(format!("`{}`", other.chars().take(60).collect::<String>()))),
        None => return Err(NoUpdate::Automation("an automation".to_owned())),
    }
    let key = event.data["incident_key"].as_str().filter(|key| !key.is_empty()).ok_or(NoUpdate::NoKey)?;
    let of_issue = matches!(subject(key, &settings.prefix), Some(IncidentSubject::Issue(_)));
    let incident_key = IncidentKey::parse(key).filter(|_| of_issue).ok_or_else(|| {
        NoUpdate::NoIssue(format!("`{}`", key.chars().take(60).flat_map(char::escape_default).collect::<String>()))
    })?;
    let happened_at = event.occurred_at.unwrap_or(received_at);
    if change == StatusChange::Unresolve && !settings.reopens {
        return Err(NoUpdate::ReopenOff { incident_key, happened_at });
    }
    let id = webhook_id.filter(|id| !id.is_empty()).unwrap_or(&event.id);
    Ok(IssueUpdate {
        webhook_id: id.chars().take(MAX_ID).collect(),
        incident_key,
        change,
        happened_at,
        received_at,
        attempts: 0,
        next_attempt_at: received_at,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at() -> DateTime<Utc> {
        "2026-11-26T20:00:00Z".parse().unwrap()
    }

    fn body(event_type: &str, agent: &Value, incident_key: &Value) -> Vec<u8> {
        let event = json!({
            "id": "01EVENT", "event_type": event_type, "resource_type": "incident", "occurred_at": "2026-11-26T19:59:58.5Z",
            "agent": agent, "client": null, "data": {"id": "Q1", "type": "incident", "incident_key": incident_key},
        });
        json!({"event": event}).to_string().into_bytes()
    }

    fn person() -> Value {
        json!({"id": "PUSER", "type": "user_reference", "summary": "Kim"})
    }

    fn asks(body: &[u8], settings: &TwoWaySettings) -> Result<IssueUpdate, NoUpdate> {
        requested_update(body, Some("01WEBHOOK"), at(), settings)
    }

    #[test]
    fn what_a_person_resolved_is_to_be_resolved() {
        let update = asks(&body("incident.resolved", &person(), &json!("42")), &TwoWaySettings::default()).unwrap();
        assert_eq!((update.webhook_id.as_str(), update.incident_key.as_str()), ("01WEBHOOK", "42"));
        assert_eq!((update.change, update.received_at), (StatusChange::Resolve, at()));
        assert_eq!(update.happened_at.to_rfc3339(), "2026-11-26T19:59:58.500+00:00");
        let without = requested_update(
            &body("incident.resolved", &person(), &json!("42")),
            None,
            at(),
            &TwoWaySettings::default(),
        );
        assert_eq!(without.unwrap().webhook_id, "01EVENT");
    }

    #[test]
    fn what_nobody_did_or_nobody_wants_asks_for_nothing() {
        let settings = TwoWaySettings::default();
        let resolved =
            |agent: Value, key: Value| asks(&body("incident.resolved", &agent, &key), &settings).unwrap_err();
        assert!(matches!(resolved(json!(null), json!("42")), NoUpdate::Automation(_)));
        let service = json!({"id": "P1", "type": "service_reference"});
        assert_eq!(resolved(service, json!("42")), NoUpdate::Automation("`service_reference`".to_owned()));
        assert_eq!(resolved(person(), json!(null)), NoUpdate::NoKey);
        for key in ["sentry-pagerduty-bridge/silence", "incident_1_7", "0123456789abcdef", ""] {
            assert!(asks(&body("incident.resolved", &person(), &json!(key)), &settings).is_err(), "{key}");
        }
        let event = |event_type: &str| asks(&body(event_type, &person(), &json!("42")), &settings).unwrap_err();
        assert_eq!(event("pagey.ping"), NoUpdate::Ping);
        assert_eq!(event("incident.acknowledged"), NoUpdate::OtherEvent("incident.acknowledged".to_owned()));
        let happened_at = "2026-11-26T19:59:58.5Z".parse().unwrap();
        let incident_key = IncidentKey::parse("42").unwrap();
        assert_eq!(event("incident.reopened"), NoUpdate::ReopenOff { incident_key, happened_at });
        for odd in [&b"{"[..], b"[]", b"{\"event\": 7}", b""] {
            assert!(matches!(asks(odd, &settings), Err(NoUpdate::Shape(_))));
        }
    }

    #[test]
    fn reopening_and_prefixes_are_as_the_settings_say() {
        let settings = TwoWaySettings { prefix: "eu-".to_owned(), reopens: true };
        let update = asks(&body("incident.reopened", &person(), &json!("eu-42")), &settings).unwrap();
        assert_eq!(update.change, StatusChange::Unresolve);
        let other = asks(&body("incident.reopened", &person(), &json!("us-42")), &settings).unwrap_err();
        assert_eq!(other, NoUpdate::NoIssue("`us-42`".to_owned()));
    }

    #[test]
    fn any_of_several_signatures_by_any_of_several_secrets_will_do() {
        let secrets = SigningSecret::parse_pagerduty_list("the-first-secret-of-all, the-second-secret").unwrap();
        let sign = |secret: &str| {
            let secret = &SigningSecret::parse_pagerduty_list(secret).unwrap()[0];
            format!("v1={}", hex::encode(secret.sign(b"{}")))
        };
        let (first, second, other) =
            (sign("the-first-secret-of-all"), sign("the-second-secret"), sign("another-secret-altogether"));
        assert!(is_signed(&first, &secrets, b"{}") && is_signed(&second, &secrets, b"{}"));
        assert!(is_signed(&format!("v2=00,{other}, {second}"), &secrets, b"{}"));
        assert!(!is_signed(&other, &secrets, b"{}") && !is_signed(&first, &secrets, b"{} "));
        for odd in ["", "v1=", "v1=zz", &first[3..], &format!("v1={}", &first[4..])] {
            assert!(!is_signed(odd, &secrets, b"{}"), "{odd}");
        }
        let many = format!("{},{first}", vec![other; MAX_SIGNATURES].join(","));
        assert!(!is_signed(&many, &secrets, b"{}"), "nobody has a body hashed over and over");
    }
}
