//! Tests that need access to internals, such as the limits of a connection.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use chrono::DateTime;
use futures_util::future::{join, join_all};
use tempfile::TempDir;

use super::decide::dedup_window::DedupWindow;
use super::decide::{Batch, decide, dependencies};
use super::sqlite::SqliteEngine;
use super::store::{Dependencies, Plan, Store};
use super::{
    BeginRequest, CanaryChange, Disposition, EnqueueRequest, Envelope, EventId, IssueUpdate, IssueUpdateChange,
    OutageNotice, Queue, QueueError, SettleRequest, StatusChange, WriterHandle,
};
use crate::ingest::CanaryId;
use crate::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};

fn event(incident: &str, bytes: usize) -> Envelope {
    Envelope {
        service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse(incident).unwrap(),
        event_type: EventType::Trigger,
        description: String::new(),
        body: vec![b'x'; bytes],
        counts_at: None,
        received_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
    }
}

async fn engine() -> (TempDir, PathBuf, SqliteEngine) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let engine = SqliteEngine::open(&path).await.unwrap();
    (directory, path, engine)
}

#[tokio::test]
async fn the_webhooks_of_canaries_and_of_pagerduty_go_through_the_writer_that_takes_alerts() {
    let (_directory, path, engine) = engine().await;
    let queue = Queue::on_sqlite((&path).into(), engine);
    let (ended, status) = (tokio::sync::mpsc::channel(1).0, Arc::default());
    let queue = Queue { background_writer: WriterHandle { commands: ended, status }, ..queue };
    let (id, at) = (
        CanaryId::parse("0123456789abcdef0123456789abcdef").unwrap(),
        DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
    );
    queue.record_canary(CanaryChange::Sent { id, at }).await.unwrap();
    assert_eq!(queue.record_canary(CanaryChange::Returned { id, at }).await.unwrap(), Some(at));
    let update = IssueUpdate {
        webhook_id: "1".to_owned(),
        incident_key: IncidentKey::parse("1").unwrap(),
        change: StatusChange::Resolve,
        happened_at: at,
        received_at: at,
        attempts: 0,
        next_attempt_at: at,
    };
    assert!(queue.record_issue_update(IssueUpdateChange::Received(update)).await.unwrap());
    let notice = OutageNotice { told_at: at, outage_since: None };
    assert!(matches!(queue.write_outage_notice(notice).await, Err(QueueError::Closed)));
}

#[tokio::test]
async fn a_commit_that_hangs_is_found_out_and_asked_no_more() {
    let (_directory, path, engine) = engine().await;
    let opened = path.clone();
    let ((began, begins), (hang, end)) = (mpsc::channel(), mpsc::channel::<()>());
    let end = Mutex::new(end);
    let (hand_over, handed_over) = mpsc::channel();
    // The observer is called within the commit, so this commit does not end; it blocks its whole runtime.
    let writer = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let queue = Queue::on_sqlite((&opened).into(), engine);
            queue.observe(move |_| {
                began.send(()).unwrap_or_default();
                let _ = end.lock().unwrap().recv();
            });
            hand_over.send(queue.clone()).unwrap();
            queue.enqueue_event(event("1", 100)).await.unwrap();
            assert!(queue.probe().await.is_ok() && queue.can_commit());
        });
    });
    let queue = handed_over.recv().unwrap();
    begins.recv().unwrap();

    let patience = Duration::from_millis(1);
    let error = queue.probe_within(patience).await.unwrap_err();
    assert!(matches!(error, QueueError::Stuck { .. }), "{error:?}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    let room = queue.enqueue_writer.commands.capacity();
    let error = queue.probe_within(patience).await.unwrap_err();
    assert!(matches!(error, QueueError::Stuck { .. }), "{error:?}");
    assert_eq!(queue.enqueue_writer.commands.capacity(), room, "what hangs is asked for more");

    drop(hang);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_queue_goes_on_once_there_is_space() {
    let (_directory, path, engine) = engine().await;
    // SQLite fails with this limit as on a full disk. The limit belongs to this connection.
    let pages = engine.pragma("PRAGMA page_count");
    assert_eq!(engine.pragma(&format!("PRAGMA max_page_count = {}", pages + 8)), pages + 8);
    let queue = Queue::on_sqlite((&path).into(), engine);

    let small = queue.enqueue_event(event("1", 100)).await.unwrap().id;
    // They are sent while a commit is under way, so the next commit contains all of them.
    let ((began, begins), (hold, end)) = (mpsc::channel(), mpsc::channel::<()>());
    let end = Mutex::new(end);
    queue.observe(move |_| {
        began.send(()).unwrap_or_default();
        let _ = end.lock().unwrap().recv();
    });
    let nothing =
        queue.settle(SettleRequest::new(EventId::new(9), Disposition::Delivered { note: None }, DateTime::UNIX_EPOCH));
    let events = [("2", 100), ("3", 100_000), ("1", 100)];
    let together = async {
        begins.recv().unwrap();
        let enqueues = events.map(|(incident, bytes)| queue.enqueue_event(event(incident, bytes)));
        join(join_all(enqueues), async { drop(hold) }).await.0
    };
    for answer in join(nothing, together).await.1 {
        let error = answer.expect_err("it was committed without space");
        assert!(matches!(error, QueueError::Full { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert!(!queue.can_commit());
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 1);
    assert_eq!(queue.reader().get(small).await.unwrap().unwrap().summary.count, 1);

    // The record of an attempt is small enough for a disk that has no space for an alert.
    queue.begin(BeginRequest::new(small, DateTime::UNIX_EPOCH)).await.unwrap();
    assert!(!queue.can_commit());

    let large = queue.enqueue_event(event("3", 100_000)).await.unwrap().id;
    assert!(large > small && queue.can_commit());
    assert_eq!(queue.reader().get(large).await.unwrap().unwrap().body.len(), 100_000);
}

#[tokio::test]
async fn a_lock_of_another_program_refuses_and_the_queue_goes_on_once_it_is_gone() {
    let (_directory, path, engine) = engine().await;
    engine.pragma("PRAGMA busy_timeout = 0");
    let queue = Queue::on_sqlite((&path).into(), engine);
    let mut other = rival(&path).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let error = queue.enqueue_event(event("1", 1)).await.expect_err("it was committed beside another writer");
    assert!(matches!(error, QueueError::Locked { .. }), "{error:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    queue.enqueue_event(event("1", 1)).await.unwrap();
}

async fn rival(path: &std::path::Path) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions;
    sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

#[tokio::test]
async fn commits_are_fsynced_also_after_a_failure() {
    let (_directory, _path, mut engine) = engine().await;
    assert_eq!(engine.pragma("PRAGMA synchronous"), 2);
    engine.pragma("PRAGMA max_page_count = 1");
    let large = EnqueueRequest::event(event("1", 1_000_000));
    let batch = Batch { enqueues: vec![&large], ..Batch::default() };
    let known = engine.load(&dependencies(&batch)).await.unwrap();
    let decided = decide(&batch, &known, &DedupWindow::default());
    engine.apply(&decided.plan).await.expect_err("it was committed without space");
    engine.load(&Dependencies::default()).await.unwrap();
    engine.apply(&Plan::default()).await.unwrap();
    assert_eq!(engine.pragma("PRAGMA synchronous"), 2);
}
