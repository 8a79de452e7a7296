//! How many webhooks a second the bridge accepts while PagerDuty is down, compared with handlers that do less.
//!
//! - `bridge`: the real program on SQLite: parse, map, commit to the queue, answer
//! - `postgres`: the same program on PostgreSQL
//! - `lean`: actix, a borrowed parse of the few fields that are needed, one event, a response; nothing is stored
//! - `file`: as `lean`, and the event is appended to a file with one fsync for all requests that wait
//! - `mapping`: as `lean` with the bridge's own mapping
//! - `insert`: as `mapping`, and all events that wait are inserted into PostgreSQL with one statement by sqlx, whose commit
//!   waits for the disk
//!
//! Each runs as a process of its own, in turn, round after round, so that a change of the machine's speed affects all of
//! them. The last four are written in the most obvious way, and so use the system's allocator. PostgreSQL is a throw-away
//! cluster with fsync, on the same machine, below `TMPDIR`; each round has a new database in it. `load` is the share of the
//! machine that the load generator takes.
//!
//! An argument measures something else:
//!
//! - `postgres`: only the bridge on PostgreSQL, `insert`, and the bridge on SQLite
//! - `sizes`: bodies of 1, 13, 125 and 500 KB and 8 MB, each with 1, 64 and 512 connections
//! - `mapping`: the bridge's mapping, compared with the time that `serde_json` needs to skip the same bytes
//! - `delivery`: from the webhook to PagerDuty's answer, and how fast a queue is delivered
//! - `growth`: with no rows, and with 100,000 and a million each of waiting and of delivered events
//! - `page`: what looking at a large queue costs
//! - `peers`: programs that people use today, if they are installed
//!
//! `BENCH_ROUNDS`, `BENCH_SECONDS`, `BENCH_CONNECTIONS`, `BENCH_BODY` (bytes), `BENCH_PAGERDUTY` (`up`: it accepts events) and
//! `BENCH_DIR` (where the queue and the file lie) change it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on had better stop loudly")]
#![allow(clippy::print_stderr, clippy::cast_precision_loss, reason = "it prints figures for people")]

mod baselines;
mod body;
mod delivery;
mod growth;
mod lean;
mod load;
mod mapping;
mod page;
mod pagerduty;
mod peers;
mod server;
mod visitor;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use temporary_postgres::PostgresCluster;

use self::body::Sample;
use self::load::Figures;
use self::pagerduty::PagerDuty;
use self::server::Kind;

/// The settings of a PostgreSQL that loses nothing that it has committed.
const SYNCED: [(&str, &str); 3] = [("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")];

const ALL: [Kind; 6] = [Kind::Lean, Kind::File, Kind::Mapping, Kind::Bridge, Kind::Insert, Kind::Postgres];

/// How a comparison is made.
struct Comparison<'a> {
    folder: &'a Path,
    cluster: &'a PostgresCluster,
    rounds: usize,
    seconds: u64,
    pagerduty: Option<&'a PagerDuty>,
}

fn main() {
    if let Some(kind) = env::args().nth(1).and_then(|argument| Kind::of_child(&argument)) {
        baselines::serve(kind);
        return;
    }
    let rounds: usize = number("BENCH_ROUNDS", 5);
    let seconds: u64 = number("BENCH_SECONDS", 4);
    let connections: usize = number("BENCH_CONNECTIONS", 64);
    let folder = tempfile::tempdir_in(env::var_os("BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from)).unwrap();
    let asked = |name: &str| env::args().any(|argument| argument == name);

    if asked("page") {
        page::run(folder.path(), rounds, seconds, connections);
        return;
    }
    if asked("peers") {
        peers::run(folder.path(), rounds, seconds, connections);
        return;
    }
    if asked("mapping") {
        mapping::run();
        return;
    }
    println!(
        "one fsync of 64 KiB in that folder takes {:.2} ms (median)",
        server::fsync(folder.path()).as_secs_f64() * 1e3
    );
    let cluster = PostgresCluster::start(&SYNCED).unwrap();
    if asked("growth") {
        growth::run(folder.path(), &cluster, rounds, seconds, connections);
        return;
    }
    if asked("delivery") {
        delivery::run(folder.path(), &cluster);
        return;
    }
    let pagerduty = env::var("BENCH_PAGERDUTY").is_ok_and(|state| state == "up").then(PagerDuty::start);
    let comparison =
        Comparison { folder: folder.path(), cluster: &cluster, rounds, seconds, pagerduty: pagerduty.as_ref() };
    println!(
        "every issue new, PagerDuty {}; {rounds} rounds of {seconds} s, each of all servers in turn",
        if pagerduty.is_some() { "accepts events" } else { "unreachable" }
    );
    if asked("sizes") {
        for size in [1_000, body::USUAL, 125_000, 500_000, 8_000_000] {
            for connections in [1, 64, 512] {
                comparison.run(&ALL, &Sample::new(size), connections);
            }
        }
    } else {
        let kinds: &[Kind] = if asked("postgres") { &[Kind::Bridge, Kind::Insert, Kind::Postgres] } else { &ALL };
        comparison.run(kinds, &Sample::new(number("BENCH_BODY", body::USUAL)), connections);
    }
}

impl Comparison<'_> {
    /// Measures `kinds` and prints the results.
    fn run(&self, kinds: &[Kind], sample: &Sample, connections: usize) {
        println!();
        println!("{connections} connections, a body of {} bytes", sample.len());
        let mut results: Vec<Vec<Figures>> = vec![Vec::new(); kinds.len()];
        for round in 0..self.rounds {
            for (kind, results) in kinds.iter().zip(&mut results) {
                let (figures, memory) = self.measure(*kind, sample, connections);
                println!("round {} {:<8} {figures}, {memory:.0} MiB", round + 1, kind.name());
                results.push(figures);
            }
        }
        for (kind, figures) in kinds.iter().zip(&results) {
            println!("median  {:<8} {}", kind.name(), load::median(figures));
        }
        for (one, other) in [
            (Kind::Bridge, Kind::Lean),
            (Kind::Bridge, Kind::File),
            (Kind::Mapping, Kind::Lean),
            (Kind::Postgres, Kind::Insert),
            (Kind::Postgres, Kind::Bridge),
        ] {
            let of = |kind| kinds.iter().position(|measured| *measured == kind).map(|place| &results[place]);
            let (Some(ones), Some(others)) = (of(one), of(other)) else { continue };
            let ratios = ones.iter().zip(others).map(|(one, other)| one.per_second / other.per_second);
            let ratio = load::middle(ratios.collect());
            println!("{} / {}: {ratio:.2} (median of the rounds' ratios)", one.name(), other.name());
        }
    }

    /// Measures one server once. Returns its figures, and its peak memory in MiB.
    fn measure(&self, kind: Kind, sample: &Sample, connections: usize) -> (Figures, f64) {
        let place = self.folder.join(kind.name());
        std::fs::create_dir(&place).unwrap();
        let database = kind.needs_postgres().then(|| self.cluster.database().unwrap());
        let settings: BTreeMap<_, _> =
            self.pagerduty.map(|pagerduty| ("BRIDGE_PAGERDUTY_URL", pagerduty.url())).into_iter().collect();
        let server = server::start_with(kind, &place, database.as_deref(), &settings);
        let figures = load::run(server.address(), sample, connections, Duration::from_secs(self.seconds));
        let memory = server.most_memory();
        drop(server);
        std::fs::remove_dir_all(&place).unwrap();
        (figures, memory)
    }
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
