//! Webhooks V3, which report changes of the sandbox's incidents to subscribers. Payload, signature and delivery rules are
//! those of PagerDuty's webhook documentation. Each subscription gets its webhooks one after the other, in the order in
//! which they were made.
//!
//! Unlike PagerDuty, the sandbox waits 200 milliseconds before it repeats a webhook, and gives up after 50 attempts.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use actix_web::rt;
use actix_web::rt::time::{sleep, timeout};
use awc::Client;
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;

use crate::incidents::{Agent, Incident, IncidentState};
use crate::options::{ServiceOptions, Subscription};

/// How long PagerDuty waits for a response.
const DEADLINE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(200);

const ATTEMPTS: u32 = 50;

fn agent_reference(agent: Agent) -> Value {
    let reference = |id: &str, kind: &str, summary: &str| {
        json!({
            "html_url": null, "id": id, "self": format!("https://api.pagerduty.com/{kind}s/{id}"), "summary": summary,
            "type": format!("{kind}_reference"),
        })
    };
    match agent {
        Agent::Person => reference("PPERSON", "user", "Kim"),
        Agent::Integration => reference("PINTEGR", "inbound_integration", "Sentry"),
        Agent::Automation => Value::Null,
    }
}

/// An attempt to post a webhook, successful or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WebhookAttempt {
    /// The header `X-Webhook-Id`, the same for each attempt.
    pub webhook_id: String,
    /// The type of its event, such as `incident.resolved`.
    pub event_type: String,
    /// The URL to which it was posted.
    pub url: String,
    /// The status code of the response; `None`: there was none within five seconds.
    pub status: Option<u16>,
    /// The body of the response.
    pub answer: String,
}

/// A webhook to post.
#[derive(Clone, Debug)]
pub(crate) struct PendingWebhook {
    subscription: Subscription,
    id: String,
    event_type: &'static str,
    body: String,
}

/// Returns the webhooks that report a change of an incident of `service` to `subscriptions`. They say of it what the REST
/// API says.
pub(crate) fn webhooks(
    subscriptions: &[Subscription],
    incident: &Incident,
    service: &ServiceOptions,
    event_type: &'static str,
    agent: Agent,
    at: DateTime<Utc>,
) -> Vec<PendingWebhook> {
    let (id, service_id) = (incident.id(), &service.id);
    let status = match incident.state {
        IncidentState::Triggered => "triggered",
        IncidentState::Acknowledged => "acknowledged",
        IncidentState::Resolved => "resolved",
    };
    let of = |subscription: &Subscription| {
        let event = json!({
            "id": random_id(), "event_type": event_type, "resource_type": "incident",
            "occurred_at": at.to_rfc3339_opts(SecondsFormat::Millis, true), "agent": agent_reference(agent), "client": null,
            "data": {
                "id": id, "type": "incident", "self": format!("https://api.pagerduty.com/incidents/{id}"),
                "html_url": incident.html_url(), "number": incident.number,
                "status": status, "incident_key": incident.incident_key,
                "created_at": incident.opened_at.to_rfc3339_opts(SecondsFormat::Secs, true), "title": incident.description,
                "service": {
                    "html_url": format!("https://sandbox.invalid/services/{service_id}"), "id": service_id,
                    "self": format!("https://api.pagerduty.com/services/{service_id}"), "summary": service.name,
                    "type": "service_reference",
                },
                "assignees": [], "escalation_policy": null, "teams": [], "priority": null, "urgency": "high",
                "conference_bridge": null, "resolve_reason": null, "incident_type": {"name": "incident_default"},
            },
        });
        let body = json!({"event": event}).to_string();
        PendingWebhook { subscription: subscription.clone(), id: random_id(), event_type, body }
    };
    subscriptions.iter().map(of).collect()
}

fn random_id() -> String {
    format!("01{:024X}", rand::random::<u128>() >> 32)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The value of the header `X-PagerDuty-Signature`.
fn signature(secrets: &[String], body: &str) -> String {
    let of = |secret: &String| {
        // HMAC takes keys of any length.
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
        let bytes = mac.map(|mac| mac.chain_update(body).finalize().into_bytes()).unwrap_or_default();
        format!("v1={}", hex(&bytes))
    };
    secrets.iter().map(of).collect::<Vec<_>>().join(",")
}

/// Posts webhooks until the sandbox stops; those to the same URL one after the other.
/// Each attempt is passed to `record`.
pub(crate) async fn post_all(
    mut webhooks: mpsc::UnboundedReceiver<PendingWebhook>,
    record: impl Fn(WebhookAttempt) + Clone + 'static,
) {
    let mut queues: HashMap<String, mpsc::UnboundedSender<PendingWebhook>> = HashMap::new();
    while let Some(webhook) = webhooks.recv().await {
        let queue = queues.entry(webhook.subscription.url.clone()).or_insert_with(|| {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            let record = record.clone();
            rt::spawn(async move {
                let client = Client::builder().disable_redirects().timeout(DEADLINE).finish();
                while let Some(webhook) = receiver.recv().await {
                    post(&client, &webhook, &record).await;
                }
            });
            sender
        });
        // The receiver lives as long as its sender.
        let _ = queue.send(webhook);
    }
}

/// Posts a webhook until it succeeds, is rejected permanently, or `ATTEMPTS` is reached.
async fn post(client: &Client, webhook: &PendingWebhook, record: impl Fn(WebhookAttempt)) {
    for _ in 0..ATTEMPTS {
        let PendingWebhook { subscription, id, event_type, body } = webhook;
        let request = client
            .post(&subscription.url)
            .insert_header(("Content-Type", "application/json"))
            .insert_header(("User-Agent", "PagerDuty-Webhook/V3.0"))
            .insert_header(("X-PagerDuty-Signature", signature(&subscription.secrets, body)))
            .insert_header(("X-Webhook-Id", id.as_str()))
            .insert_header(("X-Webhook-Subscription", "PSUBSCR"))
            .force_close();
        let answer = timeout(DEADLINE, async {
            let mut response = request.send_body(body.clone()).await.ok()?;
            let answer = response.body().await.unwrap_or_default();
            Some((response.status().as_u16(), String::from_utf8_lossy(&answer).into_owned()))
        });
        let answer = answer.await.ok().flatten();
        let status = answer.as_ref().map(|(status, _)| *status);
        let attempt = WebhookAttempt {
            webhook_id: id.clone(),
            event_type: (*event_type).to_owned(),
            url: subscription.url.clone(),
            status,
            answer: answer.map(|(_, answer)| answer).unwrap_or_default(),
        };
        record(attempt);
        // A success is done. A redirect or a 4xx other than 429 is not retried.
        if status.is_some_and(|status| status < 500 && status != 429) {
            return;
        }
        sleep(PAUSE).await;
    }
}
