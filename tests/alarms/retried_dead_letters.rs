//! Dead letters that are retried raise no alarm while they wait for the rate limiter.

use std::path::Path;

use chrono::{TimeDelta, Utc};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{BeginRequest, Disposition, Envelope, Queue, SettleRequest};

use crate::observation::{ADMIN_TOKEN, Observation, wait_for};
use crate::support::{Bridge, KEY, PagerDuty, run};

/// Writes dead letters of yesterday to the queue.
fn leave_dead_letters(database: &Path, number: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (queue, yesterday) = (Queue::open(database).await.unwrap(), Utc::now() - TimeDelta::days(1));
        for issue in 1..=number {
            let event = Envelope {
                service_key: ServiceKey::parse(KEY).unwrap(),
                api: ApiVersion::V1,
                issue_key: None,
                incident_key: IncidentKey::parse(&issue.to_string()).unwrap(),
                event_type: EventType::Trigger,
                description: "Disk full".to_owned(),
                body: format!(
                    r#"{{"service_key":"{KEY}","event_type":"trigger","incident_key":"{issue}","description":"Disk full"}}"#
                )
                .into_bytes(),
                received_at: yesterday,
                counts_at: None,
            };
            let id = queue.enqueue_event(event).await.unwrap().id;
            queue.begin(BeginRequest::new(id, yesterday)).await.unwrap();
            queue.settle(SettleRequest::new(id, Disposition::Dead { reason: "answered 400".to_owned() }, yesterday)).await.unwrap();
        }
        queue.close().await.unwrap();
    });
}

#[test]
fn reviving_many_dead_letters_of_yesterday_is_no_trouble_while_they_take_their_turn() {
    let pagerduty = PagerDuty::start();
    let settings = [("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN), ("BRIDGE_PAGERDUTY_RATE", "1")];
    let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);
    bridge.terminate("TERM");
    leave_dead_letters(&bridge.database(), 5);
    bridge.restart();
    let database = format!("sqlite:{}", bridge.database().display());
    let settings = [
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", crate::support::TOKEN),
        ("BRIDGE_DATABASE_URL", database.as_str()),
    ];
    let done = run(&["queue", "retry", "--all"], &settings);
    assert_eq!(done.code, Some(0), "{done:?}");
    // One is sent, and the others wait for the rate limiter.
    wait_for(bridge.address, "the first delivery", |observed| observed.status["queue"]["delivered"] == 1);
    let observed = Observation::of(bridge.address);
    assert_eq!(observed.status["queue"]["waiting"], 4, "{observed:#?}");
    assert_eq!((observed.health(), observed.troubles()), ("healthy", vec![]), "{observed:#?}");
}
