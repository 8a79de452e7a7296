//! A queue that is moved from one engine to the other and back is identical.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sentry_pagerduty_bridge::config::{DatabaseConfig, DatabaseUrl, PostgresUrl};
use sentry_pagerduty_bridge::pagerduty::EventType;
use sentry_pagerduty_bridge::queue::transfer::{TransferError, export, import};
use sentry_pagerduty_bridge::queue::{
    BeginRequest, Disposition, HeldId, HeldSender, HeldWebhook, Queue, QueueError, RejectedWebhook, SettleRequest,
};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};
use temporary_postgres::PostgresCluster;

use crate::database::TestDatabase;
use crate::incidents::event_alert;
use crate::several_bridges::{at, event, key, trigger};

fn postgres() -> DatabaseConfig {
    DatabaseUrl::parse(&PostgresCluster::shared().database().unwrap()).unwrap().into()
}

async fn exported(database: &DatabaseConfig) -> Vec<u8> {
    for _ in 0..600 {
        let mut file = Vec::new();
        match export(database, &mut file).await {
            Ok(_) => return file,
            // A child process of another test inherits the lock until it executes its program.
            Err(TransferError::Queue(QueueError::InUse { .. })) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the database stays in use");
}

/// Moves a queue to PostgreSQL and from there to another SQLite file, and compares their contents.
async fn move_and_compare(from: &Path) -> String {
    let first = exported(&from.into()).await;
    let postgres = postgres();
    let rows = import(&postgres, &mut first.as_slice()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&first).lines().count() as u64, rows + 2);
    let second = exported(&postgres).await;
    assert_eq!(String::from_utf8_lossy(&second), String::from_utf8_lossy(&first));

    let directory = tempfile::tempdir().unwrap();
    let back = directory.path().join("back.db");
    import(&back.as_path().into(), &mut second.as_slice()).await.unwrap();
    assert_eq!(exported(&back.as_path().into()).await, first);
    assert!(!directory.path().join("back.db-wal").exists());

    // The rest is derived from the exported rows, and no id is used twice.
    let (old, new) = (Queue::open(from).await.unwrap(), Queue::open(&postgres).await.unwrap());
    assert_eq!(new.reader().overview().await.unwrap(), old.reader().overview().await.unwrap());
    let ids =
        [old.enqueue_event(trigger("new")).await.unwrap().id, new.enqueue_event(trigger("new")).await.unwrap().id];
    assert_eq!(ids[0], ids[1]);
    assert_eq!(held(&new).await, held(&old).await);
    for queue in [old, new] {
        queue.close().await.unwrap();
    }
    String::from_utf8(first).unwrap()
}

/// All held webhooks of a queue, after adding one more.
async fn held(queue: &Queue) -> Vec<(HeldId, HeldWebhook)> {
    assert!(queue.hold(held_from(HeldSender::Token)).await.unwrap());
    let mut all = Vec::new();
    for summary in queue.recount_held().await.unwrap() {
        let held = queue.reader().held(summary.id).await.unwrap().unwrap();
        assert_eq!((held.body.len() as u64, held.sender), (summary.size, summary.sender));
        all.push((summary.id, held));
    }
    all
}

/// Rows of the tables that [`fill`] reaches by no method of the queue, with what is particular about a column: no value, a
/// NUL or the character that stands for it in PostgreSQL, bytes that are no text, a number that no float holds.
const OTHER_ROWS: &str = "
    INSERT INTO resolves (incident_key, happened_at, received_at) VALUES ('r' || char(0), -1, 9007199254740993);
    INSERT INTO incident_issues (issue_key, incident_key, service_key, is_open, received_at, sentry_at)
        VALUES ('i' || char(26), 'k' || char(0), '0123456789abcdef0123456789abcdef', 0, 1, NULL),
            ('i', 'k', '0123456789abcdef0123456789abcdef', 1, 2, 3);
    INSERT INTO seen_webhooks (digest, incident_key, event_type) VALUES (zeroblob(32), 's' || char(0), 'resolve');
    INSERT INTO activity (began_at, received, delivered, throttled, failed) VALUES (300000, 1, 2, 3, 4);
    INSERT INTO canaries (event_id, sent_at, taken, failure, returned_at)
        VALUES ('00000000000000000000000000000001', 1, NULL, NULL, NULL),
            ('00000000000000000000000000000002', 2, 0, 'no' || char(0), NULL),
            ('00000000000000000000000000000003', 3, 1, NULL, 4);
    INSERT INTO issue_updates (webhook_id, incident_key, change, state, happened_at, received_at, attempts,
            next_attempt_at, finished_at, reason)
        VALUES ('w' || char(0), 'k', 'resolve', 'waiting', 1, 2, 3, 4, NULL, NULL),
            ('w', 'k' || char(26), 'unresolve', 'dead', 1, 2, 3, 4, 5, 'no' || char(0));
    INSERT INTO fallback (id, told_at, outage_since) VALUES (1, 2, NULL);
    INSERT INTO proofs (event_id, service_key, state, delivered_at, judged_at, incident_number, incident_url, reason)
        VALUES (1, '0123456789abcdef0123456789abcdef', 'not_opened', 1, 2, NULL, NULL, 'off' || char(0)),
            (2, '0123456789abcdef0123456789abcdef', 'confirmed', 1, 2, 1099511627776, 'https://example.test/1', NULL);
    INSERT INTO sentry_issues (incident_key, fired_at, seen_at, noted_at)
        VALUES ('n' || char(0), 1, NULL, 2), ('n', NULL, 1, 2);
    INSERT INTO catch_up (id, until, ran_at, found, enqueued, reported, summarized) VALUES (1, 2, 3, 4, 5, 6, 7);
    INSERT INTO wrong_signatures (id, number, first_at, lasted_ms, senders, more) VALUES (1, 2, NULL, 3, '192.0.2.7', 1);
    INSERT INTO failing_keys (service_key, kind, since) VALUES ('0123456789abcdef0123456789abcdef', 'refused', 1);
    INSERT INTO lately_delivered (service_key, at) VALUES ('0123456789abcdef0123456789abcdef', 1);
    UPDATE lately SET last_webhook_at = 1, untrusted = 'expired' || char(0)";

/// The tables whose rows follow from others, or count for this database alone.
const NOT_MOVED: [&str; 5] = ["_sqlx_migrations", "changes", "heartbeat", "sqlite_sequence", "tallies"];

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// How many columns each table of a database has.
async fn tables(path: &Path) -> BTreeMap<String, usize> {
    let columns =
        "SELECT tables.name, columns.name FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns
        WHERE tables.type = 'table'";
    let columns: Vec<(String, String)> = sqlx::query_as(columns).fetch_all(&mut connect(path).await).await.unwrap();
    let mut tables = BTreeMap::new();
    for (table, _) in columns.into_iter().filter(|(table, _)| !NOT_MOVED.contains(&table.as_str())) {
        *tables.entry(table).or_default() += 1;
    }
    tables
}

/// Fills every table of a queue.
async fn fill(path: &Path) {
    let queue = Queue::open(path).await.unwrap();
    let delivered = queue.enqueue_event(trigger("1")).await.unwrap().id;
    queue.begin(BeginRequest::new(delivered, at(1))).await.unwrap();
    queue
        .settle(SettleRequest::new(delivered, Disposition::Delivered { note: Some("no \0".to_owned()) }, at(2)))
        .await
        .unwrap();
    let dead = queue.enqueue_event(trigger("a\0b")).await.unwrap().id;
    queue.begin(BeginRequest::new(dead, at(1))).await.unwrap();
    queue.settle(SettleRequest::new(dead, Disposition::Dead { reason: "400 \u{1a}".to_owned() }, at(2))).await.unwrap();
    let retried = queue.enqueue_event(event("2", EventType::Acknowledge)).await.unwrap().id;
    queue.begin(BeginRequest::new(retried, at(3))).await.unwrap();
    let blamed = Duration::from_millis(1500);
    let retry = Disposition::Retry { reason: "503".to_owned(), next_attempt_at: at(9), blamed };
    queue.settle(SettleRequest::new(retried, retry, at(4))).await.unwrap();
    for came in 0..3 {
        queue.enqueue(event_alert("a", came, came)).await.unwrap();
    }
    let discarded = queue.enqueue_event(trigger("3")).await.unwrap().id;
    queue.begin(BeginRequest::new(discarded, at(5))).await.unwrap();
    let mut editor = queue.editor().await.unwrap();
    editor.discard(sentry_pagerduty_bridge::queue::State::Waiting, &[discarded]).await.unwrap();
    editor.close().await.unwrap();
    for reason in ["gone", "no JSON"] {
        let body = vec![0, 0xff, b'{'];
        let rejected =
            RejectedWebhook { received_at: at(6), reason: reason.to_owned(), body, ..RejectedWebhook::default() };
        let id = queue.reject(rejected).await.unwrap();
        if reason == "gone" {
            let mut editor = queue.editor().await.unwrap();
            assert!(editor.discard_rejected(id).await.unwrap());
            editor.close().await.unwrap();
        }
    }
    let held = held_from(HeldSender::Network("2001:db8::".parse().unwrap()));
    assert!(queue.hold(held.clone()).await.unwrap());
    assert!(
        queue.hold(HeldWebhook { sender: HeldSender::Token, resource: None, sent_at: None, ..held }).await.unwrap()
    );
    queue.close().await.unwrap();
    sqlx::raw_sql(OTHER_ROWS).execute(&mut connect(path).await).await.unwrap();
}

fn held_from(sender: HeldSender) -> HeldWebhook {
    HeldWebhook {
        received_at: at(7),
        sender,
        signature: [0xfe; 32],
        resource: Some("issue\0".to_owned()),
        idempotency_key: Some("key".to_owned()),
        sent_at: Some(at(6)),
        body: vec![0, 0xff, b'{'],
    }
}

#[tokio::test]
async fn a_queue_is_the_same_on_either_engine() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    fill(&path).await;
    let file = move_and_compare(&path).await;
    let rows = file.lines().filter_map(|line| match serde_json::from_str(line).unwrap() {
        Value::Array(row) => Some((row[0].as_str().unwrap().to_owned(), row.len() - 1)),
        _ => None,
    });
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), tables(&path).await, "a table or a column is missing");
    assert!(file.contains(key().expose()) && file.contains("a\\u0000b"), "{file}");
}

#[tokio::test]
async fn a_queue_of_an_older_version_is_brought_up_to_date_and_moved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/queue/version-7.db");
    std::fs::copy(fixture, &path).unwrap();
    let file = move_and_compare(&path).await;
    assert!(file.matches("[\"events\",").count() > 2, "{file}");
}

#[tokio::test]
async fn a_queue_is_never_mixed_with_another_and_half_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    fill(&path).await;
    let file = exported(&path.as_path().into()).await;
    let postgres = postgres();
    for cut in [1, 10, file.len() / 2, file.len() - 2] {
        let error = import(&postgres, &mut &file[..cut]).await.expect_err("it was imported");
        assert!(matches!(error, TransferError::Line { .. }), "{error:?}");
    }
    import(&postgres, &mut file.as_slice()).await.unwrap();
    for database in [&postgres, &path.as_path().into()] {
        let error = import(database, &mut file.as_slice()).await.expect_err("it was imported");
        assert!(matches!(error, TransferError::NotEmpty { .. }), "{error:?}");
    }
    let queue = Queue::open(path.as_path()).await.unwrap();
    let error = export(&path.as_path().into(), &mut Vec::new()).await.expect_err("a bridge runs on it");
    assert!(matches!(error, TransferError::Queue(QueueError::InUse { .. })), "{error:?}");
    queue.close().await.unwrap();
}

#[tokio::test]
async fn a_database_that_bridges_of_an_older_version_use_is_neither_exported_nor_brought_up_to_date() {
    for is_leaving in [false, true] {
        let database = TestDatabase::new();
        Queue::open(&database).await.unwrap().close().await.unwrap();
        let newest = "SELECT MAX(version) FROM _sqlx_migrations";
        let before = database.number(newest).await - 1;
        let meddle = format!(
            "DELETE FROM _sqlx_migrations WHERE version = ({newest});
             INSERT INTO bridges (id, name, version, fingerprint, is_leaving, reaches_pagerduty, last_seen)
             VALUES (gen_random_uuid(), 'old', '0.0.1', '', {is_leaving}, true, now())"
        );
        database.execute_sql(&meddle).await;
        let error = export(&(&database).into(), &mut Vec::new()).await.expect_err("a bridge runs on it");
        assert!(matches!(error, TransferError::Queue(QueueError::InUse { .. })), "{error:?}");
        assert_eq!(database.number(newest).await, before);
    }
}

#[tokio::test]
async fn a_queue_is_moved_past_a_pooler() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    fill(&path).await;
    let file = exported(&path.as_path().into()).await;
    let direct = PostgresCluster::shared().database().unwrap();
    // No pooler listens on this port.
    let pooler = DatabaseUrl::parse("postgres://bridge@127.0.0.1:1/bridge").unwrap();
    let config = DatabaseConfig { direct_url: Some(PostgresUrl::parse(&direct).unwrap()), ..pooler.into() };
    import(&config, &mut file.as_slice()).await.unwrap();
    assert_eq!(exported(&config).await, file);
}
