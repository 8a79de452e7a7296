//! Failures of the disk, of the database file and by other programs, on SQLite.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;
use futures_util::future::{join, join_all, join3};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use sentry_pagerduty_bridge::queue::{
    BeginRequest, Disposition, Envelope, EventId, Queue, QueueError, Reader, Retention, SettleRequest,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;

use crate::database::send_together;

/// An event of the incident named `body`.
fn event(body: &str) -> Envelope {
    Envelope {
        service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: IncidentKey::parse(body).unwrap(),
        event_type: EventType::Trigger,
        description: "ZeroDivisionError: division by zero".to_owned(),
        body: body.as_bytes().to_owned(),
        received_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        counts_at: None,
    }
}

fn database() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    (directory, path)
}

/// Executes a statement on the file.
async fn execute_sql(path: &Path, sql: &str) {
    let mut connection = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
}

/// Opens `path`, and asserts that it fails with an error that names the file.
async fn refusal(path: &Path) -> (QueueError, String) {
    let error = Queue::open(path).await.expect_err("it was opened");
    let sentence = error.to_string();
    assert!(sentence.contains(&path.display().to_string()), "{sentence}");
    (error, sentence)
}

#[tokio::test]
async fn a_second_bridge_is_refused_and_a_reader_is_not() {
    let (_directory, path) = database();
    let queue = Queue::open(&path).await.unwrap();
    let (error, sentence) = refusal(&path).await;
    assert!(matches!(error, QueueError::InUse { .. }), "{error:?}");
    assert!(sentence.contains("another bridge is running"), "{sentence}");

    let id = queue.enqueue_event(event("{}")).await.unwrap().id;
    let reader = Reader::open(&path).await.unwrap();
    assert!(reader.get(id).await.unwrap().is_some());
    let later = queue.enqueue_event(event("[]")).await.unwrap().id;
    assert!(reader.get(later).await.unwrap().is_some());

    queue.close().await.unwrap();
    assert!(reader.get(later).await.unwrap().is_some());
    Queue::open(&path).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_the_database_does_not_let_a_second_bridge_in() {
    let (directory, path) = database();
    let _queue = Queue::open(&path).await.unwrap();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let (error, _) = refusal(&link).await;
    assert!(matches!(error, QueueError::InUse { .. }), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_but_its_owner_can_read_a_new_database() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path) = database();
    let queue = Queue::open(&path).await.unwrap();
    queue.enqueue_event(event("{}")).await.unwrap();
    for file in ["bridge.db", "bridge.db-wal"] {
        let mode = std::fs::metadata(directory.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named() {
    let (directory, _) = database();
    let (error, sentence) = refusal(&directory.path().join("missing").join("bridge.db")).await;
    assert!(matches!(error, QueueError::CannotOpen { .. }), "{error:?}");
    assert!(sentence.contains("its directory does not exist"), "{sentence}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named_with_the_cause() {
    let (directory, _) = database();
    let (error, sentence) = refusal(directory.path()).await;
    assert!(matches!(error, QueueError::NotWritable { .. }), "{error:?}");
    assert!(sentence.contains("directory"), "{sentence}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_without_permission_is_named_with_the_cause() {
    // Not even root can create files in the kernel's own folder, whether it is mounted read-only or not.
    let (error, sentence) = refusal(Path::new("/sys/kernel/bridge.db")).await;
    assert!(matches!(error, QueueError::NotWritable { .. }), "{error:?}");
    assert!(sentence.contains("permissions"), "{sentence}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (_directory, path) = database();
    let garbage = "no database ".repeat(1000);
    std::fs::write(&path, &garbage).unwrap();
    let (error, sentence) = refusal(&path).await;
    assert!(matches!(error, QueueError::Damaged { .. }), "{error:?}");
    assert!(sentence.contains("damaged"), "{sentence}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), garbage);
}

#[tokio::test]
async fn a_damaged_page_is_an_answer_and_no_panic() {
    let (_directory, path) = database();
    let queue = Queue::open(&path).await.unwrap();
    let id = queue.enqueue_event(event("{}")).await.unwrap().id;
    queue.close().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let found = match Queue::open(&path).await {
        Ok(queue) => queue.reader().get(id).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(found, Err(QueueError::Damaged { .. })), "{found:?}");
}

#[tokio::test]
async fn tables_of_a_newer_program_are_refused() {
    let (_directory, path) = database();
    Queue::open(&path).await.unwrap().close().await.unwrap();
    execute_sql(
        &path,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of the future', TRUE, x'00', 0)",
    )
    .await;
    let (error, sentence) = refusal(&path).await;
    assert!(matches!(error, QueueError::Newer { found: 9999, .. }), "{error:?}");
    assert!(sentence.contains("newer version of this program"), "{sentence}");
    let error = Reader::open(&path).await.expect_err("it was opened");
    assert!(matches!(error, QueueError::Newer { found: 9999, .. }), "{error:?}");
}

#[tokio::test]
async fn a_reader_creates_and_changes_nothing() {
    let (_directory, path) = database();
    let error = Reader::open(&path).await.expect_err("it was opened");
    assert!(matches!(error, QueueError::Missing { .. }), "{error:?}");
    assert!(!path.exists());

    execute_sql(&path, "CREATE TABLE something_else (id INTEGER)").await;
    let error = Reader::open(&path).await.expect_err("it was opened");
    assert!(matches!(error, QueueError::Unprepared { .. }), "{error:?}");
}

#[tokio::test]
async fn a_row_that_the_bridge_did_not_write_is_named() {
    let (_directory, path) = database();
    let queue = Queue::open(&path).await.unwrap();
    let id = queue.enqueue_event(event("{}")).await.unwrap().id;
    execute_sql(&path, "UPDATE events SET service_key = 'short'").await;
    let error = queue.reader().get(id).await.expect_err("it was read");
    assert!(
        matches!(error, QueueError::Unreadable { id: found, column: "service_key", .. } if found == id),
        "{error:?}"
    );
}

/// Overwrites the page of a table that begins with the row `id`. Every large body begins a page.
async fn damage(path: &Path, table: &str, id: i64) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET ?";
    let page: i64 = sqlx::query_scalar(sql).bind(table).bind(id - 1).fetch_one(&mut connection).await.unwrap();
    let size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut connection).await.unwrap();
    drop(connection);
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(u64::try_from((page - 1) * size).unwrap())).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(size).unwrap()]).unwrap();
}

#[tokio::test]
async fn what_needs_a_damaged_page_fails_alone_and_refuses_nothing_else_in_its_commit() {
    let (_directory, path) = database();
    let queue = Queue::open(&path).await.unwrap();
    let large = |number: u8| Envelope { body: vec![b'x'; 3000], ..event(&format!("{number}")) };
    let ids: Vec<_> = join_all((1..=5).map(|number| queue.enqueue_event(large(number)))).await;
    let ids: Vec<_> = ids.into_iter().map(|accepted| accepted.unwrap().id).collect();
    queue.close().await.unwrap();
    damage(&path, "bodies", 3).await;

    let queue = Queue::open(&path).await.unwrap();
    let at = DateTime::from_timestamp(1_800_000_001, 0).unwrap();
    // All of them are in one commit.
    let together = join3(
        join_all(ids.iter().map(|&id| queue.begin(BeginRequest::new(id, at)))),
        join_all((10..60).map(|number| queue.enqueue_event(event(&number.to_string())))),
        queue.enqueue_event(event("3")),
    );
    let ((begun, accepted, folded), _) = send_together(&queue, together).await;
    let failed: Vec<_> = begun.iter().zip(&ids).filter(|(begun, _)| begun.is_err()).map(|(_, id)| id.get()).collect();
    assert_eq!(failed, [3], "{begun:?}");
    assert!(matches!(&begun[2], Err(error) if error.is_damage()), "{begun:?}");
    assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
    assert!(!folded.unwrap().is_folded(), "it is an event of its own");
    assert!(queue.can_commit());
    for id in [1, 2, 4, 5] {
        assert_eq!(queue.reader().get(EventId::new(id)).await.unwrap().unwrap().summary.attempts, 1);
    }
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing_behind_and_the_next_one_works() {
    let (_directory, path) = database();
    let queue = Queue::open(&path).await.unwrap();
    let mut arrivals = queue.arrivals();
    let kept = queue.enqueue_event(event("kept")).await.unwrap().id;
    arrivals.recv().await.unwrap();
    execute_sql(
        &path,
        "CREATE TRIGGER refuse BEFORE INSERT ON bodies WHEN NEW.body = CAST('bad' AS BLOB) \
         BEGIN SELECT RAISE(ABORT, 'a body too bad'); END",
    )
    .await;
    let together = join(
        queue.begin(BeginRequest::new(kept, DateTime::from_timestamp(1_800_000_001, 0).unwrap())),
        join_all(["good", "good", "good", "bad"].map(|body| queue.enqueue_event(event(body)))),
    );
    let ((begun, accepted), commits) = send_together(&queue, together).await;
    let before = queue.commits();
    for answer in accepted {
        let error = answer.expect_err("part of a failed commit was answered with success");
        assert!(error.to_string().contains("a body too bad"), "{error}");
    }
    assert!(!queue.can_commit());
    assert_eq!(commits, 0);
    assert!(arrivals.try_recv().is_none());
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 1);
    // The attempt begins nevertheless, and is recorded by a later commit.
    assert_eq!(begun.unwrap().body, b"kept");
    assert_eq!(queue.reader().get(kept).await.unwrap().unwrap().summary.attempts, 0);

    queue.probe().await.unwrap();
    assert!(queue.can_commit());
    assert_eq!(queue.commits(), before + 1);
    assert_eq!(queue.reader().get(kept).await.unwrap().unwrap().summary.attempts, 1);
    let id = queue.enqueue_event(event("good")).await.unwrap().id;
    assert_eq!(queue.reader().get(id).await.unwrap().unwrap().body, b"good");
}

#[tokio::test]
async fn a_probe_is_a_real_commit() {
    let (_directory, path) = database();
    let queue = Queue::open(&path).await.unwrap();
    execute_sql(&path, "CREATE TRIGGER refuse BEFORE UPDATE ON heartbeat BEGIN SELECT RAISE(ABORT, 'no heart'); END")
        .await;
    let error = queue.probe().await.expect_err("nothing was written");
    assert!(error.to_string().contains("no heart"), "{error}");
    assert!(!queue.can_commit());
}

/// Enqueues and delivers `incidents` events.
async fn delivered(queue: &Queue, incidents: impl Iterator<Item = u64>, bytes: usize) {
    let mut ids = Vec::new();
    for chunk in incidents.collect::<Vec<_>>().chunks(1000) {
        let accepted = join_all(chunk.iter().map(|incident| {
            let incident_key = IncidentKey::parse(&incident.to_string()).unwrap();
            queue.enqueue_event(Envelope { incident_key, body: vec![b'x'; bytes], ..event("0") })
        }));
        ids.extend(accepted.await.into_iter().map(|accepted| accepted.unwrap().id));
    }
    let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    for chunk in ids.chunks(1000) {
        let delivered = Disposition::Delivered { note: None };
        for settled in
            join_all(chunk.iter().map(|id| queue.settle(SettleRequest::new(*id, delivered.clone(), at)))).await
        {
            settled.unwrap();
        }
    }
}

/// Deletes all delivered events.
async fn prune(queue: &Queue) -> Result<u64, QueueError> {
    let now = DateTime::from_timestamp(1_800_100_000, 0).unwrap();
    queue.prune(Retention { age: Duration::ZERO, rows: 0 }, now).await
}

/// Copies the write-ahead log into the file and returns its size. SQLite does so by itself after a few hundred pages.
async fn size_of(path: &Path) -> u64 {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.unwrap();
    std::fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn alerts_are_accepted_while_history_that_is_damaged_cannot_be_pruned() {
    let (_directory, path) = database();
    let queue = Queue::open(&path).await.unwrap();
    delivered(&queue, 1..=300, 100).await;
    queue.close().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // 13 is the type of a leaf page of a table.
    let is_of_events = |page: &[u8]| page[0] == 13 && page.windows(17).any(|text| text == b"ZeroDivisionError");
    let mut history = bytes.chunks_mut(4096).filter(|page| is_of_events(page));
    history.next().unwrap().fill(0xa5);
    assert!(history.count() > 3, "the newest events are on another page");
    std::fs::write(&path, bytes).unwrap();

    let queue = Queue::open(&path).await.unwrap();
    for round in 0..20 {
        let incidents = (0..20).map(|number| format!("{round}-{number}")).collect::<Vec<_>>();
        let alerts = join_all(incidents.iter().map(|incident| queue.enqueue_event(event(incident))));
        let (pruned, alerts) = tokio::join!(prune(&queue), alerts);
        let error = pruned.expect_err("what is damaged was pruned");
        assert!(matches!(error, QueueError::Damaged { .. }), "{error:?}");
        for alert in alerts {
            alert.expect("an alert was refused, because history could not be pruned");
        }
        assert!(queue.can_commit());
    }
}

/// Waits until the maintenance of a running bridge has reduced the file below a size, while alerts come.
async fn shrinks_below(size: u64, queue: &Queue, path: &Path) {
    let now = DateTime::from_timestamp(1_800_100_000, 0).unwrap();
    let upkeep =
        queue.keep_pruned(Retention { age: Duration::ZERO, rows: 0 }, Duration::from_millis(50), || now, || true);
    let is_small = async {
        for alert in 0.. {
            queue.enqueue_event(event(&format!("alert {alert}"))).await.unwrap();
            if size_of(path).await < size {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        never = upkeep => match never {},
        small = tokio::time::timeout(Duration::from_secs(25), is_small) => small.expect("the file never shrinks"),
    }
}

#[tokio::test]
async fn after_a_flood_that_was_delivered_and_forgotten_the_file_is_small_again() {
    let (_directory, path) = database();
    let queue = Queue::open(&path).await.unwrap();
    delivered(&queue, 1..=5_000, 4_000).await;
    let full = size_of(&path).await;
    assert!(full > 20_000_000, "{full}");
    shrinks_below(full / 4, &queue, &path).await;
}

#[tokio::test]
async fn a_file_of_an_earlier_version_shrinks_from_its_next_start_on() {
    let (_directory, path) = database();
    Queue::open(&path).await.unwrap().close().await.unwrap();
    execute_sql(&path, "PRAGMA auto_vacuum = NONE; VACUUM").await;
    let queue = Queue::open(&path).await.unwrap();
    delivered(&queue, 1..=5_000, 4_000).await;
    let full = size_of(&path).await;
    shrinks_below(full / 4, &queue, &path).await;
}
