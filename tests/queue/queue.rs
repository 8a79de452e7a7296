//! Enqueueing, announcing, beginning and settling of events, on a real database.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{join, join_all};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{
    BeginRequest, Disposition, Envelope, EventId, Overview, Queue, QueueError, Reader, SettleRequest, State,
    WaitingEvent,
};

use crate::database::{TestDatabase, send_together};

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 123_000_000).unwrap()
}

pub(crate) fn key(number: usize) -> ServiceKey {
    ServiceKey::parse(&format!("{number:032}")).unwrap()
}

pub(crate) fn event(key: &ServiceKey, incident: &str, body: &[u8]) -> Envelope {
    Envelope {
        service_key: key.clone(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse(incident).unwrap(),
        event_type: EventType::Trigger,
        description: "ZeroDivisionError: division by zero".to_owned(),
        body: body.to_owned(),
        received_at: at(0),
        counts_at: None,
    }
}

pub(crate) async fn open() -> (TestDatabase, Queue) {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    (database, queue)
}

/// Runs a future with a timeout.
async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it never happened")
}

/// Enqueues one event for each key, with different incidents, all at the same time.
async fn accept_all(queue: &Queue, keys: impl Iterator<Item = ServiceKey>) -> Vec<EventId> {
    let events = keys.enumerate().map(|(number, key)| event(&key, &number.to_string(), number.to_string().as_bytes()));
    let accepted = join_all(events.map(|event| queue.enqueue_event(event))).await;
    accepted.into_iter().map(|accepted| accepted.unwrap().id).collect()
}

async fn waiting(queue: &Queue, key: &ServiceKey) -> Vec<WaitingEvent> {
    queue.reader().page(key, None, 1_000_000).await.unwrap().events
}

#[tokio::test]
async fn what_was_accepted_is_there_for_another_connection_at_once() {
    let (database, queue) = open().await;
    let mut new = event(&key(1), "42", b"{\"nul\":\"\\u0000\"}");
    new.description = "a NUL \0 and an emoji \u{1f525}".to_owned();
    new.event_type = EventType::Resolve;
    let id = queue.enqueue_event(new.clone()).await.unwrap().id;
    drop(queue);

    let record = Reader::open(&database).await.unwrap().get(id).await.unwrap().unwrap();
    assert_eq!(record.summary.state, State::Waiting);
    assert_eq!(record.summary.service_key, new.service_key);
    assert_eq!(record.summary.incident_key, new.incident_key);
    assert_eq!(record.summary.event_type, EventType::Resolve);
    assert_eq!(record.summary.description, new.description);
    assert_eq!(record.body, new.body);
    assert_eq!((record.summary.count, record.summary.attempts, record.blamed), (1, 0, Duration::ZERO));
    assert_eq!((record.summary.received_at, record.summary.first_seen), (at(0), at(0)));
    assert_eq!(
        (record.last_attempt_at, record.summary.next_attempt_at, record.summary.finished_at),
        (None, None, None)
    );
    assert_eq!(record.summary.reason, None);
}

#[tokio::test]
async fn many_at_once_share_commits_and_none_is_lost() {
    let (_database, queue) = open().await;
    let (ids, commits) = send_together(&queue, accept_all(&queue, (0..3000).map(|_| key(1)))).await;

    assert!((6..=60).contains(&commits), "3000 accepts took {commits} commits");
    let waiting: Vec<_> = waiting(&queue, &key(1)).await.iter().map(|event| event.id).collect();
    assert_eq!(waiting, ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
    assert_eq!(waiting.len(), 3000);
    for (number, id) in ids.iter().enumerate().step_by(97) {
        assert_eq!(queue.reader().get(*id).await.unwrap().unwrap().body, number.to_string().as_bytes());
    }
}

#[tokio::test]
async fn events_that_are_enqueued_together_get_their_own_numbers_among_others() {
    let (_database, queue) = open().await;
    let one = |number: usize| event(&key(1), &number.to_string(), number.to_string().as_bytes());
    let together = join_all((0..50).map(async |place: usize| {
        let alone = queue.enqueue_event(one(3 * place));
        let (alone, pair) = join(alone, queue.enqueue_events([one(3 * place + 1), one(3 * place + 2)])).await;
        [vec![alone.unwrap().id], pair.unwrap()].concat()
    }));
    let (ids, commits) = send_together(&queue, together).await;
    assert!(commits <= 20, "100 operations took {commits} commits");
    for (number, id) in ids.concat().into_iter().enumerate() {
        assert_eq!(queue.reader().get(id).await.unwrap().unwrap().body, number.to_string().as_bytes());
    }
}

#[tokio::test]
async fn beginning_and_settling_share_commits_too() {
    let (_database, queue) = open().await;
    let ids = accept_all(&queue, (0..200).map(|_| key(1))).await;
    let changes = async {
        join_all(ids.iter().map(|&id| queue.begin(BeginRequest::new(id, at(1))))).await;
        join_all(
            ids.iter().map(|&id| queue.settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at(2)))),
        )
        .await;
    };
    let ((), commits) = send_together(&queue, changes).await;
    assert!(commits <= 20, "400 changes took {commits} commits");
    let overview = queue.reader().overview().await.unwrap();
    assert_eq!((overview.waiting, overview.delivered), (0, 200));
}

#[tokio::test]
async fn every_arrival_is_announced_before_its_sender_has_the_answer() {
    let (_database, queue) = open().await;
    let unheard = queue.enqueue_event(event(&key(1), "0", b"{}")).await.unwrap().id;
    let mut arrivals = queue.arrivals();
    let id = queue.enqueue_event(event(&key(2), "42", b"{}")).await.unwrap().id;
    assert!(id > unheard);
    let expected = WaitingEvent {
        id,
        service_key: key(2),
        incident_key: IncidentKey::parse("42").unwrap(),
        event_type: EventType::Trigger,
        received_at: at(0),
        attempts: 0,
        last_attempt_at: None,
        blamed: Duration::ZERO,
    };
    assert_eq!(arrivals.try_recv(), Some(expected));
    assert!(arrivals.try_recv().is_none());

    drop(arrivals);
    queue.enqueue_event(event(&key(1), "1", b"{}")).await.unwrap();
    let mut later = queue.arrivals();
    assert!(later.try_recv().is_none());
}

#[tokio::test]
async fn announcements_that_nobody_takes_are_bounded_and_their_keys_are_told() {
    let (_database, queue) = open().await;
    let mut arrivals = queue.arrivals();
    accept_all(&queue, (0..5000).map(|_| key(1))).await;
    assert_eq!(arrivals.len(), 4096);
    queue.enqueue_event(event(&key(2), "42", b"{}")).await.unwrap();
    while arrivals.try_recv().is_some() {}
    queue.enqueue_event(event(&key(1), "6001", b"{}")).await.unwrap();
    assert!(arrivals.try_recv().is_none(), "it would seem that nothing came before it");
    assert_eq!(arrivals.take_missed(), BTreeSet::from([key(1), key(2)]));
    let id = queue.enqueue_event(event(&key(1), "6002", b"{}")).await.unwrap().id;
    assert_eq!(arrivals.try_recv().map(|arrival| arrival.id), Some(id));
}

#[tokio::test]
async fn an_attempt_is_counted_and_gets_the_very_bytes() {
    let (_database, queue) = open().await;
    let body: Vec<u8> = (0..100_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
    let id = queue.enqueue_event(event(&key(1), "42", &body)).await.unwrap().id;
    let begun = queue.begin(BeginRequest::new(id, at(5))).await.unwrap();
    assert_eq!(begun.body, body);
    assert_eq!(queue.begin(BeginRequest::new(id, at(9))).await.unwrap(), begun);
    let record = queue.reader().get(id).await.unwrap().unwrap();
    assert_eq!(begun.received_at, record.summary.received_at);
    assert_eq!((record.summary.attempts, record.last_attempt_at), (2, Some(at(9))));
    assert_eq!(record.body, body);
}

#[tokio::test]
async fn a_retry_stays_in_line_and_remembers_why() {
    let (_database, queue) = open().await;
    let id = queue.enqueue_event(event(&key(1), "42", b"{}")).await.unwrap().id;
    queue.begin(BeginRequest::new(id, at(5))).await.unwrap();
    let blamed = Duration::from_millis(61_500);
    let retry = Disposition::Retry { reason: "500".to_owned(), next_attempt_at: at(30), blamed };
    queue.settle(SettleRequest::new(id, retry, at(6))).await.unwrap();

    let record = queue.reader().get(id).await.unwrap().unwrap();
    assert_eq!((record.summary.state, record.summary.reason.as_deref()), (State::Waiting, Some("500")));
    assert_eq!((record.summary.next_attempt_at, record.summary.finished_at), (Some(at(30)), None));
    let waiting = waiting(&queue, &key(1)).await;
    let expected = WaitingEvent {
        id,
        service_key: key(1),
        incident_key: IncidentKey::parse("42").unwrap(),
        event_type: EventType::Trigger,
        received_at: at(0),
        attempts: 1,
        last_attempt_at: Some(at(5)),
        blamed,
    };
    assert_eq!(waiting, [expected]);
}

#[tokio::test]
async fn what_is_delivered_or_dead_leaves_the_line_for_good() {
    let (_database, queue) = open().await;
    let delivered = queue.enqueue_event(event(&key(1), "1", b"{}")).await.unwrap().id;
    let dead = queue.enqueue_event(event(&key(1), "2", b"{}")).await.unwrap().id;
    let waiting = queue.enqueue_event(Envelope { received_at: at(7), ..event(&key(2), "3", b"{}") }).await.unwrap().id;
    queue.enqueue_event(Envelope { received_at: at(8), ..event(&key(1), "4", b"{}") }).await.unwrap();
    let retry = Disposition::Retry { reason: "503".to_owned(), next_attempt_at: at(2), blamed: Duration::ZERO };
    queue.settle(SettleRequest::new(delivered, retry.clone(), at(1))).await.unwrap();
    queue
        .settle(SettleRequest::new(delivered, Disposition::Delivered { note: Some("a note".to_owned()) }, at(3)))
        .await
        .unwrap();
    queue
        .settle(SettleRequest::new(dead, Disposition::Dead { reason: "Event object is invalid".to_owned() }, at(4)))
        .await
        .unwrap();

    let overview = queue.reader().overview().await.unwrap();
    assert_eq!((overview.waiting, overview.dead, overview.delivered), (2, 1, 1));
    assert_eq!(overview.oldest_waiting, Some(at(7)));
    let record = queue.reader().get(delivered).await.unwrap().unwrap();
    assert_eq!((record.summary.state, record.summary.reason.as_deref()), (State::Delivered, Some("a note")));
    assert_eq!((record.summary.finished_at, record.summary.next_attempt_at), (Some(at(3)), None));
    let record = queue.reader().get(dead).await.unwrap().unwrap();
    assert_eq!(
        (record.summary.state, record.summary.reason.as_deref()),
        (State::Dead, Some("Event object is invalid"))
    );
    assert_eq!(record.summary.finished_at, Some(at(4)));

    // Other requests in the same commit succeed, although one came too late.
    let (begun, settled, buried, other) = tokio::join!(
        queue.begin(BeginRequest::new(dead, at(5))),
        queue.settle(SettleRequest::new(delivered, retry, at(5))),
        queue.settle(SettleRequest::new(delivered, Disposition::Dead { reason: "late".to_owned() }, at(5))),
        queue.begin(BeginRequest::new(waiting, at(5))),
    );
    assert!(matches!(begun, Err(QueueError::NotWaiting(id)) if id == dead), "{begun:?}");
    assert!(matches!(settled, Err(QueueError::NotWaiting(id)) if id == delivered), "{settled:?}");
    assert!(matches!(buried, Err(QueueError::NotWaiting(id)) if id == delivered), "{buried:?}");
    assert!(other.is_ok());
    assert_eq!(queue.reader().get(EventId::new(99)).await.unwrap(), None);
    assert!(queue.begin(BeginRequest::new(EventId::new(99), at(5))).await.is_err());
}

#[tokio::test]
async fn the_keys_in_line_are_found_among_many_events() {
    let (_database, queue) = open().await;
    assert_eq!(queue.reader().waiting_keys().await.unwrap().keys, []);
    assert_eq!(queue.reader().overview().await.unwrap(), Overview::default());
    accept_all(&queue, (0..2000).map(|number| key(number % 200))).await;
    for gone in waiting(&queue, &key(7)).await {
        queue.settle(SettleRequest::new(gone.id, Disposition::Delivered { note: None }, at(1))).await.unwrap();
    }
    let expected: Vec<_> = (0..200).filter(|&number| number != 7).map(key).collect();
    assert_eq!(queue.reader().waiting_keys().await.unwrap().keys, expected);
}

#[tokio::test]
async fn a_line_is_read_page_by_page_and_key_by_key() {
    let (_database, queue) = open().await;
    let accepted = accept_all(&queue, (0..30).map(|number| key(number % 3))).await;
    let expected: Vec<_> = accepted.into_iter().skip(1).step_by(3).collect();
    let mut found = Vec::new();
    for _ in 0..4 {
        let page = queue.reader().page(&key(1), found.last().copied(), 4).await.unwrap().events;
        assert!(page.len() <= 4);
        found.extend(page.iter().map(|event| event.id));
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_attempts_of_the_last_minute_are_known_whatever_came_of_them() {
    let (_database, queue) = open().await;
    let ids = accept_all(&queue, (0..4).map(key)).await;
    for (id, begun) in ids.into_iter().zip([100, 40, 39, 70]) {
        queue.begin(BeginRequest::new(id, at(begun))).await.unwrap();
        if begun == 100 {
            queue.begin(BeginRequest::new(id, at(begun))).await.unwrap();
        }
        queue.settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at(begun))).await.unwrap();
    }
    queue.enqueue_event(event(&key(9), "42", b"{}")).await.unwrap();
    let attempts = queue.reader().attempts_since(at(40), at(100), 120).await.unwrap();
    assert_eq!(attempts, [(key(1), at(40), 1), (key(3), at(70), 1), (key(0), at(100), 2)]);
}

/// Inserts delivered events of a key, attempted `apart` milliseconds from each other, the last one at `last`.
async fn insert_attempts(database: &TestDatabase, key: &ServiceKey, attempts: u32, apart: u32, last: DateTime<Utc>) {
    let (key, last) = (key.expose(), last.timestamp_millis());
    let sql = format!(
        "WITH RECURSIVE before (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM before WHERE number + 1 < {attempts})
        INSERT INTO events (state, service_key, incident_key, event_type, received_at, first_seen, attempts,
            last_attempt_at, finished_at, description)
        SELECT 'delivered', '{key}', CAST(number AS text), 'trigger', at, at, 1, at, at, ''
        FROM (SELECT number, {last} - {apart} * number AS at FROM before) AS attempts"
    );
    database.execute_sql(&sql).await;
}

#[tokio::test]
async fn after_the_clock_was_set_back_by_two_hours_only_the_attempts_of_the_last_minute_are_read() {
    let (database, queue) = open().await;
    let (now, before) = (at(0), at(7200));
    // 300,000 in total: spread over two hours, all at the same time, and at the rate limit.
    insert_attempts(&database, &key(1), 144_000, 50, before).await;
    insert_attempts(&database, &key(2), 155_000, 0, before).await;
    insert_attempts(&database, &key(3), 1000, 1000, now).await;
    let attempts = queue.reader().attempts_since(now - TimeDelta::seconds(75), now, 120).await.unwrap();
    let of = |number| attempts.iter().filter(move |(other, ..)| *other == key(number)).map(|(_, at, _)| *at);
    assert_eq!([1, 2, 3].map(|number| of(number).count()), [120, 120, 76]);
    // The last attempt before the clock was set back may have been made just now, and the others at their distances before
    // it.
    let spread = (0..120).rev().map(|number| now - TimeDelta::milliseconds(50 * number));
    assert!(of(1).eq(spread));
    assert!(of(2).all(|at| at == now));
    assert!(attempts.is_sorted_by_key(|(_, at, _)| *at));
}

#[tokio::test]
async fn an_attempt_that_cannot_be_read_hides_no_other() {
    let (database, queue) = open().await;
    insert_attempts(&database, &key(1), 3, 1000, at(2)).await;
    database.execute_sql("UPDATE events SET service_key = 'none' WHERE id = 2").await;
    // A time that a clock with a wrong time has written.
    database.execute_sql("UPDATE events SET last_attempt_at = 9223372036854775807 WHERE id = 3").await;
    let attempts = queue.reader().attempts_since(at(0), at(2), 120).await.unwrap();
    assert_eq!(attempts, [(key(1), at(2), 1), (key(1), at(2), 1)]);
}

#[tokio::test]
async fn a_number_is_never_used_again() {
    let (database, queue) = open().await;
    let id = queue.enqueue_event(event(&key(1), "42", b"{}")).await.unwrap().id;
    queue.close().await.unwrap();
    database.execute_sql("DELETE FROM events; DELETE FROM bodies;").await;
    let queue = Queue::open(&database).await.unwrap();
    assert!(queue.enqueue_event(event(&key(1), "42", b"{}")).await.unwrap().id > id);
}

#[tokio::test]
async fn without_handles_the_writer_lets_go_of_the_file() {
    let (database, queue) = open().await;
    let mut arrivals = queue.arrivals();
    let clone = queue.clone();
    drop(queue);
    clone.enqueue_event(event(&key(1), "42", b"{}")).await.unwrap();
    drop(clone);
    assert!(soon(arrivals.recv()).await.is_some());
    assert!(soon(arrivals.recv()).await.is_none());
    let queue = Queue::open(&database).await.unwrap();
    assert_eq!(waiting(&queue, &key(1)).await.len(), 1);
}

#[tokio::test]
async fn closing_commits_what_was_sent() {
    let (database, queue) = open().await;
    queue.reader().overview().await.unwrap();
    let (accepted, closed) = soon(join(queue.enqueue_event(event(&key(1), "42", b"{}")), queue.close())).await;
    closed.unwrap();
    let late = queue.enqueue_event(event(&key(1), "43", b"{}")).await;
    assert!(matches!(late, Err(QueueError::Closed)), "{late:?}");
    assert!(matches!(queue.reader().overview().await, Err(QueueError::Closed)));
    assert!(matches!(queue.close().await, Err(QueueError::Closed)));

    let queue = Queue::open(&database).await.unwrap();
    assert_eq!(waiting(&queue, &key(1)).await[0].id, accepted.unwrap().id);
}
