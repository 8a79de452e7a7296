//! An incident ends in the state that the issue has in Sentry, in whatever order webhooks come and whatever the machine's
//! clock shows. On a real database.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use sentry_pagerduty_bridge::ingest::{Decision, Ingest, Policy, Webhook};
use sentry_pagerduty_bridge::pagerduty::{IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{Disposition, EnqueueRequest, Queue, SettleRequest, State};
use sentry_pagerduty_bridge::routing::Routes;
use serde_json::json;

use crate::database::TestDatabase;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// A change of the only issue.
#[derive(Clone, Copy, Debug)]
struct Change {
    is_alert: bool,
    /// The time of the change by Sentry's clock.
    sentry: i64,
    /// The time by the machine's clock at which its webhook comes.
    came: i64,
    /// How far the clock of the client is off.
    client: i64,
}

impl Change {
    fn incoming(self) -> EnqueueRequest {
        let (resource, body) = if self.is_alert {
            let event = json!({ "event_id": format!("{:032x}", self.sentry), "issue_id": "42", "title": "Full",
                                "received": at(self.sentry).timestamp(),
                                "timestamp": at(self.sentry + self.client).timestamp() });
            ("event_alert", json!({ "action": "triggered", "data": { "event": event } }))
        } else {
            ("issue", json!({ "action": "resolved", "data": { "issue": { "id": "42", "title": "Full" } } }))
        };
        let ingest = Ingest::new(Routes::new(ServiceKey::parse(KEY).unwrap(), "").unwrap(), Policy::default());
        let (body, came) = (body.to_string(), at(self.came));
        let sent_at = Some(at(self.sentry));
        let webhook = Webhook { resource: Some(resource), sent_at, ..Webhook::of_body(body.as_bytes(), came) };
        match ingest.decide(&webhook) {
            Decision::Enqueue(enqueue) => *enqueue,
            other => panic!("{other:?}"),
        }
    }
}

/// Whether the incident is open at the end. After each change for which `delivers` is true, all waiting events are
/// delivered.
fn is_open_after(changes: &[Change], delivers: &[bool]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = TestDatabase::new();
        let queue = Queue::open(&database).await.unwrap();
        for (change, delivers) in changes.iter().zip(delivers) {
            queue.enqueue(change.incoming()).await.unwrap();
            if *delivers {
                let mut ids = queue.reader().ids(State::Waiting, u64::MAX).await.unwrap();
                ids.sort();
                for id in ids {
                    queue
                        .settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at(change.came)))
                        .await
                        .unwrap();
                }
            }
        }
        let (incident, key) = (IncidentKey::parse("42").unwrap(), ServiceKey::parse(KEY).unwrap());
        queue.reader().incident(&incident, &key).await.unwrap().is_open
    })
}

/// Alerts and resolves in Sentry's order, seconds apart.
fn history() -> impl Strategy<Value = Vec<(bool, i64, i64, i64)>> {
    prop::collection::vec((any::<bool>(), 1..40_i64, 0..50_i64, -3_600..3_600_i64), 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn in_whatever_order_webhooks_come_within_a_minute_the_incident_ends_as_sentry_has_it(
        history in history(),
        delivers in prop::collection::vec(any::<bool>(), 7),
    ) {
        let mut sentry = 0;
        let mut changes: Vec<_> = history
            .into_iter()
            .map(|(is_alert, later, delay, client)| {
                sentry += later;
                Change { is_alert, sentry, came: sentry + delay, client }
            })
            .collect();
        let is_open = changes.last().unwrap().is_alert;
        changes.sort_by_key(|change| change.came);
        prop_assert_eq!(is_open_after(&changes, &delivers), is_open, "{:#?}", changes);
    }

    #[test]
    fn however_the_machines_clock_is_set_the_incident_ends_as_sentry_has_it(
        history in history(),
        steps in prop::collection::vec(prop_oneof![Just(0), 120..90_000_i64, -90_000..-120_i64], 7),
        shares_the_clock in any::<bool>(),
        delivers in prop::collection::vec(any::<bool>(), 7),
    ) {
        let (mut now, mut step) = (0, 0);
        let changes: Vec<_> = history
            .into_iter()
            .zip(steps)
            .map(|((is_alert, later, _, client), by)| {
                now += later;
                step += by;
                let sentry = if shares_the_clock { now + step } else { now };
                Change { is_alert, sentry, came: now + step, client }
            })
            .collect();
        let is_open = changes.last().unwrap().is_alert;
        prop_assert_eq!(is_open_after(&changes, &delivers), is_open, "{:#?}", changes);
    }
}
