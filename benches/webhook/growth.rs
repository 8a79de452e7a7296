//! Whether a bridge with many rows accepts alerts as fast as one with none, and what the rows cost.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sentry_pagerduty_bridge::config::DatabaseUrl;
use sentry_pagerduty_bridge::queue::{Queue, Retention};
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use temporary_postgres::PostgresCluster;

use crate::body::{Sample, USUAL};
use crate::load::{self, Figures};
use crate::server::{self, Kind};

/// The number of waiting events in each queue, and also that of delivered events.
const ROWS: [u32; 3] = [0, 100_000, 1_000_000];

/// How long the bridge is observed while nothing happens.
const REST: Duration = Duration::from_secs(5);

/// A queue with `rows` waiting events and as many delivered ones.
struct Filled {
    rows: u32,
    folder: PathBuf,
    database: Option<String>,
}

pub(crate) fn run(folder: &Path, cluster: &PostgresCluster, rounds: usize, seconds: u64, connections: usize) {
    let sample = Sample::new(USUAL);
    for kind in [Kind::Bridge, Kind::Postgres] {
        let queues = ROWS.map(|rows| fill(kind, folder, cluster, rows));
        let mut results: [Vec<Figures>; ROWS.len()] = Default::default();
        for round in 0..rounds {
            for (queue, results) in queues.iter().zip(&mut results) {
                let server = server::start(kind, &queue.folder, queue.database.as_deref());
                let (memory, waits) = (server.memory(), server.waits());
                thread::sleep(REST);
                let waits = (server.waits() - waits) as f64 / REST.as_secs_f64();
                let figures = load::run(server.address(), &sample, connections, Duration::from_secs(seconds));
                println!(
                    "{} round {} {:>7} waiting and delivered: {figures}; listens after {:.0} ms, {memory:.0} MiB then, {:.0} MiB at \
                     the end, {waits:.1} wake-ups a second at rest",
                    kind.name(),
                    round + 1,
                    queue.rows,
                    server.started_in().as_secs_f64() * 1e3,
                    server.memory(),
                );
                results.push(figures);
            }
        }
        for (queue, results) in queues.iter().zip(&results) {
            println!("{} median {:>7} {}", kind.name(), queue.rows, load::median(results));
        }
        for (queue, many) in queues.iter().zip(&results).skip(1) {
            let ratios = many.iter().zip(&results[0]).map(|(many, few)| many.per_second / few.per_second);
            let ratio = load::middle(ratios.collect());
            println!("{} {} / 0: {ratio:.2} (median of the rounds' ratios)", kind.name(), queue.rows);
        }
        if kind == Kind::Bridge {
            prune(&queues[ROWS.len() - 1]);
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Creates a queue with `rows` waiting events and as many delivered ones.
fn fill(kind: Kind, folder: &Path, cluster: &PostgresCluster, rows: u32) -> Filled {
    let folder = folder.join(format!("{}-{rows}", kind.name()));
    std::fs::create_dir(&folder).unwrap();
    let database = kind.needs_postgres().then(|| cluster.database().unwrap());
    let file = folder.join("bridge.db");
    let begun = Instant::now();
    runtime().block_on(async {
        match &database {
            Some(url) => Queue::open(DatabaseUrl::parse(url).unwrap()).await.unwrap().close().await.unwrap(),
            None => Queue::open(&file).await.unwrap().close().await.unwrap(),
        }
    });
    if rows == 0 {
        return Filled { rows, folder, database };
    }
    // All are too young for the bridge to delete them, and too old for its rate limiter to count them.
    let start = Utc::now().timestamp_millis() - 3_600_000 - 2 * i64::from(rows);
    let events = format!(
        "INSERT INTO events (id, state, service_key, incident_key, event_type, received_at, first_seen, attempts, last_attempt_at,
             finished_at, description)
         SELECT n, CASE WHEN n <= {rows} THEN 'delivered' ELSE 'waiting' END, '{}', 'old-' || n, 'trigger', {start} + n, {start} + n,
             CASE WHEN n <= {rows} THEN 1 ELSE 0 END, CASE WHEN n <= {rows} THEN {start} + n END,
             CASE WHEN n <= {rows} THEN {start} + n END,
             'ZeroDivisionError: division by zero in a view that everybody knows'
         FROM ",
        "0".repeat(32)
    );
    if let Some(url) = &database {
        let rows = format!(
            "SET synchronous_commit = off; {events} generate_series(1, 2 * {rows}) AS numbers (n);
             INSERT INTO bodies (id, body) SELECT id, decode(repeat('7b', 1500), 'hex') FROM events;
             INSERT INTO incident_queues (incident_key, used_at) SELECT incident_key, now() FROM events;
             SELECT setval('event_ids', 2 * {rows} + 1);"
        );
        cluster.psql(url.rsplit('/').next().unwrap(), &rows).unwrap();
    } else {
        let rows = format!(
            "BEGIN; WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 2 * {rows}) {events} numbers;
             INSERT INTO bodies (id, body) SELECT id, zeroblob(1500) FROM events; COMMIT;"
        );
        runtime().block_on(async {
            let options = SqliteConnectOptions::new().filename(&file).synchronous(SqliteSynchronous::Off);
            let mut connection = options.connect().await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }
    println!(
        "{} with {rows} waiting and {rows} delivered: made in {:.0} s",
        kind.name(),
        begun.elapsed().as_secs_f64()
    );
    Filled { rows, folder, database }
}

/// Deletes the delivered events, and prints the size of the file before and after.
fn prune(queue: &Filled) {
    let file = queue.folder.join("bridge.db");
    let mib = || std::fs::metadata(&file).unwrap().len() as f64 / f64::from(1 << 20);
    let (before, begun) = (mib(), Instant::now());
    let pruned = runtime().block_on(async {
        let queue = Queue::open(&file).await.unwrap();
        let everything = Retention { age: Duration::ZERO, rows: 0 };
        let pruned = queue.prune(everything, DateTime::<Utc>::MAX_UTC).await.unwrap();
        queue.shrink().await.unwrap();
        queue.close().await.unwrap();
        pruned
    });
    println!(
        "{pruned} delivered events deleted in {:.0} s: the file had {before:.0} MiB and has {:.0} MiB",
        begun.elapsed().as_secs_f64(),
        mib()
    );
}
