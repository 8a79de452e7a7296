//! The worker with a real queue and the sandbox.

use std::net::TcpListener;
use std::time::Duration;

use chrono::Utc;
use futures_util::future::join_all;
use pagerduty_sandbox::{Options, Sandbox, ThrottleOptions};
use sentry_pagerduty_bridge::delivery::{DeliveryLimits, Worker};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, EventsClient, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{Envelope, Queue};
use tokio::sync::oneshot;

use crate::database::TestDatabase;

/// Nothing here takes that long unless it is broken.
const PATIENCE: Duration = Duration::from_mins(5);

const KEY: &str = "0000000000000000000000000000000A";

/// More events than are announced to a worker that does not read the announcements.
const EVENTS: u64 = 4500;

fn event(number: u64) -> Envelope {
    let incident = number.to_string();
    let body = serde_json::json!({
        "service_key": KEY, "event_type": "trigger", "incident_key": incident, "description": "Disk full",
    });
    Envelope {
        service_key: ServiceKey::parse(KEY).unwrap(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse(&incident).unwrap(),
        event_type: EventType::Trigger,
        description: "Disk full".to_owned(),
        body: body.to_string().into_bytes(),
        received_at: Utc::now(),
        counts_at: None,
    }
}

#[actix_web::test]
async fn what_came_while_the_worker_stalled_is_read_from_the_queue() {
    let throttle = ThrottleOptions { limit: 100_000, ..ThrottleOptions::default() };
    let options = Options { throttle, ..Options::default() };
    let sandbox = Sandbox::start(options, TcpListener::bind("127.0.0.1:0").unwrap(), None).unwrap();
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    let client = EventsClient::new(&sandbox.url().parse().unwrap(), Duration::from_secs(10), None).unwrap();
    let worker = Worker::new(queue.clone(), client, DeliveryLimits::new(100_000, Duration::from_hours(1)));
    // Before the worker runs, it reads no announcements.
    let accepted = join_all((1..=EVENTS).map(|number| queue.enqueue_event(event(number)))).await;
    assert!(accepted.iter().all(Result::is_ok));

    let (stop, stopped) = oneshot::channel();
    let running = actix_web::rt::spawn(worker.run(async move { stopped.await.unwrap_or_default() }));
    sandbox.wait_for(PATIENCE, |records| records.counters().accepted >= EVENTS).await.unwrap();
    stop.send(PATIENCE).unwrap();
    running.await.unwrap();
    assert_eq!((sandbox.counters().accepted, sandbox.counters().opened), (EVENTS, EVENTS));
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 0);
}
