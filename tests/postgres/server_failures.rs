//! PostgreSQL stops, restarts, hangs, refuses connections or is not the primary: alerts are refused in time, none is
//! accepted and lost, and the bridge recovers without a restart.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sentry_pagerduty_bridge::config::{DatabaseConfig, DatabaseUrl};
use sentry_pagerduty_bridge::queue::{Queue, QueueError, Reader, Survives};
use temporary_postgres::PostgresCluster;

use crate::database::TestDatabase;
use crate::several_bridges::trigger;

/// The timeout for a refusal and for a recovery. Both take far less.
const SOON: Duration = Duration::from_secs(30);

/// The longest time for a refusal on a busy machine, so that the web server answers 503 before Sentry times out.
const REFUSED: Duration = Duration::from_secs(5);

fn config(url: &str) -> DatabaseConfig {
    DatabaseUrl::parse(url).unwrap().into()
}

/// Retries until an event is committed, at most for [`SOON`].
async fn wait_until_enqueued(queue: &Queue, incident: &str) {
    let begun = Instant::now();
    while let Err(error) = queue.enqueue_event(trigger(incident)).await {
        assert!(begun.elapsed() < SOON, "it does not go on: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Enqueues an alert and asserts that it is refused in time.
async fn refusal(queue: &Queue) -> QueueError {
    let begun = Instant::now();
    let error = queue.enqueue_event(trigger("refused")).await.expect_err("it was committed");
    assert!(begun.elapsed() < REFUSED, "it took {:?}", begun.elapsed());
    assert!(!queue.can_commit());
    error
}

#[tokio::test]
async fn a_server_that_stops_refuses_alerts_and_one_that_is_back_takes_them() {
    let cluster = PostgresCluster::start(&[]).unwrap();
    let queue = Queue::open(config(&cluster.database().unwrap())).await.unwrap();
    let first = queue.enqueue_event(trigger("1")).await.unwrap().id;
    cluster.stop().unwrap();
    let error = refusal(&queue).await;
    assert!(matches!(error, QueueError::Unreachable { .. }), "{error:?}");
    let port = cluster.port().to_string();
    assert!(error.to_string().contains(&port) && error.to_string().contains("check that PostgreSQL runs"), "{error}");
    cluster.start_again().unwrap();
    wait_until_enqueued(&queue, "2").await;
    assert!(queue.can_commit());
    // The connections of readers are new as well.
    assert_eq!(queue.reader().get(first).await.unwrap().unwrap().summary.id, first);
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 2);
}

#[tokio::test]
async fn a_server_that_hangs_is_found_out_by_the_clock() {
    let cluster = PostgresCluster::start(&[]).unwrap();
    let queue = Queue::open(config(&cluster.database().unwrap())).await.unwrap();
    queue.enqueue_event(trigger("1")).await.unwrap();
    cluster.signal("STOP").unwrap();
    let error = refusal(&queue).await;
    let reading = Instant::now();
    let read = queue.reader().overview().await;
    cluster.signal("CONT").unwrap();
    assert!(matches!(error, QueueError::TimedOut { .. }), "{error:?}");
    assert!(read.is_err() && reading.elapsed() < SOON, "{read:?}");
    wait_until_enqueued(&queue, "2").await;
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 2);
}

#[tokio::test]
async fn connections_that_the_server_ends_cost_no_alert() {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    for number in 0..20 {
        database
            .execute_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        queue.enqueue_event(trigger(&number.to_string())).await.unwrap();
    }
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 20);
}

#[tokio::test]
async fn a_standby_is_refused_with_a_sentence_that_says_so() {
    let cluster = PostgresCluster::start(&[]).unwrap();
    let url = cluster.database().unwrap();
    Queue::open(config(&url)).await.unwrap().close().await.unwrap();
    cluster.stop().unwrap();
    std::fs::write(cluster.data().join("standby.signal"), "").unwrap();
    cluster.start_again().unwrap();
    let error = Queue::open(config(&url)).await.expect_err("it was opened");
    assert!(matches!(error, QueueError::ReadOnly { .. }), "{error:?}");
    assert!(error.to_string().contains("primary"), "{error}");
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_named_as_the_cause() {
    let cluster = PostgresCluster::shared();
    let url = cluster.database().unwrap();
    Queue::open(config(&url)).await.unwrap().close().await.unwrap();
    let name = url.rsplit('/').next().unwrap();
    cluster
        .psql(
            "postgres",
            &format!("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0; GRANT ALL ON DATABASE {name} TO crowded"),
        )
        .unwrap();
    let error = Queue::open(config(&url.replace("bridge@", "crowded@"))).await.expect_err("it was opened");
    assert!(matches!(error, QueueError::NoConnection { .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_database_are_told_without_the_password() {
    let cluster = PostgresCluster::shared();
    let url = cluster.url("nowhere").replace("bridge@", "bridge:hunter2@");
    let error = Queue::open(config(&url)).await.expect_err("it was opened");
    assert!(matches!(error, QueueError::NotWritable { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    let error = Reader::open(config(&cluster.database().unwrap())).await.expect_err("it was opened");
    assert!(matches!(error, QueueError::Unprepared { .. }), "{error:?}");
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_whatever_the_database_says() {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    database
        .execute_sql(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$;
             CREATE TABLE heard (setting text);
             CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO heard VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
             CREATE TRIGGER hear AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION hear()",
        )
        .await;
    queue.close().await.unwrap();
    let queue = Queue::open(&database).await.unwrap();
    queue.enqueue_event(trigger("1")).await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM heard WHERE setting = 'on'").await, 1);
    assert_eq!(
        queue.reader().durability().await.unwrap().survives,
        Survives::Nothing,
        "the tests' cluster has no fsync"
    );
}

#[tokio::test]
async fn a_standby_that_is_away_refuses_alerts_and_is_never_waited_for_without_end() {
    let cluster = PostgresCluster::start(&[]).unwrap();
    let url = cluster.database().unwrap();
    let queue = Queue::open(config(&url)).await.unwrap();
    queue.enqueue_event(trigger("1")).await.unwrap();
    cluster.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'gone'").unwrap();
    cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    let begun = Instant::now();
    // The setting takes a moment to take effect.
    let error = loop {
        match queue.enqueue_event(trigger("2")).await {
            Ok(_) => assert!(begun.elapsed() < SOON, "the standby is not waited for"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, QueueError::TimedOut { .. }), "{error:?}");
    assert!(!queue.can_commit());
    cluster.psql("postgres", "ALTER SYSTEM RESET synchronous_standby_names").unwrap();
    cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    wait_until_enqueued(&queue, "3").await;
}

/// Where the proxy cuts the connection, once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cut {
    /// The COMMIT is not forwarded.
    Before,
    /// The COMMIT is forwarded, but not its response.
    After,
}

/// Starts a proxy to `port` that cuts the first connection whose client sends a COMMIT while it is `armed`.
fn proxy(port: u16, cut: Cut, armed: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let armed = Arc::clone(&armed);
            let (mut back, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let mut buffer = [0; 16_384];
                while let Ok(number @ 1..) = back.read(&mut buffer) {
                    if to_client.write_all(&buffer[..number]).is_err() {
                        break;
                    }
                }
                let _ = to_client.shutdown(Shutdown::Both);
            });
            thread::spawn(move || forward(client, server, cut, &armed));
        }
    });
    own
}

fn forward(mut client: TcpStream, mut server: TcpStream, cut: Cut, armed: &AtomicUsize) {
    let mut buffer = [0; 16_384];
    while let Ok(number @ 1..) = client.read(&mut buffer) {
        let is_commit = buffer[..number].windows(8).any(|text| text == b"; COMMIT");
        let cuts = is_commit && armed.compare_exchange(1, 2, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if cuts {
            // The client receives no response, whatever the server does.
            client.shutdown(Shutdown::Both).unwrap();
        }
        if cuts && cut == Cut::Before || server.write_all(&buffer[..number]).is_err() {
            break;
        }
        if cuts {
            // The server still reads what was sent before.
            let _ = server.shutdown(Shutdown::Write);
            return;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

async fn enqueues_through_a_cut(cut: Cut) {
    let cluster = PostgresCluster::shared();
    let url = cluster.database().unwrap();
    let armed = Arc::new(AtomicUsize::new(0));
    let port = proxy(cluster.port(), cut, Arc::clone(&armed));
    let through = url.replace(&format!(":{}/", cluster.port()), &format!(":{port}/"));
    let patient = DatabaseConfig { timeout: SOON, ..config(&through) };
    let queue = Queue::open(patient).await.unwrap();
    queue.enqueue_event(trigger("1")).await.unwrap();
    armed.store(1, Ordering::SeqCst);
    let accepted = queue.enqueue_event(trigger("1")).await.unwrap();
    assert_eq!(armed.load(Ordering::SeqCst), 2, "nothing was cut");
    assert_eq!(accepted.count, 2, "it is folded once, whether the first try was committed or not");
    assert_eq!(queue.enqueue_event(trigger("1")).await.unwrap().count, 3);
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 1);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_counts_once() {
    enqueues_through_a_cut(Cut::After).await;
}

#[tokio::test]
async fn a_commit_that_was_lost_on_its_way_is_made_again() {
    enqueues_through_a_cut(Cut::Before).await;
}
