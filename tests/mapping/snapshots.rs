//! The event of every fixture by each of the Events APIs, as snapshots for review.

use sentry_pagerduty_bridge::envelope::EnqueueRequest;
use sentry_pagerduty_bridge::ingest::{Decision, Webhook};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, Destination, Event, render};
use serde_json::Value;

use crate::{fixtures, ingest, received_at};

fn settings(folder: &str) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../snapshots{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

/// The JSON of an event by another API than that of its destination.
fn json(event: &Event, api: ApiVersion) -> Value {
    let destination = Destination { api, ..event.destination.clone() };
    serde_json::from_slice(&render(&Event { destination, ..event.clone() }).bytes).unwrap()
}

/// The event of a webhook, if it is mapped to one.
fn event(webhook: &Webhook<'_>) -> Option<Event> {
    let ingest = ingest("", "", None);
    match ingest.decide(webhook) {
        Decision::Enqueue(enqueue) => Some(match *enqueue {
            EnqueueRequest::Event { .. } => ingest.trigger_of(webhook).unwrap(),
            EnqueueRequest::FollowUp(follow_up) => follow_up.event_for(ingest.destination(&ingest.keys()[0])),
        }),
        Decision::Ignored(_) | Decision::Rejected(_) => None,
    }
}

#[test]
fn the_event_of_every_fixture_is_the_one_that_was_looked_at() {
    for (folder, api) in [("", ApiVersion::V1), ("/v2", ApiVersion::V2)] {
        settings(folder).bind(|| {
            for fixture in fixtures::all() {
                let event = event(&Webhook::of_body(&fixture.webhook, received_at())).unwrap();
                insta::assert_json_snapshot!(fixture.name.replace('/', "-"), json(&event, api));
            }
        });
    }
}

#[test]
fn the_v2_event_of_every_fixture_of_the_platform_is_the_one_that_was_looked_at() {
    let platform = fixtures::platform().into_iter();
    let platform = platform.map(|fixture| (fixture.name, Some(fixture.resource), fixture.webhook));
    let recordings = fixtures::recordings().into_iter();
    let recordings = recordings.map(|recording| (recording.name, recording.resource, recording.webhook));
    settings("/v2").bind(|| {
        for (name, resource, body) in platform.chain(recordings) {
            let webhook = Webhook { resource: resource.as_deref(), ..Webhook::of_body(&body, received_at()) };
            let Some(event) = event(&webhook) else { continue };
            insta::assert_json_snapshot!(name.replace('/', "-"), json(&event, ApiVersion::V2));
        }
    });
}
