//! How many webhooks a second the bridge accepts while PagerDuty is down, beside handlers that do less.
//!
//! - `bridge`: the real program on SQLite: parse, map, commit to the queue, answer
//! - `postgres`: the same program on PostgreSQL
//! - `bare`: actix parses, maps and answers; nothing is kept
//! - `file`: as `bare`, and the event is appended to a file with an fsync shared by all that wait
//! - `insert`: as `bare`, and all events that wait are inserted into PostgreSQL by one statement of sqlx, whose commit
//!   waits for the disk
//!
//! Each runs as a process of its own, in turn, round after round, so that a machine that changes its speed changes it
//! for all. The three are written as one would write them first, so they have the system's allocator; with the bridge's
//! `bare` takes a seventh more and `file` a quarter. PostgreSQL is a throw-away cluster that syncs, on the same machine,
//! below `TMPDIR`; each round has a new database in it.
//!
//! `make bench` runs it, and `make bench-page` measures with the same means what looking at a large queue costs. The argument
//! `postgres` measures the last two alone and the bridge on SQLite beside them, and `growth` the bridge on PostgreSQL with no
//! events and with a million delivered ones. `BENCH_ROUNDS`, `BENCH_SECONDS`, `BENCH_CONNECTIONS` and `BENCH_DIR` (where the queue and the file lie) change it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on had better stop loudly")]
#![allow(clippy::print_stderr, clippy::cast_precision_loss, reason = "it prints figures for people")]

mod body;
mod growth;
mod load;
mod look;
mod page;
mod rivals;
mod server;

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use temporary_postgres::Cluster;

use self::load::Figures;
use self::server::Kind;

/// The settings of a PostgreSQL that loses nothing that it has committed.
const SYNCED: [(&str, &str); 3] = [("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")];

fn main() {
    if let Some(kind) = env::args().nth(1).and_then(|argument| Kind::of_child(&argument)) {
        rivals::serve(kind);
        return;
    }
    let rounds: usize = number("BENCH_ROUNDS", 5);
    let seconds: u64 = number("BENCH_SECONDS", 4);
    let connections: usize = number("BENCH_CONNECTIONS", 64);
    let folder = tempfile::tempdir_in(env::var_os("BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from)).unwrap();

    if env::args().any(|argument| argument == "page") {
        page::run(folder.path(), rounds, seconds, connections);
        return;
    }

    let sample = body::Sample::new();
    if env::args().any(|argument| argument == "growth") {
        growth::run(folder.path(), &sample, rounds, seconds, connections);
        return;
    }
    println!(
        "{connections} connections, a body of {} bytes, every issue new, PagerDuty unreachable; {rounds} rounds of {seconds} s",
        sample.len()
    );
    println!(
        "one fsync of 64 KiB in that folder takes {:.2} ms (median)",
        server::fsync(folder.path()).as_secs_f64() * 1e3
    );

    let cluster = Cluster::start(&SYNCED).unwrap();
    let kinds: &[Kind] = if env::args().any(|argument| argument == "postgres") {
        &[Kind::Bridge, Kind::Insert, Kind::Postgres]
    } else {
        &[Kind::Bare, Kind::File, Kind::Bridge, Kind::Insert, Kind::Postgres]
    };
    let mut results: Vec<Vec<Figures>> = vec![Vec::new(); kinds.len()];
    for round in 0..rounds {
        for (kind, results) in kinds.iter().zip(&mut results) {
            let place = folder.path().join(format!("{round}-{}", kind.name()));
            std::fs::create_dir(&place).unwrap();
            let database = kind.needs_postgres().then(|| cluster.database().unwrap());
            let server = server::start(*kind, &place, database.as_deref());
            let figures = load::run(server.address(), &sample, connections, Duration::from_secs(seconds));
            drop(server);
            std::fs::remove_dir_all(&place).unwrap();
            println!("round {} {:<8} {figures}", round + 1, kind.name());
            results.push(figures);
        }
    }

    println!();
    let medians: Vec<Figures> = results.iter().map(|figures| load::median(figures)).collect();
    for (kind, figures) in kinds.iter().zip(&medians) {
        println!("median  {:<8} {figures}", kind.name());
    }
    for (one, other) in [
        (Kind::Bridge, Kind::Bare),
        (Kind::Bridge, Kind::File),
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

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
