//! Metrics while the database cannot be read or written.

use std::collections::BTreeMap;
use std::thread;

use sentry_pagerduty_bridge::queue::Queue;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::support::{Bridge, ClosedPort, alert};
use crate::{SECRET, post_signed, samples, wait_for};

/// Executes statements on the database of a running bridge.
fn change(bridge: &Bridge, statements: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(bridge.database()).connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
    });
}

#[test]
fn counters_are_there_while_the_database_cannot_be_read_and_the_queue_is_not_told_as_empty() {
    let port = ClosedPort::new();
    let bridge = Bridge::start(&port.url());
    bridge.queue(&alert(1, "Disk full"));
    wait_for(&bridge, "a queue that can be read", |samples| samples.is("bridge_queue_readable", 1.0));

    change(&bridge, "ALTER TABLE events RENAME TO hidden; ALTER TABLE heartbeat RENAME TO hidden_heartbeat");
    assert_eq!(bridge.post(&alert(2, "Disk full")).status, 503);
    let broken = wait_for(&bridge, "that it cannot be read", |samples| samples.is("bridge_queue_readable", 0.0));
    assert_eq!(broken.get("bridge_queue_writable"), 0.0);
    assert!(broken.get("bridge_queue_commits_failed_total") >= 1.0);
    assert_eq!(broken.of("bridge_queue_events"), BTreeMap::new());
    assert!(!broken.0.contains_key("bridge_queue_oldest_seconds"));
    assert_eq!(broken.get("bridge_trouble{cause=\"storage\"}"), 1.0);
    let webhooks = BTreeMap::from([
        ("answer=\"queued\",source=\"legacy\"", 1.0),
        ("answer=\"unavailable\",source=\"legacy\"", 1.0),
    ]);
    assert_eq!(broken.of("bridge_webhooks_total"), webhooks);

    change(&bridge, "ALTER TABLE hidden RENAME TO events; ALTER TABLE hidden_heartbeat RENAME TO heartbeat");
    bridge.queue(&alert(2, "Disk full"));
    let samples = wait_for(&bridge, "a queue that can be read", |samples| samples.is("bridge_queue_readable", 1.0));
    assert_eq!(samples.get("bridge_queue_writable"), 1.0);
    assert_eq!(samples.get("bridge_trouble{cause=\"storage\"}"), 0.0);
    assert_eq!(samples.get("bridge_queue_events{state=\"waiting\"}"), 2.0);
}

#[test]
fn what_cannot_be_remembered_fails_no_webhook_and_no_shutdown() {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start(&port.url());
    change(&bridge, "DROP TABLE activity");
    bridge.queue(&alert(1, "Disk full"));
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    bridge.wait_for_log("the counts of the last seconds are lost");
    bridge.restart();
    bridge.wait_for_log("the metrics of the previous run could not be restored");
    bridge.queue(&alert(2, "Disk full"));
    assert_eq!(samples(&bridge).get("bridge_webhooks_total{answer=\"queued\",source=\"legacy\"}"), 1.0);
}

#[test]
fn a_memory_that_cannot_be_written_says_so_and_is_written_when_it_can_be() {
    use chrono::Utc;
    use sentry_pagerduty_bridge::metrics::{Metrics, WebhookAnswer, WebhookSource};

    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("bridge.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let queue = Queue::open(&path).await.unwrap();
        let metrics = Metrics::new();
        metrics.count_webhook(WebhookSource::Legacy, WebhookAnswer::Queued, Utc::now());
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        sqlx::query("ALTER TABLE lately RENAME TO hidden").execute(&mut connection).await.unwrap();
        queue.persist_metrics(&metrics).await.unwrap_err();
        assert!(queue.can_commit(), "alerts can be committed");
        sqlx::query("ALTER TABLE hidden RENAME TO lately").execute(&mut connection).await.unwrap();
        queue.persist_metrics(&metrics).await.unwrap();
        let memory = queue.persisted_metrics(Utc::now()).await.unwrap();
        assert_eq!(memory.buckets.iter().map(|bucket| bucket.received).sum::<u64>(), 1);
        assert_eq!(
            memory.last_webhook_at.unwrap().timestamp_millis(),
            metrics.snapshot(Utc::now()).last_webhook_at.unwrap().timestamp_millis()
        );
        assert_eq!(metrics.take_unsaved(), None, "nothing is left to be kept");
        queue.close().await.unwrap();
    });
}

#[test]
fn when_each_key_delivered_and_why_pagerduty_was_not_trusted_is_known_after_a_restart() {
    use chrono::{TimeDelta, Utc};
    use sentry_pagerduty_bridge::metrics::Metrics;
    use sentry_pagerduty_bridge::pagerduty::{OutcomeKind, ServiceKey};

    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("bridge.db");
    let key = |end: &str| ServiceKey::parse(&format!("0123456789abcdef0123456789ab{end}")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let queue = Queue::open(&path).await.unwrap();
        let (metrics, now) = (Metrics::new(), Utc::now());
        let earlier = now - TimeDelta::days(300);
        metrics.count_attempt(&key("AAAA"), OutcomeKind::Delivered, earlier, earlier);
        metrics.count_attempt(&key("BBBB"), OutcomeKind::Delivered, now, now);
        metrics.count_attempt(&key("CCCC"), OutcomeKind::Untrusted, now, now);
        metrics.set_untrusted(Some("TLS: expired".to_owned()));
        queue.persist_metrics(&metrics).await.unwrap();

        let recalled = Metrics::new();
        recalled.restore(queue.persisted_metrics(now).await.unwrap(), now);
        let delivered = recalled.snapshot(now).delivered;
        let millis: Vec<_> = delivered.iter().map(|(key, at)| (key.clone(), at.timestamp_millis())).collect();
        assert_eq!(millis, [(key("AAAA"), earlier.timestamp_millis()), (key("BBBB"), now.timestamp_millis())]);
        assert_eq!(queue.persisted_metrics(now).await.unwrap().untrusted.as_deref(), Some("TLS: expired"));
        // If the clock was set back meanwhile, no time is in the future.
        let before = now - TimeDelta::hours(1);
        let recalled = Metrics::new();
        recalled.restore(queue.persisted_metrics(before).await.unwrap(), before);
        assert_eq!(recalled.snapshot(before).delivered[&key("BBBB")], before);

        metrics.set_untrusted(None);
        metrics.count_attempt(&key("CCCC"), OutcomeKind::Delivered, now, now);
        queue.persist_metrics(&metrics).await.unwrap();
        let memory = queue.persisted_metrics(now).await.unwrap();
        assert_eq!((memory.untrusted, memory.delivered.len()), (None, 3));
        queue.close().await.unwrap();
    });
}

#[test]
fn what_is_kept_or_held_after_its_answer_is_counted_and_logged_all_the_same() {
    let port = ClosedPort::new();
    let settings = [("BRIDGE_SENTRY_CLIENT_SECRET", SECRET), ("RUST_LOG", "debug")];
    let bridge = Bridge::start_with(&port.url(), &settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut kept, mut held) = (0.0, 0.0);
    // Answers wait for the database for a second, and commits for five, which pass on a busy machine.
    for number in 1..=5 {
        let mut other = runtime.block_on(SqliteConnectOptions::new().filename(bridge.database()).connect()).unwrap();
        runtime.block_on(sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(bridge.post(b"hello").status, 400));
            scope.spawn(|| assert_eq!(post_signed(&bridge, "another secret", "event_alert", b"{}").status, 401));
        });
        bridge.wait_for_logs(number, "it is not kept yet: ");
        bridge.wait_for_logs(number, "is not held yet: ");
        runtime.block_on(sqlx::raw_sql("ROLLBACK").execute(&mut other)).unwrap();
        kept += last_of(&bridge, number, "it is kept as r", "it is not kept: ");
        held += last_of(&bridge, number, "is held for 24 hours", "is not held: ");
        if kept * held > 0.0 {
            break;
        }
    }
    assert!(kept * held > 0.0, "the machine was too busy");
    let samples = samples(&bridge);
    assert_eq!(samples.get("bridge_webhooks_rejected_kept_total"), kept);
    assert_eq!(samples.get("bridge_webhooks_held_total{outcome=\"held\"}"), held);
}

/// Waits for so many lines that tell of a success or a failure. Returns 1 if the last of them tells of a success.
fn last_of(bridge: &Bridge, number: usize, success: &str, failure: &str) -> f64 {
    let mut found = 0;
    bridge.process.stderr.wait_for(&format!("`{success}` or `{failure}` {number} times"), |line| {
        let succeeded = line.contains(success);
        found += usize::from(succeeded || line.contains(failure));
        (found == number).then_some(f64::from(succeeded))
    })
}
