//! Tests of SQLite only: its files, its older versions, and attempts that begin while nothing can be committed.

use std::time::Duration;

use sentry_pagerduty_bridge::pagerduty::{ApiVersion, IncidentKey};
use sentry_pagerduty_bridge::queue::{
    BeginRequest, Disposition, Editor, HeldSender, HeldWebhook, IssueUpdate, IssueUpdateChange, Queue, QueueError,
    Reader, RejectedWebhook, ResolvedTriggers, Retention, SettleRequest, State, StatusChange,
};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use crate::database::TestDatabase;
use crate::queue::{at, event, key, open};

#[tokio::test]
async fn a_copy_taken_as_if_the_power_had_gone_has_everything() {
    let (database, queue) = open().await;
    let delivered = queue.enqueue_event(event(&key(1), "1", b"one")).await.unwrap().id;
    let begun = queue.enqueue_event(event(&key(1), "2", b"two")).await.unwrap().id;
    queue.begin(BeginRequest::new(delivered, at(1))).await.unwrap();
    queue.settle(SettleRequest::new(delivered, Disposition::Delivered { note: None }, at(2))).await.unwrap();
    queue.begin(BeginRequest::new(begun, at(3))).await.unwrap();

    let copy = database.folder().join("copy.db");
    std::fs::copy(database.path(), &copy).unwrap();
    std::fs::copy(database.folder().join("bridge.db-wal"), database.folder().join("copy.db-wal")).unwrap();
    let revived = Queue::open(&copy).await.unwrap();

    let waiting = revived.reader().page(&key(1), None, 9).await.unwrap().events;
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].id, waiting[0].attempts, waiting[0].last_attempt_at), (begun, 1, Some(at(3))));
    assert_eq!(revived.reader().get(delivered).await.unwrap().unwrap().summary.state, State::Delivered);
    assert!(revived.enqueue_event(event(&key(1), "3", b"three")).await.unwrap().id > begun);
}

#[tokio::test]
async fn closing_leaves_one_file() {
    let (database, queue) = open().await;
    queue.reader().overview().await.unwrap();
    queue.enqueue_event(event(&key(1), "42", b"{}")).await.unwrap();
    queue.close().await.unwrap();
    assert!(!database.folder().join("bridge.db-wal").exists());
}

#[tokio::test]
async fn without_a_bridge_the_editor_leaves_one_file() {
    let (database, queue) = open().await;
    let dead = queue.enqueue_event(event(&key(1), "42", b"{}")).await.unwrap().id;
    queue.settle(SettleRequest::new(dead, Disposition::Dead { reason: "400".to_owned() }, at(1))).await.unwrap();
    queue.close().await.unwrap();
    let mut editor = Editor::open(&database).await.unwrap();
    assert_eq!(editor.requeue(&[dead], ResolvedTriggers::Skip).await.unwrap(), [dead]);
    editor.close().await.unwrap();
    assert!(!database.folder().join("bridge.db-wal").exists());
    assert_eq!(Reader::open(&database).await.unwrap().overview().await.unwrap().waiting, 1);

    let missing = Editor::open(&database.folder().join("other.db")).await.expect_err("it was opened");
    assert!(matches!(missing, QueueError::Missing { .. }), "{missing:?}");
}

#[tokio::test]
async fn what_was_sent_without_a_mark_is_not_folded_into() {
    let (database, queue) = open().await;
    let id = queue.enqueue_event(event(&key(1), "42", b"{}")).await.unwrap().id;
    database
        .execute_sql("CREATE TRIGGER full BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'no space'); END")
        .await;
    let sent = queue.begin(BeginRequest::new(id, at(1))).await.unwrap();
    let error = queue
        .settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at(2)))
        .await
        .expect_err("it was committed");
    assert!(error.to_string().contains("no space"), "{error}");
    database.execute_sql("DROP TRIGGER full").await;

    let next = queue.enqueue_event(event(&key(1), "42", b"{}")).await.unwrap();
    assert_eq!((next.count, next.id > id), (1, true));
    let kept = queue.reader().get(id).await.unwrap().unwrap();
    assert_eq!((kept.summary.attempts, kept.last_attempt_at, kept.body), (1, Some(at(1)), sent.body));
    assert_eq!(kept.summary.received_at, sent.received_at);
    queue.settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at(4))).await.unwrap();
}

#[tokio::test]
async fn a_queue_of_an_older_version_is_counted_once_and_keys_without_events_go() {
    let (database, queue) = open().await;
    for number in 0..9 {
        let id = queue.enqueue_event(event(&key(number % 3), &number.to_string(), b"{}")).await.unwrap().id;
        if number > 4 {
            queue.settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at(1))).await.unwrap();
        }
    }
    queue.close().await.unwrap();
    database
        .execute_sql(
            "DROP TABLE tallies; DROP TRIGGER events_added; DROP TRIGGER events_removed; DROP TRIGGER events_moved;
         DROP INDEX events_dead; DELETE FROM _sqlx_migrations WHERE version = 4;",
        )
        .await;
    let queue = Queue::open(&database).await.unwrap();
    let overview = queue.reader().overview().await.unwrap();
    assert_eq!((overview.waiting, overview.delivered, overview.service_keys.len()), (5, 4, 3));

    database
        .execute_sql(
            "DELETE FROM events WHERE service_key LIKE '%1'; UPDATE events SET service_key = printf('%032d', 7);",
        )
        .await;
    let overview = queue.reader().overview().await.unwrap();
    let [left] = overview.service_keys.as_slice() else { panic!("{overview:?}") };
    assert_eq!((left.service_key.clone(), left.waiting, left.delivered), (key(7), 3, 3));
    queue.prune(Retention { age: Duration::from_hours(1), rows: 9 }, at(2)).await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM tallies").await, 2, "only those of the key that is left");
}

/// Retries until an event is accepted.
async fn accept_in_time(queue: &Queue, incident: &str) {
    for _ in 0..300 {
        match queue.enqueue_event(event(&key(1), incident, b"new")).await {
            Ok(_) => return,
            // The pause before the next attempt to open the files.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    panic!("the queue does not work again");
}

async fn incidents_that_wait(queue: &Queue) -> Vec<String> {
    let waiting = queue.reader().page(&key(1), None, 9).await.unwrap().events;
    waiting.iter().map(|event| event.incident_key.to_string()).collect()
}

/// A queue with a waiting event, whose file is replaced by another one after `damage` was executed on that.
async fn replaced(damage: &str) -> (TestDatabase, Queue) {
    let (database, queue) = open().await;
    queue.enqueue_event(event(&key(1), "42", b"old")).await.unwrap();
    let other = TestDatabase::new();
    Queue::open(&other).await.unwrap().close().await.unwrap();
    other.execute_sql(damage).await;
    std::fs::copy(other.path(), database.folder().join("other.db")).unwrap();
    std::fs::rename(database.folder().join("other.db"), database.path()).unwrap();
    (database, queue)
}

const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (999999, 'of a newer program', 1, x'00', 0)";

#[tokio::test]
async fn what_is_kept_of_a_replaced_database_is_taken_over_once_the_other_one_can_be_used() {
    let (database, queue) = replaced(NEWER).await;
    let error = queue.enqueue_event(event(&key(1), "43", b"refused")).await.expect_err("it was accepted");
    assert!(matches!(error, QueueError::Newer { .. }), "{error:?}");
    database.execute_sql("DELETE FROM _sqlx_migrations WHERE version = 999999").await;
    accept_in_time(&queue, "44").await;
    assert_eq!(incidents_that_wait(&queue).await, ["42", "44"]);
}

#[tokio::test]
async fn what_is_kept_of_a_replaced_database_is_taken_over_also_where_the_other_one_is_deleted() {
    let (database, queue) = replaced(NEWER).await;
    let error = queue.enqueue_event(event(&key(1), "43", b"refused")).await.expect_err("it was accepted");
    assert!(matches!(error, QueueError::Newer { .. }), "{error:?}");
    std::fs::remove_file(database.path()).unwrap();
    accept_in_time(&queue, "44").await;
    assert_eq!(incidents_that_wait(&queue).await, ["42", "44"]);
}

#[tokio::test]
async fn a_take_over_that_fails_is_tried_again() {
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no space'); END";
    let (database, queue) = replaced(refuse).await;
    let error = queue.enqueue_event(event(&key(1), "43", b"refused")).await.expect_err("it was accepted");
    assert!(error.to_string().contains("no space"), "{error}");
    database.execute_sql("DROP TRIGGER refuse").await;
    accept_in_time(&queue, "44").await;
    assert_eq!(incidents_that_wait(&queue).await, ["42", "44"]);
}

#[tokio::test]
async fn an_older_backup_does_not_bring_back_what_an_incident_was() {
    let (database, queue) = open().await;
    let id = queue.enqueue_event(event(&key(1), "42", b"one")).await.unwrap().id;
    queue.begin(BeginRequest::new(id, at(1))).await.unwrap();
    queue.settle(SettleRequest::new(id, Disposition::Delivered { note: None }, at(2))).await.unwrap();
    let backup = TestDatabase::new();
    Queue::open(&backup).await.unwrap().close().await.unwrap();
    let closed = "INSERT INTO incidents (incident_key, service_key, is_open, changed_at) VALUES ('42', '%', 0, 1)";
    backup.execute_sql(&closed.replace('%', key(1).expose())).await;
    std::fs::copy(backup.path(), database.folder().join("backup.db")).unwrap();
    std::fs::rename(database.folder().join("backup.db"), database.path()).unwrap();
    accept_in_time(&queue, "44").await;
    assert_eq!(database.number("SELECT is_open FROM incidents WHERE incident_key = '42'").await, 1);
}

#[tokio::test]
async fn what_only_a_database_had_that_was_replaced_is_taken_over_whole() {
    let (database, queue) = open().await;
    let mut sent_by_v2 = event(&key(1), "42", b"two");
    sent_by_v2.api = ApiVersion::V2;
    queue.enqueue_event(sent_by_v2).await.unwrap();
    let opened = queue.enqueue_event(event(&key(1), "43", b"one")).await.unwrap().id;
    queue.begin(BeginRequest::new(opened, at(1))).await.unwrap();
    queue.settle(SettleRequest::new(opened, Disposition::Delivered { note: None }, at(2))).await.unwrap();
    let held = HeldWebhook {
        received_at: at(3),
        sender: HeldSender::Token,
        signature: [7; 32],
        resource: Some("issue".to_owned()),
        idempotency_key: None,
        sent_at: None,
        body: b"held".to_vec(),
    };
    assert!(queue.hold(held.clone()).await.unwrap());
    let reason = "the body is not JSON".to_owned();
    queue
        .reject(RejectedWebhook {
            received_at: at(4),
            reason,
            body: b"rejected".to_vec(),
            ..RejectedWebhook::default()
        })
        .await
        .unwrap();
    let update = IssueUpdate {
        webhook_id: "01A".to_owned(),
        incident_key: IncidentKey::parse("43").unwrap(),
        change: StatusChange::Resolve,
        happened_at: at(5),
        received_at: at(5),
        attempts: 0,
        next_attempt_at: at(5),
    };
    assert!(queue.record_issue_update(IssueUpdateChange::Received(update.clone())).await.unwrap());

    database
        .execute_sql(
            "INSERT INTO incident_issues VALUES ('45', 'shared', '1', 1, 0, NULL);
             INSERT INTO resolves VALUES ('46', 0, 0);
             INSERT INTO seen_webhooks (digest, incident_key, event_type) VALUES (x'07', '47', 'resolve');",
        )
        .await;

    let other = database.folder().join("other.db");
    Queue::open(&other).await.unwrap().close().await.unwrap();
    std::fs::rename(other, database.path()).unwrap();
    queue.enqueue_event(event(&key(1), "44", b"new")).await.unwrap();

    let reader = queue.reader();
    let waiting = reader.page(&key(1), None, 9).await.unwrap().events;
    let old = waiting.iter().find(|event| event.incident_key.as_str() == "42").unwrap();
    let begun = queue.begin(BeginRequest::new(old.id, at(6))).await.unwrap();
    assert_eq!((begun.api, begun.body), (ApiVersion::V2, b"two".to_vec()));
    assert_eq!(reader.issue_updates().await.unwrap(), [update]);
    let summaries = queue.recount_held().await.unwrap();
    assert_eq!(summaries.len(), 1);
    assert_eq!(reader.held(summaries[0].id).await.unwrap(), Some(held));
    assert_eq!(reader.overview().await.unwrap().rejected, 1);
    let mut connection = SqliteConnectOptions::new().filename(database.path()).connect().await.unwrap();
    for table in ["incidents", "incident_issues", "resolves", "seen_webhooks"] {
        let rows = sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")));
        assert_eq!(rows.fetch_one(&mut connection).await.ok(), Some(1_i64), "{table}");
    }
}
