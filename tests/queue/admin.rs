//! Admin actions, lists and retention of the queue, on a real database, with and without a running bridge.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use sentry_pagerduty_bridge::ingest::{Decision, IgnoreReason, Ingest, Policy, Webhook};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::admin::retry::{Retried, reprocess};
use sentry_pagerduty_bridge::queue::item::{MAX_REJECTED, MAX_REJECTED_BYTES};
use sentry_pagerduty_bridge::queue::retention::Retention;
use sentry_pagerduty_bridge::queue::{
    BeginRequest, Disposition, Editor, EnqueueRequest, Enqueued, EnqueuedEvent, Envelope, EventId, Queue, QueueError,
    RejectedId, RejectedWebhook, ResolvedTriggers, SettleRequest, State,
};

use sentry_pagerduty_bridge::routing::Routes;

use crate::database::TestDatabase;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 123_000_000).unwrap()
}

fn key() -> ServiceKey {
    ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap()
}

fn trigger(incident: &str) -> Envelope {
    Envelope {
        service_key: key(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse(incident).unwrap(),
        event_type: EventType::Trigger,
        description: "Disk full".to_owned(),
        body: br#"{"details":{}}"#.to_vec(),
        received_at: at(0),
        counts_at: None,
    }
}

fn rejected(bytes: usize) -> RejectedWebhook {
    RejectedWebhook {
        received_at: at(0),
        resource: Some("issue".to_owned()),
        idempotency_key: Some("6a7b".to_owned()),
        sent_at: Some(at(-2)),
        has_app_signature: true,
        is_signature_verified: true,
        reason: "no JSON".to_owned(),
        body: vec![0xff; bytes],
    }
}

async fn open() -> (TestDatabase, Queue) {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    (database, queue)
}

/// An event that PagerDuty rejected.
async fn dead_letter(queue: &Queue, incident: &str) -> EventId {
    let id = queue.enqueue_event(trigger(incident)).await.unwrap().id;
    queue.begin(BeginRequest::new(id, at(1))).await.unwrap();
    let blamed = Duration::from_secs(90);
    let retry = Disposition::Retry { reason: "500".to_owned(), next_attempt_at: at(9), blamed };
    queue.settle(SettleRequest::new(id, retry, at(2))).await.unwrap();
    queue
        .settle(SettleRequest::new(id, Disposition::Dead { reason: "400: no such key".to_owned() }, at(3)))
        .await
        .unwrap();
    id
}

async fn delivered(queue: &Queue, number: usize, at: DateTime<Utc>) -> Vec<EventId> {
    let accepted = join_all((0..number).map(|number| queue.enqueue_event(trigger(&format!("{at}/{number}"))))).await;
    let mut ids: Vec<_> = accepted.into_iter().map(|accepted| accepted.unwrap().id).collect();
    ids.sort_unstable();
    let settle = |id| queue.settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at));
    join_all(ids.iter().map(|&id| settle(id))).await.into_iter().for_each(Result::unwrap);
    ids
}

#[tokio::test]
async fn a_revived_dead_letter_stands_at_its_old_place_with_a_clean_record() {
    let (database, queue) = open().await;
    let dead = dead_letter(&queue, "42").await;
    let later = queue.enqueue_event(trigger("42")).await.unwrap().id;
    let generation = queue.reader().generation().await.unwrap();

    let mut editor = Editor::open(&database).await.unwrap();
    assert_eq!(editor.requeue(&[dead, later, EventId::new(99)], ResolvedTriggers::Skip).await.unwrap(), [dead]);
    assert_ne!(queue.reader().generation().await.unwrap(), generation);

    let waiting = queue.reader().page(&key(), None, 10).await.unwrap().events;
    assert_eq!(waiting.iter().map(|event| event.id).collect::<Vec<_>>(), [dead, later]);
    assert_eq!((waiting[0].attempts, waiting[0].blamed), (1, Duration::ZERO), "the attempt was made all the same");
    let record = queue.reader().get(dead).await.unwrap().unwrap();
    assert_eq!((record.summary.reason, record.summary.finished_at, record.summary.next_attempt_at), (None, None, None));
    assert_eq!(record.last_attempt_at, Some(at(1)), "the rate limiter has to know it");
    assert_eq!(queue.begin(BeginRequest::new(dead, at(10))).await.unwrap().body, record.body);
    editor.close().await.unwrap();
}

/// A later version may accept a rejected webhook whose event has already come by another webhook.
#[tokio::test]
async fn what_came_by_another_webhook_is_not_queued_again_by_a_rejected_one_whichever_api_it_goes_to() {
    let body =
        br#"{"id": "42", "project": "shop", "event": {"event_id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "title": "x"}}"#;
    for api in [ApiVersion::V1, ApiVersion::V2] {
        let (database, queue) = open().await;
        let ingest = Ingest::new(Routes::from_lines(key(), Vec::new(), api), Policy::default());
        let Decision::Enqueue(enqueue) = ingest.decide(&Webhook::of_body(body, at(0))) else {
            panic!("it is an alert");
        };
        queue.enqueue(enqueue).await.unwrap();
        let webhook = RejectedWebhook {
            resource: None,
            idempotency_key: None,
            has_app_signature: false,
            is_signature_verified: false,
            body: body.to_vec(),
            ..rejected(0)
        };
        let id = queue.reject(webhook).await.unwrap();

        let mut editor = Editor::open(&database).await.unwrap();
        let retried = reprocess(&mut editor, &ingest, id).await.unwrap();
        assert_eq!(retried, Retried::Ignored(IgnoreReason::Repeated), "{api}");
        editor.close().await.unwrap();
        assert_eq!(queue.reader().page(&key(), None, 10).await.unwrap().events.len(), 1, "{api}");
    }
}

#[tokio::test]
async fn an_attempt_does_not_begin_while_an_earlier_event_of_its_incident_waits() {
    let (database, queue) = open().await;
    let dead = dead_letter(&queue, "42").await;
    let (later, other) =
        (queue.enqueue_event(trigger("42")).await.unwrap().id, queue.enqueue_event(trigger("43")).await.unwrap().id);
    let mut editor = Editor::open(&database).await.unwrap();
    assert_eq!(editor.requeue(&[dead], ResolvedTriggers::Skip).await.unwrap(), [dead]);

    let (refused, begun) =
        tokio::join!(queue.begin(BeginRequest::new(later, at(4))), queue.begin(BeginRequest::new(other, at(4))));
    assert!(
        matches!(refused, Err(QueueError::Behind { id, earlier }) if (id, earlier) == (later, dead)),
        "{refused:?}"
    );
    assert!(begun.is_ok());
    assert_eq!(queue.reader().get(later).await.unwrap().unwrap().summary.attempts, 0);
    assert!(
        queue.begin(BeginRequest { id: later, at: at(5), skipped: vec![dead], fence: None }).await.is_ok(),
        "that cannot be read"
    );
    queue.settle(SettleRequest::new(dead, Disposition::Delivered { note: None }, at(6))).await.unwrap();
    assert!(queue.begin(BeginRequest::new(later, at(7))).await.is_ok());
    editor.close().await.unwrap();
}

#[tokio::test]
async fn a_dead_resolve_stays_where_it_is_once_its_incident_was_triggered_anew() {
    let (database, queue) = open().await;
    let mut editor = Editor::open(&database).await.unwrap();
    let resolve = |incident| Envelope { event_type: EventType::Resolve, ..trigger(incident) };
    let dies = async |incident| {
        let first = queue.enqueue_event(trigger(incident)).await.unwrap().id;
        queue.settle(SettleRequest::new(first, Disposition::Delivered { note: None }, at(1))).await.unwrap();
        let id = queue.enqueue_event(resolve(incident)).await.unwrap().id;
        queue.settle(SettleRequest::new(id, Disposition::Dead { reason: "400".to_owned() }, at(100))).await.unwrap();
        id
    };
    let (waits, taken, alone, dead, closed) =
        (dies("1").await, dies("2").await, dies("3").await, dies("4").await, dies("5").await);
    queue.enqueue_event(trigger("1")).await.unwrap();
    // The order does not depend on the clock, which was set back.
    let later = queue.enqueue_event(trigger("2")).await.unwrap().id;
    queue.settle(SettleRequest::new(later, Disposition::Delivered { note: None }, at(50))).await.unwrap();
    let later = queue.enqueue_event(trigger("4")).await.unwrap().id;
    queue.settle(SettleRequest::new(later, Disposition::Dead { reason: "400".to_owned() }, at(101))).await.unwrap();
    for event in [trigger("5"), resolve("5")] {
        let id = queue.enqueue_event(event).await.unwrap().id;
        queue.settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at(102))).await.unwrap();
    }
    let requeued = editor.requeue(&[waits, taken, alone, dead, closed], ResolvedTriggers::Skip).await.unwrap();
    assert_eq!(requeued, [alone, dead, closed], "what would close an open incident stays");
    for id in [waits, taken] {
        assert_eq!(queue.reader().get(id).await.unwrap().unwrap().summary.state, State::Dead);
    }
    editor.close().await.unwrap();
}

#[tokio::test]
async fn the_rate_limiter_knows_the_attempts_of_a_revived_dead_letter_after_a_restart() {
    let (database, queue) = open().await;
    let dead = queue.enqueue_event(trigger("42")).await.unwrap().id;
    for second in 1..=3 {
        queue.begin(BeginRequest::new(dead, at(second))).await.unwrap();
    }
    queue
        .settle(SettleRequest::new(dead, Disposition::Dead { reason: "400: no such key".to_owned() }, at(4)))
        .await
        .unwrap();
    let mut editor = Editor::open(&database).await.unwrap();
    assert_eq!(editor.requeue(&[dead], ResolvedTriggers::Skip).await.unwrap(), [dead]);
    editor.close().await.unwrap();
    queue.close().await.unwrap();

    let queue = Queue::open(&database).await.unwrap();
    assert_eq!(queue.reader().attempts_since(at(0), at(3000), 120).await.unwrap(), [(key(), at(3), 3)]);
    queue.begin(BeginRequest::new(dead, at(5))).await.unwrap();
    assert_eq!(queue.reader().attempts_since(at(0), at(3000), 120).await.unwrap(), [(key(), at(5), 4)]);
}

#[tokio::test]
async fn the_rate_limiter_knows_the_attempts_of_discarded_events_after_a_restart() {
    let (database, queue) = open().await;
    let mut ids = Vec::new();
    for (incident, second) in [("1", 1), ("2", 2000), ("3", 2001)] {
        let id = queue.enqueue_event(trigger(incident)).await.unwrap().id;
        queue.begin(BeginRequest::new(id, at(second))).await.unwrap();
        ids.push(id);
    }
    let never_attempted = queue.enqueue_event(trigger("4")).await.unwrap().id;
    let mut editor = Editor::open(&database).await.unwrap();
    editor.discard(State::Waiting, &[ids[0]]).await.unwrap();
    assert_eq!(editor.reader().attempts_since(at(0), at(3000), 120).await.unwrap().first(), Some(&(key(), at(1), 1)));

    // Attempts that the rate limiter no longer needs are deleted.
    assert_eq!(editor.discard(State::Dead, &[ids[1]]).await.unwrap(), []);
    editor.discard(State::Waiting, &[ids[1], never_attempted]).await.unwrap();
    editor.close().await.unwrap();
    queue.close().await.unwrap();
    let queue = Queue::open(&database).await.unwrap();
    let attempts = queue.reader().attempts_since(at(0), at(3000), 120).await.unwrap();
    assert_eq!(attempts, [(key(), at(2000), 1), (key(), at(2001), 1)]);
}

#[tokio::test]
async fn only_what_is_still_there_is_discarded() {
    let (database, queue) = open().await;
    let dead = dead_letter(&queue, "1").await;
    let waiting = queue.enqueue_event(trigger("2")).await.unwrap().id;
    let mut editor = Editor::open(&database).await.unwrap();
    assert_eq!(editor.discard(State::Dead, &[dead, waiting]).await.unwrap(), [dead]);
    assert_eq!(queue.reader().get(dead).await.unwrap(), None);
    assert_eq!(editor.discard(State::Waiting, &[dead, waiting]).await.unwrap(), [waiting]);

    // A bridge that was about to send it is told that it is gone.
    let begun = queue.begin(BeginRequest::new(waiting, at(5))).await;
    assert!(matches!(begun, Err(QueueError::NotWaiting(id)) if id == waiting), "{begun:?}");
    assert!(queue.enqueue_event(trigger("2")).await.unwrap().id > waiting);
}

#[tokio::test]
async fn many_changes_at_once_leave_room_for_the_bridge() {
    let (database, queue) = open().await;
    let accepted = join_all((0..1200).map(|number| queue.enqueue_event(trigger(&number.to_string())))).await;
    let ids: Vec<_> = accepted.into_iter().map(|accepted| accepted.unwrap().id).collect();
    let mut editor = Editor::open(&database).await.unwrap();
    let (gone, taken) = tokio::join!(
        editor.discard(State::Waiting, &ids),
        join_all((2000..2300).map(|number| queue.enqueue_event(trigger(&number.to_string())))),
    );
    assert_eq!(gone.unwrap().len(), 1200);
    assert!(taken.iter().all(Result::is_ok));
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 300);
}

#[tokio::test]
async fn events_are_listed_by_state_in_the_order_people_want() {
    let (_database, queue) = open().await;
    let dead = [dead_letter(&queue, "1").await, dead_letter(&queue, "2").await];
    let early = delivered(&queue, 1, at(10)).await;
    let late = delivered(&queue, 2, at(20)).await;
    let waiting: Vec<_> = join_all((0..1300).map(|number| queue.enqueue_event(trigger(&number.to_string()))))
        .await
        .into_iter()
        .flatten()
        .collect();
    let reader = queue.reader();
    assert_eq!(reader.ids(State::Dead, 10).await.unwrap(), dead);
    assert_eq!(reader.ids(State::Dead, 1).await.unwrap(), dead[..1]);
    assert_eq!(reader.ids(State::Delivered, 10).await.unwrap(), [late[1], late[0], early[0]]);
    let ids = reader.ids(State::Waiting, u64::MAX).await.unwrap();
    assert_eq!(ids.len(), waiting.len());
    assert!(ids.is_sorted());

    let asked: Vec<_> = ids.iter().rev().copied().chain([EventId::new(9_999_999), dead[0]]).collect();
    let found = reader.summaries(&asked).await.unwrap();
    let numbers: Vec<_> = found.iter().map(|event| event.id).collect();
    assert_eq!(numbers, ids.iter().rev().copied().chain([dead[0]]).collect::<Vec<_>>());
    let last = found.last().unwrap();
    assert_eq!((last.state, last.attempts, last.reason.as_deref()), (State::Dead, 1, Some("400: no such key")));
    assert_eq!((last.incident_key.as_str(), &*last.description, last.count), ("1", "Disk full", 1));
}

#[tokio::test]
async fn rejected_webhooks_are_kept_whole_and_the_oldest_of_too_many_go() {
    let (database, queue) = open().await;
    let first = queue.reject(rejected(300)).await.unwrap();
    assert_eq!(queue.reader().rejected(first).await.unwrap(), Some(rejected(300)));
    join_all((1..MAX_REJECTED).map(|_| queue.reject(rejected(1)))).await;
    assert_eq!(queue.reader().rejected_summaries(u64::MAX).await.unwrap().len(), 1000);
    let last = queue.reject(rejected(2)).await.unwrap();
    assert_eq!(queue.reader().rejected(first).await.unwrap(), None);
    let kept = queue.reader().rejected_summaries(u64::MAX).await.unwrap();
    assert_eq!((kept.len(), kept[999].id, kept[999].size, &*kept[999].reason), (1000, last, 2, "no JSON"));

    // Their total size is limited as well.
    let large = MAX_REJECTED_BYTES as usize;
    let error = queue.reject(rejected(large + 1)).await.expect_err("it was kept");
    assert!(matches!(error, QueueError::TooLarge), "{error:?}");
    let most = queue.reject(rejected(large - 2)).await.unwrap();
    let kept = queue.reader().rejected_summaries(u64::MAX).await.unwrap();
    assert_eq!(kept.iter().map(|webhook| webhook.id).collect::<Vec<_>>(), [last, most]);

    let mut editor = Editor::open(&database).await.unwrap();
    assert!(editor.reject_again(last, "no issue".to_owned()).await.unwrap());
    assert_eq!(queue.reader().rejected(last).await.unwrap().unwrap().reason, "no issue");
    assert!(editor.discard_rejected(most).await.unwrap());
    assert!(!editor.discard_rejected(most).await.unwrap());
    assert!(!editor.reject_again(most, String::new()).await.unwrap());
    assert!(queue.reject(rejected(1)).await.unwrap() > most, "a number was used again");
}

#[tokio::test]
async fn a_readmitted_webhook_becomes_an_event_once() {
    let (database, queue) = open().await;
    let waiting = queue.enqueue_event(trigger("42")).await.unwrap().id;
    let webhook = queue.reject(rejected(3)).await.unwrap();
    let mut editor = Editor::open(&database).await.unwrap();
    let reception = editor.readmit(webhook, EnqueueRequest::event(trigger("42"))).await.unwrap();
    assert_eq!(
        reception,
        Some(Enqueued::Queued(vec![EnqueuedEvent { id: waiting, count: 2, event_type: EventType::Trigger }]))
    );
    assert_eq!(queue.reader().rejected(webhook).await.unwrap(), None);
    assert_eq!(editor.readmit(webhook, EnqueueRequest::event(trigger("43"))).await.unwrap(), None);
    assert_eq!(editor.readmit(RejectedId::new(99), EnqueueRequest::event(trigger("43"))).await.unwrap(), None);
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 1);
}

#[tokio::test]
async fn delivered_events_go_by_age_and_number_and_nothing_else_does() {
    let (database, queue) = open().await;
    let dead = dead_letter(&queue, "dead").await;
    let waiting = queue.enqueue_event(trigger("waiting")).await.unwrap().id;
    let webhook = queue.reject(rejected(3)).await.unwrap();
    let old = delivered(&queue, 450, at(0)).await;
    let young = delivered(&queue, 450, at(100)).await;
    let now = at(200);

    let history = |seconds, rows| Retention { age: Duration::from_secs(seconds), rows };
    assert_eq!(queue.prune(history(200, 1000), now).await.unwrap(), 0);
    assert_eq!(queue.prune(history(199, 1000), now).await.unwrap(), 450);
    assert_eq!(queue.prune(history(199, 1000), now).await.unwrap(), 0);
    assert_eq!(queue.reader().get(old[449]).await.unwrap(), None);
    assert_eq!(queue.reader().overview().await.unwrap().delivered, 450);

    assert_eq!(queue.prune(history(199, 7), now).await.unwrap(), 443);
    let left = queue.reader().ids(State::Delivered, u64::MAX).await.unwrap();
    assert_eq!(left, young[443..].iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(queue.prune(history(u64::MAX, 7), now).await.unwrap(), 0);

    assert_eq!(queue.prune(history(0, 0), at(1_000_000)).await.unwrap(), 7);
    assert_eq!(queue.reader().get(dead).await.unwrap().unwrap().summary.state, State::Dead);
    assert_eq!(queue.reader().get(waiting).await.unwrap().unwrap().summary.state, State::Waiting);
    assert!(queue.reader().rejected(webhook).await.unwrap().is_some());
    queue.close().await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM bodies").await, 2, "bodies without events stayed behind");
}

#[tokio::test]
async fn a_long_pruning_lets_webhooks_in_between_its_commits() {
    let (_database, queue) = open().await;
    delivered(&queue, 1500, at(0)).await;
    let before = queue.commits();
    let accept = async {
        // Until the first chunk is committed.
        while queue.commits() == before {
            tokio::task::yield_now().await;
        }
        queue.enqueue_event(trigger("late")).await.unwrap();
        queue.commits()
    };
    let both = tokio::time::timeout(Duration::from_secs(30), async {
        tokio::join!(accept, queue.prune(Retention { age: Duration::ZERO, rows: 0 }, at(1)))
    });
    let (commits, gone) = both.await.expect("it never ended");
    assert_eq!(gone.unwrap(), 1500);
    assert!(commits < queue.commits(), "the webhook had to wait for the whole of it");
}
