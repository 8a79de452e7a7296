//! The backlog (oldest waiting events and dead letters of each service key), and the state of a single incident, on a real
//! database.

use chrono::{DateTime, Utc};
use sentry_pagerduty_bridge::envelope::{Dedup, FollowUp};
use sentry_pagerduty_bridge::pagerduty::event::EventAction;
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, KeyApis, ServiceKey};
use sentry_pagerduty_bridge::queue::{
    Backlog, BeginRequest, DeadLetters, Disposition, Editor, EnqueueRequest, Enqueued, Envelope, EventId, FirstWaiting,
    Queue, ResolvedTriggers, SettleRequest, State,
};

use crate::database::TestDatabase;

const A: &str = "0000000000000000000000000000000a";
const B: &str = "0000000000000000000000000000000b";

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn key(text: &str) -> ServiceKey {
    ServiceKey::parse(text).unwrap()
}

fn incident(text: &str) -> IncidentKey {
    IncidentKey::parse(text).unwrap()
}

async fn open() -> (TestDatabase, Queue) {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    (database, queue)
}

async fn trigger(queue: &Queue, service_key: &str, name: &str, seconds: i64) -> EventId {
    let event = Envelope {
        service_key: key(service_key),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: incident(name),
        event_type: EventType::Trigger,
        description: "Disk full".to_owned(),
        body: b"{}".to_vec(),
        received_at: at(seconds),
        counts_at: None,
    };
    queue.enqueue_event(event).await.unwrap().id
}

async fn resolve(queue: &Queue, name: &str, seconds: i64) -> Enqueued {
    let follow_up = FollowUp {
        incident_key: incident(name),
        action: EventAction::Resolve(None),
        received_at: at(seconds),
        sentry_at: Some(at(seconds)),
        fallback: None,
        reopening: None,
        apis: KeyApis::default(),
        shared_key: None,
        dedup: Dedup::default(),
    };
    queue.enqueue(EnqueueRequest::FollowUp(Box::new(follow_up))).await.unwrap()
}

async fn attempt(queue: &Queue, id: EventId, settlement: Disposition, seconds: i64) {
    queue.begin(BeginRequest::new(id, at(seconds))).await.unwrap();
    queue.settle(SettleRequest::new(id, settlement, at(seconds))).await.unwrap();
}

async fn deliver(queue: &Queue, id: EventId, seconds: i64) {
    attempt(queue, id, Disposition::Delivered { note: None }, seconds).await;
}

async fn make_dead(queue: &Queue, id: EventId, reason: &str, seconds: i64) {
    attempt(queue, id, Disposition::Dead { reason: reason.to_owned() }, seconds).await;
}

#[tokio::test]
async fn an_empty_queue_wants_no_attention() {
    let (_database, queue) = open().await;
    assert_eq!(queue.reader().backlog(&[]).await.unwrap(), Backlog::default());
}

#[tokio::test]
async fn the_oldest_of_all_service_keys_is_told_without_the_incidents_left_out() {
    let (_database, queue) = open().await;
    trigger(&queue, A, "alarm/1", 0).await;
    trigger(&queue, A, "alarm/2", 1).await;
    let second = trigger(&queue, A, "42", 20).await;
    let first = trigger(&queue, B, "42", 10).await;
    trigger(&queue, B, "43", 11).await;
    let without = [incident("alarm/1"), incident("alarm/2")];
    let oldest = async |without: &[IncidentKey]| queue.reader().backlog(without).await.unwrap().oldest().cloned();

    let retry = Disposition::Retry {
        reason: "no answer".to_owned(),
        next_attempt_at: at(60),
        blamed: std::time::Duration::ZERO,
    };
    attempt(&queue, first, retry, 30).await;
    let expected = FirstWaiting {
        id: first,
        service_key: key(B),
        since: at(10),
        is_requeued: false,
        reason: Some("no answer".to_owned()),
    };
    assert_eq!(oldest(&without).await, Some(expected.clone()));
    let first_in_line = queue.reader().backlog(&without).await.unwrap().first;
    assert_eq!(first_in_line.iter().map(|first| first.id).collect::<Vec<_>>(), [second, first]);
    assert_eq!(first_in_line[1], expected);
    assert_eq!(oldest(&[]).await.unwrap().since, at(0));

    deliver(&queue, first, 40).await;
    make_dead(&queue, EventId::new(5), "refused", 41).await;
    assert_eq!(oldest(&without).await.unwrap().id, second);
    deliver(&queue, second, 42).await;
    assert_eq!(oldest(&without).await, None);
}

#[tokio::test]
async fn dead_letters_are_told_by_service_key_with_the_one_that_died_last() {
    let (database, queue) = open().await;
    let mut ids = Vec::new();
    for (number, service_key) in (0..).zip([A, A, B]) {
        ids.push(trigger(&queue, service_key, &number.to_string(), number).await);
    }
    make_dead(&queue, ids[1], "early", 100).await;
    make_dead(&queue, ids[0], "late", 200).await;
    make_dead(&queue, ids[2], "other", 150).await;
    let letters = |service_key, number, newest, died_at, reason: &str| DeadLetters {
        service_key: key(service_key),
        number,
        newest,
        died_at: at(died_at),
        reason: Some(reason.to_owned()),
    };
    let dead = async || queue.reader().backlog(&[]).await.unwrap().dead;
    assert_eq!(dead().await, [letters(A, 2, ids[0], 200, "late"), letters(B, 1, ids[2], 150, "other")]);

    let mut editor = Editor::open(&database).await.unwrap();
    editor.discard(State::Dead, &[ids[0], ids[2]]).await.unwrap();
    assert_eq!(dead().await, [letters(A, 1, ids[1], 100, "early")]);
    editor.requeue(&[ids[1]], ResolvedTriggers::Skip).await.unwrap();
    assert_eq!(dead().await, []);
}

#[tokio::test]
async fn an_incident_is_open_from_its_trigger_in_line_to_its_resolve_in_line() {
    let (_database, queue) = open().await;
    let is_open = async || queue.reader().incident(&incident("42"), &key(A)).await.unwrap().is_open;
    assert!(!is_open().await);
    let opened = trigger(&queue, B, "42", 0).await;
    assert!(is_open().await);
    deliver(&queue, opened, 1).await;
    assert!(is_open().await);
    let Enqueued::Queued(resolves) = resolve(&queue, "42", 2).await else { panic!("nothing was open") };
    assert!(!is_open().await);
    deliver(&queue, resolves[0].id, 3).await;
    assert!(!is_open().await);
}

#[tokio::test]
async fn the_dead_letter_of_an_incident_is_known_for_its_integration_alone() {
    let (_database, queue) = open().await;
    let id = trigger(&queue, A, "42", 0).await;
    make_dead(&queue, id, "refused", 7).await;
    for (service_key, name, died_at, dead) in [(A, "42", Some(at(7)), 1), (B, "42", None, 0), (A, "43", None, 0)] {
        let known = queue.reader().incident(&incident(name), &key(service_key)).await.unwrap();
        assert_eq!((known.is_open, known.died_at, known.dead), (false, died_at, dead), "{service_key} {name}");
    }
}
