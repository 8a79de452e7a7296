//! The minimum cost of an alert: a handler that borrows the few fields it needs from the body, and makes one event.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    project_name: Cow<'a, str>,
    #[serde(borrow)]
    culprit: Cow<'a, str>,
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    event: Event<'a>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "event_id")]
    id: Cow<'a, str>,
    #[serde(borrow)]
    title: Cow<'a, str>,
    #[serde(borrow)]
    platform: Cow<'a, str>,
}

#[derive(Serialize)]
struct Trigger<'a> {
    service_key: &'a str,
    incident_key: &'a str,
    event_type: &'a str,
    description: &'a str,
    client: &'a str,
    client_url: &'a str,
    details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    project: &'a str,
    culprit: &'a str,
    level: &'a str,
    event_id: &'a str,
    platform: &'a str,
}

/// The incident key and the event of a body.
pub(crate) fn event(body: &[u8], service_key: &str) -> (String, Vec<u8>) {
    let body: Body<'_> = serde_json::from_slice(body).unwrap();
    let incident_key = format!("sentry-issue-{}", body.id);
    let event = serde_json::to_vec(&Trigger {
        service_key,
        incident_key: &incident_key,
        event_type: "trigger",
        description: &body.event.title,
        client: "sentry",
        client_url: &body.url,
        details: Details {
            project: &body.project_name,
            culprit: &body.culprit,
            level: &body.level,
            event_id: &body.event.id,
            platform: &body.event.platform,
        },
    })
    .unwrap();
    (incident_key, event)
}
