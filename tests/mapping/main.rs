//! Maps the bodies of Sentry's webhooks to the events that PagerDuty is sent.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers of tests included")]

mod dedup;
mod fixtures;
mod limits;
mod odd_bodies;
mod platform;
mod policy;
mod sentry_plugin;

mod decisions;
mod public_samples;
mod recordings;
mod redaction;
mod service_hook;
mod snapshots;
mod untitled;

use chrono::{DateTime, Utc};
use sentry_pagerduty_bridge::alert::Level;
use sentry_pagerduty_bridge::envelope::{EnqueueRequest, Envelope};
use sentry_pagerduty_bridge::ingest::{Decision, Ingest, Policy, Webhook};
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_pagerduty_bridge::routing::Routes;
use serde_json::Value;

const DEFAULT_KEY: &str = "00000000000000000000000000000001";

fn ingest(routes: &str, prefix: &str, min_level: Option<Level>) -> Ingest {
    ingest_of(routes, Policy { incident_key_prefix: prefix.to_owned(), min_level, ..Policy::default() })
}

fn ingest_of(routes: &str, policy: Policy) -> Ingest {
    Ingest::new(Routes::new(ServiceKey::parse(DEFAULT_KEY).unwrap(), routes).unwrap(), policy)
}

fn received_at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn decide(ingest: &Ingest, body: &[u8]) -> Decision {
    ingest.decide(&Webhook::of_body(body, received_at()))
}

/// The envelope of a decision that opens an incident.
fn opened(decision: Decision) -> Result<Envelope, Decision> {
    match decision {
        Decision::Enqueue(enqueue) => match *enqueue {
            EnqueueRequest::Event { envelope, .. } => Ok(envelope),
            follow_up @ EnqueueRequest::FollowUp(_) => Err(Decision::Enqueue(Box::new(follow_up))),
        },
        other => Err(other),
    }
}

/// The event of a body.
#[track_caller]
fn event(body: &[u8]) -> Value {
    match opened(decide(&ingest("", "", None), body)) {
        Ok(envelope) => serde_json::from_slice(&envelope.body).unwrap(),
        Err(other) => panic!("{other:?} for {}", String::from_utf8_lossy(body)),
    }
}
