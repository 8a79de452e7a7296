//! The view of the deliveries that the worker publishes, with a real queue and a sandbox that injects faults.

use std::net::TcpListener;
use std::time::Duration;

use chrono::Utc;
use pagerduty_sandbox::{Fault, FaultRule, Options, Sandbox};
use sentry_pagerduty_bridge::delivery::{DeliveryLimits, DeliveryView, KeyView, Worker};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, EventsClient, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{Envelope, Queue};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::database::TestDatabase;

/// Nothing here takes that long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

const KEYS: [&str; 2] = ["0000000000000000000000000000000A", "0000000000000000000000000000000B"];

fn event(key: usize, incident: &str) -> Envelope {
    let body = serde_json::json!({
        "service_key": KEYS[key], "event_type": "trigger", "incident_key": incident, "description": "Disk full",
    });
    Envelope {
        service_key: ServiceKey::parse(KEYS[key]).unwrap(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse(incident).unwrap(),
        event_type: EventType::Trigger,
        description: "Disk full".to_owned(),
        body: body.to_string().into_bytes(),
        received_at: Utc::now(),
        counts_at: None,
    }
}

/// Waits until the view satisfies `so`.
async fn wait_for_view(
    view: &mut watch::Receiver<DeliveryView>,
    what: &str,
    so: impl Fn(&[KeyView]) -> bool,
) -> Vec<KeyView> {
    let shown = timeout(PATIENCE, view.wait_for(|view| so(&view.keys))).await;
    let Ok(view) = shown else { panic!("it never shows {what}") };
    view.unwrap().keys.clone()
}

#[actix_web::test]
async fn the_deliveries_are_shown_while_they_are_under_way_fail_and_end() {
    let sandbox = Sandbox::start(Options::default(), TcpListener::bind("127.0.0.1:0").unwrap(), None).unwrap();
    for (key, fault) in KEYS.into_iter().zip([Fault::status(503), Fault::Hang { lasts: Duration::from_mins(10) }]) {
        sandbox.inject(FaultRule { service_key: Some(key.to_owned()), ..fault.into() }).unwrap();
    }
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    let client = EventsClient::new(&sandbox.url().parse().unwrap(), Duration::from_mins(1), None).unwrap();
    let worker = Worker::new(queue.clone(), client, DeliveryLimits::new(100, Duration::from_hours(1)));
    let mut view = worker.view();
    assert_eq!(*view.borrow(), DeliveryView::default());
    let (stop, stopped) = oneshot::channel();
    let worker = actix_web::rt::spawn(worker.run(async { stopped.await.unwrap() }));

    let began = Utc::now();
    queue.enqueue_event(event(0, "1")).await.unwrap();
    queue.enqueue_event(event(1, "1")).await.unwrap();
    let keys = wait_for_view(&mut view, "that one key fails and the other waits for an answer", |keys| {
        keys.len() == 2 && keys[0].backs_off_until.is_some() && keys[1].in_flight == 1
    })
    .await;
    assert_eq!(keys.iter().map(|key| key.service_key.expose()).collect::<Vec<_>>(), KEYS);
    assert!(keys[0].last_failure.as_ref().unwrap().starts_with("answered 503"), "{keys:?}");
    let backs_off_until = keys[0].backs_off_until.unwrap();
    assert!(began < backs_off_until && backs_off_until < Utc::now() + Duration::from_mins(1), "{keys:?}");
    assert_eq!((&keys[1].last_failure, keys[1].backs_off_until), (&None, None));

    sandbox.clear_faults();
    // Nothing happens after the delivery, and it is published nevertheless.
    let keys = wait_for_view(&mut view, "that the event is delivered", |keys| {
        keys[0].last_delivered_at.is_some() && keys[0].in_flight == 0
    })
    .await;
    assert_eq!((&keys[0].last_failure, keys[0].backs_off_until), (&None, None));
    assert!(began < keys[0].last_delivered_at.unwrap() && keys[0].last_delivered_at.unwrap() < Utc::now());

    stop.send(Duration::ZERO).unwrap();
    worker.await.unwrap();
    queue.close().await.unwrap();
}
