//! Several bridges on one database: order, folding and dedup across them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use sentry_pagerduty_bridge::cluster::Cluster;
use sentry_pagerduty_bridge::delivery::{DeliveryLimits, Worker};
use sentry_pagerduty_bridge::ingest::IgnoreReason;
use sentry_pagerduty_bridge::metrics::{Metrics, WebhookAnswer, WebhookSource};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, EventsClient, IncidentKey, OutcomeKind, ServiceKey};
use sentry_pagerduty_bridge::queue::leases::{BridgeId, BridgeInfo, LeaseChanges, LeaseName, LeaseState};
use sentry_pagerduty_bridge::queue::{
    BeginRequest, Disposition, Enqueued, Envelope, Queue, QueueError, Retention, SettleRequest, State,
};

use crate::database::TestDatabase;
use crate::incidents::event_alert;

const KEY: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

pub(crate) fn key() -> ServiceKey {
    ServiceKey::parse(KEY).unwrap()
}

pub(crate) fn event(incident: &str, event_type: EventType) -> Envelope {
    Envelope {
        service_key: key(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse(incident).unwrap(),
        event_type,
        description: "Disk full".to_owned(),
        body: br#"{"details":{}}"#.to_vec(),
        received_at: at(0),
        counts_at: None,
    }
}

pub(crate) fn trigger(incident: &str) -> Envelope {
    event(incident, EventType::Trigger)
}

#[tokio::test]
async fn three_bridges_that_start_together_make_the_tables_once() {
    let database = TestDatabase::new();
    let opened = join_all((0..3).map(|_| Queue::open(&database))).await;
    for queue in opened {
        queue.unwrap().enqueue_event(trigger("1")).await.unwrap();
    }
    assert_eq!(database.number("SELECT COUNT(*) FROM events").await, 1);
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused_with_what_to_do() {
    let database = TestDatabase::new();
    Queue::open(&database).await.unwrap().close().await.unwrap();
    database
        .execute_sql(
            "UPDATE _sqlx_migrations SET version = 9999 WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)",
        )
        .await;
    let error = Queue::open(&database).await.expect_err("it was opened");
    assert!(matches!(error, QueueError::Newer { found: 9999, .. }), "{error:?}");
    assert!(error.to_string().contains("install that version again"), "{error}");
}

#[tokio::test]
async fn alerts_of_one_incident_that_come_to_three_bridges_at_once_are_folded_into_one_event() {
    let database = TestDatabase::new();
    let bridges = join_all((0..3).map(|_| Queue::open(&database))).await;
    let bridges: Vec<_> = bridges.into_iter().map(Result::unwrap).collect();
    let alerts = (0..300).map(|number| bridges[number % 3].enqueue_event(trigger(&(number % 5).to_string())));
    for answer in join_all(alerts).await {
        answer.unwrap();
    }
    assert_eq!(database.number("SELECT COUNT(*) FROM events").await, 5);
    assert_eq!(database.number("SELECT CAST(SUM(count) AS bigint) FROM events").await, 300);
}

/// An event is ordered after all events of its incident that were answered before it came, whichever bridges they came to.
#[tokio::test]
async fn events_of_an_incident_stand_in_the_order_in_which_they_were_answered() {
    let database = TestDatabase::new();
    let bridges = [Queue::open(&database).await.unwrap(), Queue::open(&database).await.unwrap()];
    let one_after_the_other = async |incident: usize| {
        let mut ids = Vec::new();
        for number in 0..20 {
            // Acknowledges are never folded, so each has its own id.
            let event = event(&incident.to_string(), EventType::Acknowledge);
            ids.push(bridges[(number + incident) % 2].enqueue_event(event).await.unwrap().id);
        }
        ids
    };
    for ids in join_all((0..10).map(one_after_the_other)).await {
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }
    assert_eq!(bridges[0].reader().page(&key(), None, 999).await.unwrap().events.len(), 200);
}

#[tokio::test]
async fn a_webhook_that_comes_to_two_bridges_is_enqueued_once() {
    let database = TestDatabase::new();
    let bridges = [Queue::open(&database).await.unwrap(), Queue::open(&database).await.unwrap()];
    for round in 0..20 {
        let both = bridges.each_ref().map(|bridge| bridge.enqueue(event_alert("a", round, round)));
        let answers = join_all(both).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        let repeated = answers.iter().filter(|answer| **answer == Enqueued::Ignored(IgnoreReason::Repeated)).count();
        assert_eq!(repeated, 1, "{answers:?}");
    }
    assert_eq!(database.number("SELECT CAST(SUM(count) AS bigint) FROM events").await, 20);
}

#[tokio::test]
async fn a_text_with_a_nul_costs_no_alert_and_is_read_as_it_came() {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    let mut odd = trigger("a\0b");
    odd.description = "nul \0 and substitute \u{1a}0".to_owned();
    odd.body = b"{\"details\":{}, \"raw\":\"\0\"}".to_vec();
    let id = queue.enqueue_event(odd.clone()).await.unwrap().id;
    let folded = queue.enqueue_event(odd.clone()).await.unwrap();
    assert_eq!((folded.id, folded.count), (id, 2));
    // Another incident, although it looks the same on most screens.
    assert_ne!(queue.enqueue_event(trigger("ab")).await.unwrap().id, id);

    let retry = Disposition::Retry { reason: "no \0".to_owned(), next_attempt_at: at(9), blamed: Duration::ZERO };
    queue.begin(BeginRequest::new(id, at(1))).await.unwrap();
    queue.settle(SettleRequest::new(id, retry, at(2))).await.unwrap();
    let record = queue.reader().get(id).await.unwrap().unwrap();
    assert_eq!((record.summary.incident_key, record.summary.description), (odd.incident_key, odd.description));
    assert_eq!(record.summary.reason.as_deref(), Some("no \0"));
    assert!(record.body.contains(&0));
}

/// Exchanges leases between a bridge and the database.
async fn exchange(queue: &Queue, changes: &LeaseChanges) -> LeaseState {
    let me = BridgeInfo {
        id: BridgeId::new(1),
        name: String::new(),
        version: String::new(),
        fingerprint: String::new(),
        is_leaving: false,
        reaches_pagerduty: true,
    };
    queue.leases().unwrap().exchange(&me, changes, Duration::from_mins(5)).await.unwrap()
}

#[tokio::test]
async fn leases_of_service_keys_that_are_no_longer_in_use_are_deleted_and_made_again_when_they_are() {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    let key = |number: usize| ServiceKey::parse(&format!("{number:032}")).unwrap();
    let [unused, waiting, delivered, discarded] = [0, 1, 2, 3].map(key);
    for key in [&waiting, &delivered, &discarded] {
        queue.enqueue_event(Envelope { service_key: key.clone(), ..trigger("1") }).await.unwrap();
    }
    let of = async |key: &ServiceKey| queue.reader().page(key, None, 9).await.unwrap().events[0].id;
    let now = Utc::now();
    let (sent, in_flight) = (of(&delivered).await, of(&discarded).await);
    queue.begin(BeginRequest::new(sent, now)).await.unwrap();
    queue.settle(SettleRequest::new(sent, Disposition::Delivered { note: None }, now)).await.unwrap();
    queue.begin(BeginRequest::new(in_flight, now)).await.unwrap();
    let mut editor = queue.editor().await.unwrap();
    editor.discard(State::Waiting, &[in_flight]).await.unwrap();
    editor.close().await.unwrap();
    let remember = format!(
        "INSERT INTO lately_delivered (service_key, at) VALUES ('{}', {})",
        delivered.expose(),
        now.timestamp_millis()
    );
    database.execute_sql(&remember).await;

    let names = [&unused, &waiting, &delivered, &discarded].map(|key| LeaseName::Key(key.clone()));
    let create = names.iter().cloned().chain([LeaseName::Leader]).collect();
    exchange(&queue, &LeaseChanges { create, ..LeaseChanges::default() }).await;
    let retention = Retention { age: Duration::from_hours(24), rows: 1_000 };
    let kept = async || {
        queue.prune(retention, Utc::now()).await.unwrap();
        let view = exchange(&queue, &LeaseChanges::default()).await;
        view.leases.into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    let mut in_use = vec![names[1].clone(), names[2].clone(), names[3].clone(), LeaseName::Leader];
    assert_eq!(kept().await, in_use);

    for table in ["lately_delivered SET at = at", "discarded SET last_attempt_at = last_attempt_at"] {
        database.execute_sql(&format!("UPDATE {table} - 86500000")).await;
    }
    in_use.drain(1..3);
    assert_eq!(kept().await, in_use);
    queue.enqueue_event(Envelope { service_key: unused.clone(), ..trigger("2") }).await.unwrap();
    assert_eq!(exchange(&queue, &LeaseChanges::default()).await.unleased, [unused]);
}

#[tokio::test]
async fn what_bridges_count_is_added_up_and_no_restart_counts_it_twice() {
    let database = TestDatabase::new();
    let bridges = [Queue::open(&database).await.unwrap(), Queue::open(&database).await.unwrap()];
    let (metrics, now) = ([Metrics::new(), Metrics::new()], Utc::now());
    let count = |metrics: &Metrics, times: usize| {
        (0..times).for_each(|_| metrics.count_webhook(WebhookSource::Legacy, WebhookAnswer::Queued, now));
    };
    let shown = async |metrics: &Metrics| {
        let mut snapshot = metrics.snapshot(now);
        snapshot.include(&bridges[0].persisted_metrics(now).await.unwrap(), now);
        snapshot.activity.iter().map(|bucket| bucket.received).sum::<u64>()
    };
    for (times, (queue, metrics)) in [3, 4].into_iter().zip(bridges.iter().zip(&metrics)) {
        count(metrics, times);
        queue.persist_metrics(metrics).await.unwrap();
        queue.persist_metrics(metrics).await.unwrap();
    }
    assert_eq!((shown(&metrics[0]).await, shown(&metrics[1]).await), (7, 7));
    count(&metrics[1], 1);
    assert_eq!(shown(&metrics[1]).await, 8, "before it is stored");
    bridges[1].persist_metrics(&metrics[1]).await.unwrap();
    assert_eq!(shown(&metrics[1]).await, 8, "and after");

    let restarted = Metrics::new();
    restarted.restore(bridges[0].persisted_metrics(now).await.unwrap(), now);
    count(&restarted, 2);
    bridges[0].persist_metrics(&restarted).await.unwrap();
    assert_eq!((shown(&restarted).await, shown(&metrics[1]).await), (10, 10));
}

/// What one bridge stores while its clock is ahead must not look like news to the others until that time has come.
#[tokio::test]
async fn times_of_a_clock_that_was_ahead_keep_no_alarm_from_being_raised() {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    let (metrics, began) = (Metrics::new(), Utc::now());
    let (ahead, other) = (began + TimeDelta::hours(1), ServiceKey::parse(&KEY.replace('f', "0")).unwrap());
    let stored = async || queue.persisted_metrics(Utc::now()).await.unwrap();
    // At first, no webhook has come, and there is no time to be stored.
    metrics.count_attempt(&other, OutcomeKind::Timeout, ahead, ahead);
    queue.persist_metrics(&metrics).await.unwrap();
    assert_eq!((stored().await.last_webhook_at, stored().await.last_delivered_at), (None, None));

    metrics.count_webhook(WebhookSource::Legacy, WebhookAnswer::Queued, ahead);
    metrics.count_attempt(&key(), OutcomeKind::Delivered, ahead, ahead);
    let sent = queue.enqueue_event(trigger("1")).await.unwrap().id;
    queue.begin(BeginRequest::new(sent, ahead)).await.unwrap();
    queue.settle(SettleRequest::new(sent, Disposition::Delivered { note: None }, ahead)).await.unwrap();
    queue.persist_metrics(&metrics).await.unwrap();
    let kept = stored().await;
    let fresh = began - TimeDelta::milliseconds(1)..=Utc::now() + TimeDelta::milliseconds(1);
    assert!(kept.last_webhook_at.is_some_and(|at| fresh.contains(&at)), "{kept:?}");
    assert!(kept.last_delivered_at.is_some_and(|at| fresh.contains(&at)), "{kept:?}");
    assert!(fresh.contains(&kept.delivered[&key()]), "{kept:?}");
    assert!(kept.failing[&other].is_some_and(|failing| fresh.contains(&failing.since)), "{kept:?}");

    // The clock is right again. What is counted since says nothing new about the last webhook and the last delivery.
    metrics.count_webhook(WebhookSource::Unknown, WebhookAnswer::WrongToken, Utc::now());
    metrics.count_attempt(&other, OutcomeKind::Throttled, Utc::now(), Utc::now());
    queue.persist_metrics(&metrics).await.unwrap();
    let later = stored().await;
    assert_eq!((later.last_webhook_at, later.last_delivered_at), (kept.last_webhook_at, kept.last_delivered_at));
    assert_eq!(later.delivered, kept.delivered);

    // An earlier version stored such a time: it ends with the next that is stored.
    database.execute_sql(&format!("UPDATE lately SET last_webhook_at = {}", ahead.timestamp_millis())).await;
    metrics.count_webhook(WebhookSource::Legacy, WebhookAnswer::Queued, Utc::now());
    queue.persist_metrics(&metrics).await.unwrap();
    assert!(stored().await.last_webhook_at < Some(ahead));

    // PagerDuty is gone. Another bridge sees that the attempts fail, although the last delivery had a later time.
    metrics.count_attempt(&key(), OutcomeKind::NetworkError, Utc::now(), Utc::now());
    queue.persist_metrics(&metrics).await.unwrap();
    for observer in [&metrics, &Metrics::new()] {
        let mut snapshot = observer.snapshot(Utc::now());
        snapshot.include(&stored().await, Utc::now());
        assert!(snapshot.failing.contains_key(&key()), "{:?}", snapshot.delivered);
    }
}

#[tokio::test]
async fn wrong_signatures_are_added_up_and_a_right_one_at_any_bridge_ends_them() {
    let database = TestDatabase::new();
    let queues = [Queue::open(&database).await.unwrap(), Queue::open(&database).await.unwrap()];
    let metrics = [Metrics::new(), Metrics::new()];
    let count = |bridge: usize, answer: WebhookAnswer| {
        metrics[bridge].count_webhook(WebhookSource::Platform, answer, Utc::now());
    };
    let seen = async |bridge: usize| {
        let now = Utc::now();
        let stored = queues[bridge].persisted_metrics(now).await.unwrap().wrong_signatures;
        metrics[bridge].follow_signatures(stored.as_ref(), metrics[bridge].saves(), now);
        let snapshot = metrics[bridge].snapshot(now);
        (snapshot.wrong_signatures, snapshot.is_verified, snapshot.wrong_signatures_from.addresses())
    };
    for (bridge, address) in [(0, "192.0.2.1"), (1, "192.0.2.2"), (0, "192.0.2.1")] {
        metrics[bridge].record_wrong_signature_sender(address.parse().unwrap());
        count(bridge, WebhookAnswer::WrongSignature);
        queues[bridge].persist_metrics(&metrics[bridge]).await.unwrap();
    }
    let both = (3, false, "192.0.2.1,192.0.2.2".to_owned());
    assert_eq!((seen(0).await, seen(1).await), (both.clone(), both));
    count(1, WebhookAnswer::Ignored);
    queues[1].persist_metrics(&metrics[1]).await.unwrap();
    let none = (0, true, String::new());
    assert_eq!((seen(0).await, seen(1).await), (none.clone(), none));
}

#[actix_web::test]
async fn a_certificate_that_an_earlier_run_did_not_trust_is_no_matter_of_a_bridge_without_keys() {
    let queue = Queue::open(&TestDatabase::new()).await.unwrap();
    let client = EventsClient::new(&"http://127.0.0.1:9".parse().unwrap(), Duration::from_secs(1), None).unwrap();
    let reason = "TLS: expired".to_owned();
    let untrusted = |cluster| {
        let worker = Worker::new(queue.clone(), client.clone(), DeliveryLimits::new(120, Duration::from_hours(1)));
        let worker = worker.with_cluster(cluster);
        let worker = worker.with_earlier_failures(vec![(key(), reason.clone())], Some(reason.clone()));
        worker.view().borrow().untrusted.clone()
    };
    assert_eq!(untrusted(Cluster::alone()), Some(reason.clone()));
    let shared = Cluster::join(queue.leases().unwrap(), Duration::from_secs(1), String::new(), String::new());
    assert_eq!(untrusted(shared), None, "the bridge that delivers for the key says whether it is trusted");
}
