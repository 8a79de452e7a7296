//! The overview and the lists of the queue agree with the rows in the database.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use sentry_pagerduty_bridge::metrics::{Failing, Metrics, WebhookAnswer, WebhookSource};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, OutcomeKind, ServiceKey};
use sentry_pagerduty_bridge::queue::{
    BeginRequest, Disposition, Editor, EnqueueRequest, Envelope, EventId, EventSummary, Overview, Queue, RejectedId,
    RejectedWebhook, ResolvedTriggers, Retention, Search, ServiceKeyCounts, SettleRequest, State,
};

use crate::database::TestDatabase;

/// In the past, because on PostgreSQL some times are stored as the present if they are later.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

fn key(number: usize) -> ServiceKey {
    ServiceKey::parse(&format!("{number:032}")).unwrap()
}

fn event(key: &ServiceKey, incident: &str, seconds: i64) -> Envelope {
    Envelope {
        service_key: key.clone(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse(incident).unwrap(),
        event_type: EventType::Trigger,
        description: "Disk full".to_owned(),
        body: br#"{"details":{}}"#.to_vec(),
        received_at: at(seconds),
        counts_at: None,
    }
}

fn rejected(seconds: i64) -> RejectedWebhook {
    RejectedWebhook {
        received_at: at(seconds),
        reason: "no JSON".to_owned(),
        body: b"{".to_vec(),
        ..RejectedWebhook::default()
    }
}

async fn open() -> (TestDatabase, Queue) {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    (database, queue)
}

/// The overview, computed by counting all rows.
async fn counted(database: &TestDatabase) -> Overview {
    let rows = "SELECT service_key, state, COALESCE(revived_at, first_seen) AS since FROM events ORDER BY id";
    let rows = database.rows(rows).await;
    let mut service_keys = BTreeMap::new();
    for (service_key, state, since) in rows {
        let service_key = ServiceKey::parse(&service_key).unwrap();
        let destination = service_keys.entry(service_key.clone()).or_insert(ServiceKeyCounts {
            service_key,
            waiting: 0,
            dead: 0,
            delivered: 0,
            oldest_waiting: None,
        });
        match State::parse(&state).unwrap() {
            State::Waiting => {
                destination.waiting += 1;
                destination.oldest_waiting =
                    destination.oldest_waiting.or(since.and_then(DateTime::from_timestamp_millis));
            }
            State::Dead => destination.dead += 1,
            State::Delivered => destination.delivered += 1,
        }
    }
    let rejected = database.number("SELECT COUNT(*) FROM rejected").await;
    let service_keys: Vec<ServiceKeyCounts> = service_keys.into_values().collect();
    let sum = |of: fn(&ServiceKeyCounts) -> u64| service_keys.iter().map(of).sum();
    Overview {
        waiting: sum(|destination| destination.waiting),
        dead: sum(|destination| destination.dead),
        delivered: sum(|destination| destination.delivered),
        held: 0,
        held_with_token_since: None,
        rejected: rejected.try_into().unwrap(),
        oldest_waiting: service_keys.iter().filter_map(|destination| destination.oldest_waiting).min(),
        service_keys,
    }
}

/// An action on the queue. Its numbers are taken modulo the number of existing rows.
#[derive(Clone, Debug)]
enum Action {
    /// Alerts that come at the same time, each by its key and incident. Alerts of a waiting incident are folded.
    Accept(Vec<(usize, u8)>),
    Begin(usize),
    Deliver(usize),
    MakeDead(usize),
    Delay(usize),
    Reject,
    Readmit(usize),
    DiscardRejected(usize),
    Revive(Vec<usize>),
    Discard(State, Vec<usize>),
    Prune {
        rows: u64,
    },
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let number = || 0..40_usize;
    let state = prop_oneof![Just(State::Waiting), Just(State::Dead), Just(State::Delivered)];
    let action = prop_oneof![
        6 => prop::collection::vec((0..3_usize, 0..6_u8), 1..6).prop_map(Action::Accept),
        2 => number().prop_map(Action::Begin),
        3 => number().prop_map(Action::Deliver),
        3 => number().prop_map(Action::MakeDead),
        1 => number().prop_map(Action::Delay),
        1 => Just(Action::Reject),
        1 => number().prop_map(Action::Readmit),
        1 => number().prop_map(Action::DiscardRejected),
        2 => prop::collection::vec(number(), 1..4).prop_map(Action::Revive),
        2 => (state, prop::collection::vec(number(), 1..4)).prop_map(|(state, ids)| Action::Discard(state, ids)),
        1 => (0..4_u64).prop_map(|rows| Action::Prune { rows }),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..30)
}

/// A queue on which actions are executed.
struct Bench {
    database: TestDatabase,
    queue: Queue,
    editor: Editor,
    clock: i64,
    last: i64,
    last_rejected: i64,
}

impl Bench {
    async fn new() -> Self {
        let database = TestDatabase::new();
        let queue = Queue::open(&database).await.unwrap();
        let editor = Editor::open(&database).await.unwrap();
        Self { database, queue, editor, clock: 0, last: 0, last_rejected: 0 }
    }

    /// The id of an existing event, or the next one that is not in use.
    fn id(&self, number: usize) -> EventId {
        EventId::new(i64::try_from(number).unwrap() % (self.last + 1) + 1)
    }

    fn rejected_id(&self, number: usize) -> RejectedId {
        RejectedId::new(i64::try_from(number).unwrap() % (self.last_rejected + 1) + 1)
    }

    async fn settle(&self, number: usize, settlement: Disposition) {
        let _ = self.queue.settle(SettleRequest::new(self.id(number), settlement, at(self.clock))).await;
    }

    async fn act(&mut self, action: Action) {
        self.clock += 1;
        match action {
            Action::Accept(alerts) => {
                let events = alerts.into_iter().map(|(number, incident)| {
                    self.queue.enqueue_event(event(&key(number), &incident.to_string(), self.clock))
                });
                for accepted in futures_util::future::join_all(events).await {
                    self.last = self.last.max(accepted.unwrap().id.get());
                }
            }
            Action::Begin(number) => drop(self.queue.begin(BeginRequest::new(self.id(number), at(self.clock))).await),
            Action::Deliver(number) => self.settle(number, Disposition::Delivered { note: None }).await,
            Action::MakeDead(number) => self.settle(number, Disposition::Dead { reason: "400".to_owned() }).await,
            Action::Delay(number) => {
                let (reason, next_attempt_at) = ("500".to_owned(), at(self.clock + 9));
                self.settle(number, Disposition::Retry { reason, next_attempt_at, blamed: Duration::ZERO }).await;
            }
            Action::Reject => self.last_rejected = self.queue.reject(rejected(self.clock)).await.unwrap().get(),
            Action::Readmit(number) => {
                let incoming = EnqueueRequest::event(event(&key(number % 3), "readmitted", self.clock));
                let id = self.rejected_id(number);
                self.editor.readmit(id, incoming).await.unwrap();
            }
            Action::DiscardRejected(number) => {
                let id = self.rejected_id(number);
                self.editor.discard_rejected(id).await.unwrap();
            }
            Action::Revive(numbers) => {
                let ids: Vec<_> = numbers.into_iter().map(|number| self.id(number)).collect();
                self.editor.requeue(&ids, ResolvedTriggers::Skip).await.unwrap();
            }
            Action::Discard(state, numbers) => {
                let ids: Vec<_> = numbers.into_iter().map(|number| self.id(number)).collect();
                self.editor.discard(state, &ids).await.unwrap();
            }
            Action::Prune { rows } => {
                self.queue.prune(Retention { age: Duration::from_secs(20), rows }, at(self.clock)).await.unwrap();
            }
            Action::Reopen => {
                self.queue.close().await.unwrap();
                self.queue = Queue::open(&self.database).await.unwrap();
            }
        }
    }
}

async fn check_overview_after(actions: Vec<Action>) -> TestCaseResult {
    let mut bench = Bench::new().await;
    for action in actions {
        let told = format!("{action:?}");
        bench.act(action).await;
        let overview = bench.queue.reader().overview().await.unwrap();
        prop_assert_eq!(overview, counted(&bench.database).await, "after {}", told);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if crate::database::IS_POSTGRES { 16 } else { 48 }))]

    #[test]
    fn whatever_is_done_with_the_queue_the_overview_is_what_counting_finds(actions in actions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check_overview_after(actions))?;
    }
}

#[tokio::test]
async fn an_alert_that_is_folded_adds_nothing_to_what_waits() {
    let (database, queue) = open().await;
    for seconds in 0..3 {
        queue.enqueue_event(event(&key(1), "42", seconds)).await.unwrap();
    }
    let overview = queue.reader().overview().await.unwrap();
    assert_eq!((overview.waiting, overview.oldest_waiting), (1, Some(at(0))));
    assert_eq!(overview, counted(&database).await);
}

fn numbers(events: &[EventSummary]) -> Vec<i64> {
    events.iter().map(|event| event.id.get()).collect()
}

/// All pages of `limit` events, concatenated.
async fn pages(queue: &Queue, state: State, limit: u32) -> Vec<i64> {
    let mut all = Vec::new();
    for _ in 0..100 {
        let after = all.last().copied().map(EventId::new);
        let page = queue.reader().list(state, after, limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        assert!(page.iter().all(|event| event.state == state));
        if page.is_empty() {
            return all;
        }
        all.extend(numbers(&page));
    }
    panic!("it never ended: {all:?}");
}

#[tokio::test]
async fn every_state_is_read_page_by_page_in_the_order_that_people_want() {
    let (database, queue) = open().await;
    assert_eq!(pages(&queue, State::Waiting, 5).await, Vec::<i64>::new());
    for number in 1..=60_i64 {
        let id = queue
            .enqueue_event(event(&key(usize::try_from(number * 7 % 5).unwrap()), &number.to_string(), number))
            .await;
        let id = id.unwrap().id;
        // They are settled in reverse order, several of them in the same millisecond.
        match number % 3 {
            0 => queue
                .settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at(200 - number / 10)))
                .await
                .unwrap(),
            1 => queue
                .settle(SettleRequest::new(id, Disposition::Dead { reason: "400".to_owned() }, at(200 - number)))
                .await
                .unwrap(),
            _ => {}
        }
    }
    let waiting: Vec<_> = (1..=60).filter(|number| number % 3 == 2).collect();
    let dead: Vec<_> = (1..=60).rev().filter(|number| number % 3 == 1).collect();
    let mut delivered: Vec<_> = (1..=60).filter(|number| number % 3 == 0).collect();
    delivered.sort_by_key(|number| (number / 10, -number));
    for limit in [1, 4, 7, 500] {
        assert_eq!(pages(&queue, State::Waiting, limit).await, waiting, "{limit}");
        assert_eq!(pages(&queue, State::Dead, limit).await, dead, "{limit}");
        assert_eq!(pages(&queue, State::Delivered, limit).await, delivered, "{limit}");
    }
    assert_eq!(queue.reader().list(State::Waiting, None, 0).await.unwrap(), []);

    let reader = queue.reader();
    assert_eq!(numbers(&reader.recent(None, 4).await.unwrap()), [60, 59, 58, 57]);
    assert_eq!(numbers(&reader.recent(Some(EventId::new(3)), 4).await.unwrap()), [2, 1]);
    let [last] = &reader.recent(Some(EventId::new(58)), 1).await.unwrap()[..] else { panic!("there are more") };
    assert_eq!((last.first_seen, last.finished_at), (at(57), Some(at(195))));

    // The last event of a page may be retried or deleted before the next page is read.
    let mut editor = Editor::open(&database).await.unwrap();
    editor.requeue(&[EventId::new(40)], ResolvedTriggers::Skip).await.unwrap();
    editor.discard(State::Dead, &[EventId::new(37)]).await.unwrap();
    editor.discard(State::Delivered, &[EventId::new(33)]).await.unwrap();
    assert_eq!(numbers(&reader.list(State::Dead, Some(EventId::new(40)), 2).await.unwrap()), [34, 31]);
    assert_eq!(numbers(&reader.list(State::Waiting, Some(EventId::new(38)), 2).await.unwrap()), [40, 41]);
    assert_eq!(reader.list(State::Delivered, Some(EventId::new(33)), 2).await.unwrap(), []);
}

#[tokio::test]
async fn rejected_webhooks_are_read_page_by_page_from_the_newest() {
    let (_database, queue) = open().await;
    for number in 0..5 {
        queue.reject(rejected(number)).await.unwrap();
    }
    let reader = queue.reader();
    let page = reader.rejected_list(None, 2).await.unwrap();
    assert_eq!(page.iter().map(|webhook| webhook.id.get()).collect::<Vec<_>>(), [5, 4]);
    assert_eq!((page[0].received_at, page[0].size, &*page[0].reason), (at(4), 1, "no JSON"));
    let page = reader.rejected_list(Some(page[1].id), 9).await.unwrap();
    assert_eq!(page.iter().map(|webhook| webhook.id.get()).collect::<Vec<_>>(), [3, 2, 1]);
}

#[tokio::test]
async fn the_alerts_among_what_waits_are_counted_without_those_of_the_bridge_itself() {
    let (_database, queue) = open().await;
    let own = IncidentKey::parse("sentry-pagerduty-bridge/silence").unwrap();
    let count = async |queue: &Queue| queue.reader().waiting_alerts(std::slice::from_ref(&own)).await.unwrap();
    assert_eq!(count(&queue).await, Some(0));
    for (number, incident) in ["1", "2", "3", own.as_str()].into_iter().enumerate() {
        queue.enqueue(EnqueueRequest::event(event(&key(number), incident, 0))).await.unwrap();
    }
    let resolve = Envelope { event_type: EventType::Resolve, ..event(&key(0), "1", 1) };
    queue.enqueue(EnqueueRequest::event(resolve)).await.unwrap();
    assert_eq!((queue.reader().overview().await.unwrap().waiting, count(&queue).await), (5, Some(3)));
    let many = (0..1_000).map(|incident| event(&key(0), &format!("many-{incident}"), 2));
    join_all(many.map(|envelope| queue.enqueue(EnqueueRequest::event(envelope)))).await;
    assert_eq!(count(&queue).await, None, "too many");
    queue.close().await.unwrap();
}

#[tokio::test]
async fn events_are_found_by_text_incident_and_service_key_page_by_page() {
    let (_database, queue) = open().await;
    for (number, description) in ["Disk is 100% full", "Disk is 1000 MB", "disk_a", "Queue stuck"].iter().enumerate() {
        let envelope =
            Envelope { description: (*description).to_owned(), ..event(&key(number), &format!("shop-410{number}"), 0) };
        queue.enqueue(EnqueueRequest::event(envelope)).await.unwrap();
    }
    let found = async |text: &str, keys: &[ServiceKey], before: Option<i64>, limit: u32| {
        let search = Search { text: text.to_owned(), service_keys: keys.to_vec() };
        let found = queue.reader().search(&search, before.map(EventId::new), limit).await.unwrap();
        let ids: Vec<_> = found.events.iter().map(|event| event.id.get()).collect();
        (ids, found.searched_to.map(EventId::get))
    };
    assert_eq!(found("DISK", &[], None, 50).await, (vec![3, 2, 1], None));
    assert_eq!(found("100%", &[], None, 50).await, (vec![1], None), "what SQL takes for a pattern is text here");
    assert_eq!(found("k_a", &[], None, 50).await, (vec![3], None));
    assert_eq!(found("4103", &[], None, 50).await, (vec![4], None));
    assert_eq!(found("nothing", &[key(1)], None, 50).await, (vec![2], None));
    let (first, next) = found("disk", &[], None, 2).await;
    assert_eq!((&first[..], next), (&[3, 2][..], Some(2)));
    assert_eq!(found("disk", &[], next, 2).await, (vec![1], None));
    let bodies = queue.reader().bodies(&[EventId::new(1), EventId::new(99)]).await.unwrap();
    assert_eq!(bodies.into_iter().collect::<Vec<_>>(), [(EventId::new(1), br#"{"details":{}}"#.to_vec())]);
    queue.close().await.unwrap();
}

#[tokio::test]
async fn wrong_signatures_in_a_row_are_known_after_a_restart_until_one_is_right() {
    let (database, queue) = open().await;
    let metrics = Metrics::new();
    for seconds in 0..5 {
        metrics.record_wrong_signature_sender("192.0.2.7".parse().unwrap());
        metrics.count_webhook(WebhookSource::Platform, WebhookAnswer::WrongSignature, at(seconds));
    }
    queue.persist_metrics(&metrics).await.unwrap();
    queue.close().await.unwrap();

    let queue = Queue::open(&database).await.unwrap();
    let restored = async |queue: &Queue| {
        let metrics = Metrics::new();
        metrics.restore(queue.persisted_metrics(at(100)).await.unwrap(), at(100));
        metrics
    };
    let metrics = restored(&queue).await;
    let snapshot = metrics.snapshot(at(100));
    assert_eq!((snapshot.wrong_signatures, snapshot.wrong_signatures_since), (5, Some(at(0))));
    assert_eq!(snapshot.wrong_signatures_from.addresses(), "192.0.2.7");
    metrics.count_webhook(WebhookSource::Platform, WebhookAnswer::Queued, at(101));
    queue.persist_metrics(&metrics).await.unwrap();
    assert_eq!(restored(&queue).await.snapshot(at(100)).wrong_signatures, 0);
    queue.close().await.unwrap();
}

#[tokio::test]
async fn since_when_attempts_fail_is_known_after_a_restart_until_one_succeeds() {
    let (database, queue) = open().await;
    let metrics = Metrics::new();
    metrics.count_attempt(&key(1), OutcomeKind::Timeout, at(0), at(10));
    metrics.count_attempt(&key(2), OutcomeKind::Throttled, at(0), at(20));
    queue.persist_metrics(&metrics).await.unwrap();
    queue.close().await.unwrap();

    let queue = Queue::open(&database).await.unwrap();
    let restored = async |queue: &Queue| {
        let metrics = Metrics::new();
        metrics.restore(queue.persisted_metrics(at(100)).await.unwrap(), at(100));
        (metrics.snapshot(at(100)).failing, metrics)
    };
    let (failing, metrics) = restored(&queue).await;
    let expected = [
        (key(1), Failing { kind: OutcomeKind::Timeout, since: at(10) }),
        (key(2), Failing { kind: OutcomeKind::Throttled, since: at(20) }),
    ];
    assert_eq!(failing, BTreeMap::from(expected.clone()));
    metrics.count_attempt(&key(1), OutcomeKind::Timeout, at(0), at(110));
    metrics.count_attempt(&key(2), OutcomeKind::Delivered, at(0), at(120));
    queue.persist_metrics(&metrics).await.unwrap();
    assert_eq!(restored(&queue).await.0, BTreeMap::from([expected[0].clone()]));
    queue.close().await.unwrap();
}
