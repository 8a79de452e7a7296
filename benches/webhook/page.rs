//! How long it takes to look at a large queue, compared with a small one, and how much that slows down the webhook.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use sentry_pagerduty_bridge::queue::{Queue, Reader, State};
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::body::{Sample, USUAL};
use crate::load::{self, Figures};
use crate::server::{self, Kind};
use crate::visitor::Visitor;

/// How many rows of each state a queue holds.
#[derive(Clone, Copy)]
struct Size {
    waiting: u32,
    delivered: u32,
}

/// As many delivered events as the bridge keeps, and a storm of waiting ones on top.
const LARGE: Size = Size { waiting: 100_000, delivered: 1_000_000 };

const SMALL: Size = Size { waiting: 1_000, delivered: 1_000 };

/// How many dead letters each queue holds.
const DEAD: u32 = 500;

/// How many service keys the events are spread over.
const KEYS: u32 = 10;

/// How often each look is timed.
const LOOKS: u32 = 200;

/// How many rows a page asks for at once.
const PAGE: u32 = 50;

pub(crate) fn run(folder: &Path, rounds: usize, seconds: u64, connections: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let small = runtime.block_on(build(folder.join("small"), SMALL));
    let large = runtime.block_on(build(folder.join("large"), LARGE));

    println!("medians of {LOOKS} looks; {KEYS} service keys, {DEAD} dead letters");
    let (few, many) = runtime.block_on(async { (looks(&small).await, looks(&large).await) });
    for ((name, few), (_, many)) in few.iter().zip(&many) {
        compare(name, *few, *many);
    }
    let [few, many] = [&small, &large].map(|place| requests(place));
    for ((path, few), (_, many)) in few.iter().zip(&many) {
        compare(&format!("GET {path}"), *few, *many);
    }

    println!();
    println!("webhooks on the large queue, {connections} connections, {rounds} rounds of {seconds} s, in turn");
    let sample = Sample::new(USUAL);
    let (mut alone, mut looked_at) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (is_looked_at, figures) in [(false, &mut alone), (true, &mut looked_at)] {
            figures.push(webhooks(&large, &sample, connections, Duration::from_secs(seconds), is_looked_at));
        }
    }
    println!("nobody looks      {}", load::median(&alone));
    println!("20 looks a second {}", load::median(&looked_at));
}

fn compare(name: &str, few: Duration, many: Duration) {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{name:<24} {:>8.0} µs with {:>7} rows, {:>8.0} µs with {} rows: {:.2} times",
        us(few),
        SMALL.waiting + SMALL.delivered,
        us(many),
        LARGE.waiting + LARGE.delivered,
        us(many) / us(few)
    );
}

/// The pause between two looks: twenty looks a second, like twenty people whose pages reload each second. Without a pause,
/// the benchmark would measure how two programs share a processor.
const REST: Duration = Duration::from_millis(50);

/// Creates a folder with a queue of this size.
async fn build(place: PathBuf, size: Size) -> PathBuf {
    std::fs::create_dir(&place).unwrap();
    let path = place.join("bridge.db");
    Queue::open(&path).await.unwrap().close().await.unwrap();
    let mut file =
        SqliteConnectOptions::new().filename(&path).synchronous(SqliteSynchronous::Off).connect().await.unwrap();
    let begun = Instant::now();
    // Delivered events first, then dead letters, then waiting events. All are too young for the bridge to delete them, and
    // too old for its rate limiter to count them.
    let Size { waiting, delivered } = size;
    let start = Utc::now().timestamp_millis() - 3_600_000 - i64::from(waiting + DEAD + delivered);
    let rows = format!(
        "BEGIN;
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {delivered} + {DEAD} + {waiting})
         INSERT INTO events (id, state, service_key, incident_key, event_type, received_at, first_seen, attempts,
             last_attempt_at, finished_at, reason, description)
         SELECT n, iif(n <= {delivered}, 'delivered', iif(n <= {delivered} + {DEAD}, 'dead', 'waiting')),
             printf('%032d', n % {KEYS}), CAST(n AS TEXT), 'trigger', {start} + n, {start} + n,
             n <= {delivered} + {DEAD}, iif(n <= {delivered} + {DEAD}, {start} + n, NULL),
             iif(n <= {delivered} + {DEAD}, {start} + n, NULL), iif(n > {delivered}, 'a reason', NULL),
             'ZeroDivisionError: division by zero in a view that everybody knows'
         FROM numbers;
         INSERT INTO bodies (id, body) SELECT id, zeroblob(200) FROM events;
         COMMIT;"
    );
    sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut file).await.unwrap();
    file.close().await.unwrap();
    println!("{} rows in {:.0} s", delivered + DEAD + waiting, begun.elapsed().as_secs_f64());
    place
}

/// The reads of the queue that the status page and `/api` make, each with its median time.
async fn looks(place: &Path) -> Vec<(&'static str, Duration)> {
    let reader = Reader::open(&place.join("bridge.db")).await.unwrap();
    /// Times an expression `LOOKS` times, and returns the median.
    macro_rules! timed {
        ($look:expr) => {{
            let mut times = Vec::new();
            for _ in 0..LOOKS {
                let begun = Instant::now();
                $look.await.unwrap();
                times.push(begun.elapsed());
            }
            middle(times)
        }};
    }
    let figures = vec![
        ("overview()", timed!(reader.overview())),
        ("recent(50)", timed!(reader.recent(None, PAGE))),
        ("list(dead, 50)", timed!(reader.list(State::Dead, None, PAGE))),
        ("list(waiting, 50)", timed!(reader.list(State::Waiting, None, PAGE))),
        ("list(delivered, 50)", timed!(reader.list(State::Delivered, None, PAGE))),
        ("rejected_list(50)", timed!(reader.rejected_list(None, PAGE))),
    ];
    reader.close().await;
    figures
}

/// The pages that the bridge serves, each with its median time over HTTP.
fn requests(place: &Path) -> Vec<(&'static str, Duration)> {
    let server = server::start(Kind::Bridge, place, None);
    let visitor = Visitor::new(server.address());
    let median = |path: &&'static str| {
        let times = (0..LOOKS).map(|_| {
            let begun = Instant::now();
            assert!(visitor.get(path));
            begun.elapsed()
        });
        (*path, middle(times.collect()))
    };
    visitor.paths().iter().map(median).collect()
}

/// Measures webhooks, while a visitor requests the pages again and again or without one.
fn webhooks(place: &Path, sample: &Sample, connections: usize, time: Duration, is_looked_at: bool) -> Figures {
    let server = server::start(Kind::Bridge, place, None);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        if is_looked_at {
            scope.spawn(|| look(place, server.address(), &stop));
        }
        let figures = load::run(server.address(), sample, connections, time);
        stop.store(true, Ordering::Relaxed);
        figures
    })
}

/// Requests the pages until it is told to stop. If the bridge does not serve them, reads their data from its file instead.
fn look(place: &Path, address: SocketAddr, stop: &AtomicBool) {
    let visitor = Visitor::new(address);
    let paths = visitor.paths();
    while !stop.load(Ordering::Relaxed) && !paths.is_empty() {
        for path in &paths {
            assert!(visitor.get(path));
        }
        thread::sleep(REST);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reader = Reader::open(&place.join("bridge.db")).await.unwrap();
        while !stop.load(Ordering::Relaxed) {
            reader.overview().await.unwrap();
            reader.recent(None, PAGE).await.unwrap();
            reader.list(State::Dead, None, PAGE).await.unwrap();
            tokio::time::sleep(REST).await;
        }
        reader.close().await;
    });
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
