//! Folding of many triggers of one incident, on a real database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{
    BeginRequest, Disposition, EnqueuedEvent, Envelope, EventId, EventRecord, Queue, SettleRequest,
};
use serde_json::Value;

use crate::database::{TestDatabase, send_together};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 123_000_000).unwrap()
}

/// A trigger of `incident` that came `seconds` after the first.
fn trigger(incident: &str, seconds: i64) -> Envelope {
    Envelope {
        service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse(incident).unwrap(),
        event_type: EventType::Trigger,
        description: format!("alert {seconds}"),
        body: format!(r#"{{"event_type":"trigger","details":{{"alert":{seconds}}}}}"#).into_bytes(),
        received_at: at(seconds),
        counts_at: None,
    }
}

fn resolve(incident: &str, seconds: i64) -> Envelope {
    Envelope {
        event_type: EventType::Resolve,
        body: br#"{"event_type":"resolve"}"#.to_vec(),
        description: String::new(),
        ..trigger(incident, seconds)
    }
}

async fn open() -> (TestDatabase, Queue) {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    (database, queue)
}

async fn record(queue: &Queue, id: EventId) -> EventRecord {
    queue.reader().get(id).await.unwrap().unwrap()
}

fn details(record: &EventRecord) -> Value {
    serde_json::from_slice::<Value>(&record.body).unwrap()["details"].take()
}

#[tokio::test]
async fn a_storm_of_one_incident_is_one_waiting_event() {
    let (_database, queue) = open().await;
    let mut arrivals = queue.arrivals();
    let first = queue.enqueue_event(trigger("42", 0)).await.unwrap();
    assert_eq!(first.count, 1);
    for seconds in 1..50 {
        let folded = queue.enqueue_event(trigger("42", seconds)).await.unwrap();
        assert_eq!(
            folded,
            EnqueuedEvent { id: first.id, count: u32::try_from(seconds).unwrap() + 1, event_type: EventType::Trigger }
        );
    }

    let record = record(&queue, first.id).await;
    assert_eq!((record.summary.count, record.summary.first_seen, record.summary.received_at), (50, at(0), at(49)));
    assert_eq!(record.summary.description, "alert 49");
    assert_eq!(
        details(&record).to_string(),
        r#"{"alert":49,"occurrences":50,"first_seen":"2027-01-15T08:00:00.123000Z"}"#
    );
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 1);
    assert_eq!(queue.reader().overview().await.unwrap().oldest_waiting, Some(at(0)));
    assert_eq!(arrivals.try_recv().unwrap().id, first.id);
    assert!(arrivals.try_recv().is_none(), "a folded event was announced as a new one");
    assert_eq!(queue.begin(BeginRequest::new(first.id, at(60))).await.unwrap().body, record.body);
}

#[tokio::test]
async fn alerts_that_come_together_fold_together() {
    let (_database, queue) = open().await;
    let alerts = (0..3000).map(|number| queue.enqueue_event(trigger(&(number % 3).to_string(), number)));
    let (accepted, commits) = send_together(&queue, join_all(alerts)).await;
    let accepted: Vec<EnqueuedEvent> = accepted.into_iter().map(Result::unwrap).collect();
    assert!(commits <= 60, "3000 accepts took {commits} commits");
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 3);
    for incident in 0..3 {
        let mut counts: Vec<_> = accepted.iter().skip(incident).step_by(3).map(|accepted| accepted.count).collect();
        counts.sort_unstable();
        assert_eq!(counts, (1..=1000).collect::<Vec<_>>());
        let record = record(&queue, accepted[incident].id).await;
        assert_eq!((record.summary.count, &details(&record)["occurrences"]), (1000, &Value::from(1000)));
    }
}

#[tokio::test]
async fn many_incidents_fold_each_into_its_own_event() {
    let (_database, queue) = open().await;
    let storm = async |seconds| {
        let alerts = (0..1000).map(|incident: u32| queue.enqueue_event(trigger(&incident.to_string(), seconds)));
        join_all(alerts).await.into_iter().map(Result::unwrap).collect::<Vec<EnqueuedEvent>>()
    };
    let first = storm(0).await;
    let second = storm(1).await;
    for (first, second) in first.iter().zip(&second) {
        assert_eq!((first.count, second.count, first.id), (1, 2, second.id));
    }
    for (incident, accepted) in first.iter().enumerate().step_by(83) {
        let record = record(&queue, accepted.id).await;
        assert_eq!(record.summary.incident_key.as_str(), incident.to_string());
        assert_eq!((&*record.summary.description, &details(&record)["alert"]), ("alert 1", &Value::from(1)));
    }
}

#[tokio::test]
async fn nothing_folds_across_a_resolve() {
    let (_database, queue) = open().await;
    let opened = queue.enqueue_event(trigger("42", 0)).await.unwrap();
    let resolved = queue.enqueue_event(resolve("42", 1)).await.unwrap();
    let again = queue.enqueue_event(resolve("42", 2)).await.unwrap();
    let reopened = queue.enqueue_event(trigger("42", 3)).await.unwrap();
    assert!(opened.id < resolved.id && resolved.id < again.id && again.id < reopened.id);
    assert!([opened, resolved, again, reopened].iter().all(|accepted| !accepted.is_folded()));
    assert_eq!(
        queue.enqueue_event(trigger("42", 4)).await.unwrap(),
        EnqueuedEvent { id: reopened.id, count: 2, event_type: EventType::Trigger }
    );
    assert_eq!(record(&queue, opened.id).await.summary.count, 1);
}

#[tokio::test]
async fn what_was_attempted_keeps_its_bytes() {
    let (database, queue) = open().await;
    let attempted = queue.enqueue_event(trigger("42", 0)).await.unwrap();
    let body = queue.begin(BeginRequest::new(attempted.id, at(1))).await.unwrap().body;
    let retry = Disposition::Retry { reason: "503".to_owned(), next_attempt_at: at(9), blamed: Duration::ZERO };
    queue.settle(SettleRequest::new(attempted.id, retry, at(2))).await.unwrap();
    let next = queue.enqueue_event(trigger("42", 3)).await.unwrap();
    assert_eq!(next.count, 1);
    assert_eq!(queue.begin(BeginRequest::new(attempted.id, at(10))).await.unwrap().body, body);
    queue.settle(SettleRequest::new(attempted.id, Disposition::Delivered { note: None }, at(11))).await.unwrap();
    assert_eq!(
        queue.enqueue_event(trigger("42", 12)).await.unwrap(),
        EnqueuedEvent { id: next.id, count: 2, event_type: EventType::Trigger }
    );

    // Its bytes are known to PagerDuty, even if its number of attempts was reset.
    queue.begin(BeginRequest::new(next.id, at(13))).await.unwrap();
    database.execute_sql("UPDATE events SET attempts = 0").await;
    assert_eq!(queue.enqueue_event(trigger("42", 14)).await.unwrap().count, 1);
}

#[tokio::test]
async fn what_left_the_line_is_not_folded_into() {
    let (database, queue) = open().await;
    for leave in ["UPDATE events SET state = 'dead', finished_at = 1", "DELETE FROM events"] {
        queue.enqueue_event(trigger("42", 0)).await.unwrap();
        database.execute_sql(leave).await;
        assert_eq!(queue.enqueue_event(trigger("42", 1)).await.unwrap().count, 1, "{leave}");
    }
}
