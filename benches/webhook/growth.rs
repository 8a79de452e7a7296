//! Whether the bridge on PostgreSQL takes alerts as fast beside a million delivered events as beside none.

use std::path::Path;
use std::time::{Duration, Instant};

use sentry_pagerduty_bridge::config::DatabaseUrl;
use sentry_pagerduty_bridge::queue::Queue;
use temporary_postgres::Cluster;

use crate::body::Sample;
use crate::load::{self, Figures};
use crate::server::{self, Kind};

/// How many delivered events the bridge keeps at most.
const DELIVERED: u32 = 1_000_000;

pub(crate) fn run(folder: &Path, sample: &Sample, rounds: usize, seconds: u64, connections: usize) {
    let cluster = Cluster::start(&crate::SYNCED).unwrap();
    let (empty, full) = (database(&cluster, 0), database(&cluster, DELIVERED));
    println!("{connections} connections, {rounds} rounds of {seconds} s, in turn");
    let (mut few, mut many): (Vec<Figures>, Vec<Figures>) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for (delivered, url, figures) in [(0, &empty, &mut few), (DELIVERED, &full, &mut many)] {
            let server = server::start(Kind::Postgres, folder, Some(url));
            let found = load::run(server.address(), sample, connections, Duration::from_secs(seconds));
            println!("round {} {delivered:>7} delivered {found}", round + 1);
            figures.push(found);
        }
    }
    println!();
    println!("median  {:>7} delivered {}", 0, load::median(&few));
    println!("median  {DELIVERED:>7} delivered {}", load::median(&many));
    let ratios = many.iter().zip(&few).map(|(many, few)| many.per_second / few.per_second);
    println!("{DELIVERED} / 0: {:.2} (median of the rounds' ratios)", load::middle(ratios.collect()));
}

/// A database with so many delivered events.
fn database(cluster: &Cluster, delivered: u32) -> String {
    let url = cluster.database().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        Queue::open(DatabaseUrl::parse(&url).unwrap()).await.unwrap().close().await.unwrap();
    });
    let begun = Instant::now();
    // All of them are younger than what the bridge forgets, and older than what the rate limiter counts.
    let rows = format!(
        "SET synchronous_commit = off;
         INSERT INTO events (state, service_key, incident_key, event_type, received_at, first_seen, attempts, last_attempt_at,
             finished_at, description)
         SELECT 'delivered', lpad('0', 32, '0'), 'old' || number, 'trigger', at, at, 1, at, at,
             'ZeroDivisionError: division by zero in a view that everybody knows'
         FROM (
             SELECT number, (EXTRACT(EPOCH FROM now()) * 1000)::bigint - 3600000 - {delivered} + number AS at
             FROM generate_series(1, {delivered}) AS numbers (number)
         ) AS delivered;
         INSERT INTO bodies (id, body) SELECT id, decode(repeat('7b', 1500), 'hex') FROM events;
         INSERT INTO incident_queues (incident_key, used_at) SELECT incident_key, now() FROM events;"
    );
    cluster.psql(url.rsplit('/').next().unwrap(), &rows).unwrap();
    println!("{delivered} rows in {:.0} s", begun.elapsed().as_secs_f64());
    url
}
