//! How soon an alert reaches PagerDuty, and how fast a queue is delivered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use temporary_postgres::PostgresCluster;

use crate::body::{Sample, USUAL};
use crate::load;
use crate::pagerduty::PagerDuty;
use crate::server::{self, Kind, Server};

/// How many alerts are sent to a bridge at rest, one after the other.
const ALONE: usize = 500;

/// How many alerts are delivered as fast as the bridge can.
const DRAINED: usize = 10_000;

/// For how long a queue is delivered at the allowed pace.
const MINUTES: usize = 2;
const PACED: Duration = Duration::from_mins(MINUTES as u64);

/// The longest wait for PagerDuty to accept an event.
const PATIENCE: Duration = Duration::from_mins(1);

/// The highest rate that the setting allows, in events a minute and service key.
const HIGHEST_RATE: usize = 10_000;

/// The usual rate.
const USUAL_RATE: usize = 120;

pub(crate) fn run(folder: &Path, cluster: &PostgresCluster) {
    let benches = [Kind::Bridge, Kind::Postgres].map(|kind| Bench { kind, folder, cluster });
    for bench in &benches {
        bench.at_rest();
        // With one key, the rate limit would determine the time.
        for keys in [10, 500] {
            bench.drain(keys);
        }
    }
    // Last, because it takes long and the bridge computes next to nothing meanwhile.
    for bench in &benches {
        for keys in [1, 10, 500] {
            bench.pace(keys);
        }
    }
}

struct Bench<'a> {
    kind: Kind,
    folder: &'a Path,
    cluster: &'a PostgresCluster,
}

impl Bench<'_> {
    /// Starts a bridge whose alerts are spread over `keys` service keys.
    fn start(&self, pagerduty: &PagerDuty, keys: usize, rate: usize) -> Server {
        let place = self.folder.join(format!("{}-{keys}-{rate}", self.kind.name()));
        std::fs::create_dir(&place).unwrap();
        let database = self.kind.needs_postgres().then(|| self.cluster.database().unwrap());
        let mut routes = String::new();
        for key in 1..keys {
            writeln!(routes, "project,{},{key:032}", project(key)).unwrap();
        }
        let settings = BTreeMap::from([
            ("BRIDGE_PAGERDUTY_URL", pagerduty.url()),
            ("BRIDGE_PAGERDUTY_RATE", rate.to_string()),
            ("BRIDGE_PAGERDUTY_ROUTES", routes),
        ]);
        server::start_with(self.kind, &place, database.as_deref(), &settings)
    }

    /// Measures the time from the first byte of a webhook until PagerDuty accepts its event.
    fn at_rest(&self) {
        let pagerduty = PagerDuty::start();
        let server = self.start(&pagerduty, 1, HIGHEST_RATE);
        let sample = Sample::new(USUAL);
        let mut times: Vec<_> = (0..ALONE)
            .map(|_| {
                let begun = Instant::now();
                post(&server, &[&sample], 1);
                let accepted = pagerduty.accepted().recv_timeout(PATIENCE).unwrap();
                thread::sleep(Duration::from_millis(5));
                accepted - begun
            })
            .collect();
        times.sort_unstable();
        let ms = |percent: usize| times[(ALONE - 1) * percent / 100].as_secs_f64() * 1e3;
        println!(
            "{}: from the webhook to PagerDuty's answer, {ALONE} times at rest: p50 {:.2} ms, p99 {:.2} ms",
            self.kind.name(),
            ms(50),
            ms(99)
        );
    }

    /// Measures delivery as fast as the bridge can.
    fn drain(&self, keys: usize) {
        let pagerduty = PagerDuty::start();
        let server = self.start(&pagerduty, keys, HIGHEST_RATE);
        let (begun, used) = (Instant::now(), server.processor_seconds());
        fill(&server, keys, DRAINED);
        let taken = server.processor_seconds() - used;
        let mut last = begun;
        for _ in 0..DRAINED {
            last = pagerduty.accepted().recv_timeout(PATIENCE).unwrap();
        }
        let took = (last - begun).as_secs_f64();
        let computed = server.processor_seconds() - used;
        println!(
            "{}: {DRAINED} alerts of {keys} keys accepted and delivered in {took:.1} s, {:.0} a second; {:.0} ms of processor \
             time for a thousand, {:.0} of them by the time the last was accepted",
            self.kind.name(),
            DRAINED as f64 / took,
            of_thousand(computed),
            of_thousand(taken),
        );
    }

    /// Measures delivery at the rate that PagerDuty allows.
    fn pace(&self, keys: usize) {
        let pagerduty = PagerDuty::start();
        let server = self.start(&pagerduty, keys, USUAL_RATE);
        let begun = Instant::now();
        fill(&server, keys, USUAL_RATE * (MINUTES + 2) * keys);
        let mut delivered = 0;
        while let Ok(at) = pagerduty.accepted().recv_timeout(PACED.saturating_sub(begun.elapsed())) {
            delivered += usize::from(at - begun <= PACED);
        }
        println!(
            "{}: {keys} keys at {USUAL_RATE} a minute: {delivered} delivered in {} s; {} is what the rate allows",
            self.kind.name(),
            PACED.as_secs(),
            USUAL_RATE * MINUTES * keys,
        );
    }
}

/// Posts this many alerts, spread over the keys.
fn fill(server: &Server, keys: usize, alerts: usize) {
    let samples: Vec<_> = (0..keys).map(|key| Sample::of_project(&project(key))).collect();
    post(server, &samples.iter().collect::<Vec<_>>(), alerts);
}

/// Converts the processor time for all `DRAINED` alerts, in seconds, to ms for a thousand of them.
fn of_thousand(seconds: f64) -> f64 {
    seconds * 1e6 / DRAINED as f64
}

fn project(key: usize) -> String {
    format!("project-{key}")
}

/// Posts this many alerts over a few connections.
fn post(server: &Server, samples: &[&Sample], alerts: usize) {
    let connections = alerts.min(16);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let posting = (0..connections).map(async |first| {
            let (mut stream, mut answer) = (load::connect(server.address()).await, Vec::new());
            for alert in (first..alerts).step_by(connections) {
                let sample = samples[alert % samples.len()];
                let issue = load::next_issue();
                assert!(load::exchange(&mut stream, sample, issue, &mut answer).await.unwrap());
            }
        });
        futures_util::future::join_all(posting).await;
    });
}
