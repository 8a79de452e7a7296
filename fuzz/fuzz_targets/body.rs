//! Any body is decided on without a panic and always in the same way, and an event that it results in is one that PagerDuty
//! accepts. The input is the body.

#![no_main]

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use libfuzzer_sys::fuzz_target;
use sentry_pagerduty_bridge::config::Config;
use sentry_pagerduty_bridge::envelope::EnqueueRequest;
use sentry_pagerduty_bridge::ingest::{Decision, Ingest, Webhook};
use sentry_pagerduty_bridge::pagerduty::{
    ApiVersion, Event, EventType, IncidentKey, Rendered, render, with_counts, with_counts_by_parsing,
};
use serde_json::Value;

const DEFAULT_KEY: &str = "00000000000000000000000000000001";
const OTHER_KEY: &str = "00000000000000000000000000000002";

/// PagerDuty's limits: bytes of an event, characters of a description of v1, and of v2.
const MAX_BYTES: usize = 512_000;
const MAX_DESCRIPTION: [usize; 2] = [1024, 1024];

/// Sentry's resources, and one of a future version.
const RESOURCES: [&str; 10] = [
    "event_alert",
    "issue",
    "error",
    "metric_alert",
    "installation",
    "comment",
    "seer",
    "activity_alert",
    "preprod_artifact",
    "of_tomorrow",
];

/// One with the default settings, and one with all settings that change the event that an alert becomes.
static INGESTS: LazyLock<[Ingest; 2]> = LazyLock::new(|| {
    let always =
        [("BRIDGE_PAGERDUTY_SERVICE_KEY", DEFAULT_KEY), ("BRIDGE_WEBHOOK_TOKEN", "a-token-of-the-fuzzer-1234567890")];
    let routes = format!("project,shop,{OTHER_KEY}\nlevel,error,{OTHER_KEY}\nbrowser,Chrome 1,{OTHER_KEY}");
    let more = [
        ("BRIDGE_PAGERDUTY_ROUTES", routes.as_str()),
        ("BRIDGE_PAGERDUTY_EVENTS_API", "v2"),
        ("BRIDGE_INCIDENT_KEY", "rule"),
        ("BRIDGE_INCIDENT_KEY_PREFIX", "prefix-"),
        ("BRIDGE_PAGE_ON", "alert,metric,issue.created,issue.unresolved,error"),
        ("BRIDGE_RESOLVE", "all"),
        ("BRIDGE_ACKNOWLEDGE", "on"),
        ("BRIDGE_DESCRIPTION", "[{project}/{environment}] {title}"),
        ("BRIDGE_SEVERITY", "level,warning,info\nenvironment,production,critical"),
        ("BRIDGE_REDACT", "user,server_name,culprit"),
    ];
    let ingest = |settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ingest::from(&Config::from_vars(settings).unwrap_or_else(|error| panic!("{error}")))
    };
    [ingest(&always), ingest(&[&always[..], &more].concat())]
});

fn received_at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default()
}

/// Checks what PagerDuty requires of an event.
fn check(event: &Event) {
    let Rendered { bytes, counts_at, .. } = render(event);
    check_json(event, &bytes);
    if let Some(counts_at) = counts_at {
        let counted = with_counts(bytes.clone(), counts_at, u32::MAX, DateTime::<Utc>::MAX_UTC);
        let counted = check_json(event, &counted);
        let details = match event.destination.api {
            ApiVersion::V1 => &counted["details"],
            ApiVersion::V2 => &counted["payload"]["custom_details"],
        };
        assert_eq!(details["occurrences"], u32::MAX);
        check_json(event, &with_counts_by_parsing(bytes, 2, received_at()));
    }
}

fn check_json(event: &Event, bytes: &[u8]) -> Value {
    assert!(bytes.len() <= MAX_BYTES, "{} bytes", bytes.len());
    let json: Value = serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("no JSON is sent: {error}"));
    let is_trigger = event.event_type() == EventType::Trigger;
    let (key, incident, action, description, limit) = match event.destination.api {
        ApiVersion::V1 => ("service_key", "incident_key", "event_type", &json["description"], MAX_DESCRIPTION[0]),
        ApiVersion::V2 => ("routing_key", "dedup_key", "event_action", &json["payload"]["summary"], MAX_DESCRIPTION[1]),
    };
    assert!(json[key] == DEFAULT_KEY || json[key] == OTHER_KEY, "{}", json[key]);
    assert_eq!(json[action], event.event_type().as_str());
    let incident = json[incident].as_str().unwrap_or_else(|| panic!("{} is no string", json[incident]));
    assert!(IncidentKey::parse(incident).is_some(), "{incident:?}");
    if is_trigger {
        let text = description.as_str().unwrap_or_else(|| panic!("{description} is no description"));
        assert!(!text.trim().is_empty() && text.encode_utf16().count() <= limit, "{text:?}");
    }
    json
}

fn look(ingest: &Ingest, webhook: &Webhook<'_>) {
    let decision = ingest.decide(webhook);
    assert_eq!(decision, ingest.decide(webhook), "the same webhook is decided on in two ways");
    match &decision {
        Decision::Enqueue(enqueue) => match &**enqueue {
            EnqueueRequest::Event { envelope, .. } => {
                let event = ingest.trigger_of(webhook).expect("what is enqueued is an alert");
                let Rendered { bytes, counts_at, .. } = render(&event);
                assert_eq!((&envelope.body, envelope.counts_at), (&bytes, counts_at));
                check(&event);
            }
            EnqueueRequest::FollowUp(follow_up) => {
                for key in ingest.keys() {
                    check(&follow_up.event_for(ingest.destination(&key)));
                }
            }
        },
        Decision::Ignored(reason) => assert!(!reason.to_string().is_empty()),
        Decision::Rejected(reason) => assert!(!reason.to_string().is_empty()),
    }
}

fuzz_target!(|body: &[u8]| {
    let bare = Webhook::of_body(body, received_at());
    let [usual, other] = &*INGESTS;
    look(usual, &bare);
    look(other, &bare);
    // The length is as good as any number for choosing the header.
    let resource = Some(RESOURCES[body.len() % RESOURCES.len()]);
    let sent_at = Some(received_at());
    look(other, &Webhook { resource, is_signature_verified: true, idempotency_key: Some("1"), sent_at, ..bare });
});
