//! The load generator: posts on many connections at once, on each as fast as the responses come.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::body::{Sample, number};

/// What was measured.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    p50: Duration,
    p99: Duration,
    /// The percentage of responses that were not 202.
    refused: f64,
    /// The percentage of the machine that the load generator took.
    load: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let Self { per_second, p50, p99, refused, load } = *self;
        write!(f, "{per_second:>7.0} a second, p50 {:>6.2} ms, p99 {:>6.2} ms, load {load:>2.0} %", ms(p50), ms(p99))?;
        if refused > 0.0 {
            write!(f, ", {refused:.1} % refused")?;
        }
        Ok(())
    }
}

/// The responses on one connection.
#[derive(Default)]
struct Seen {
    accepted: Vec<Duration>,
    refused: usize,
}

/// The number of the next issue. Numbers are unique over the whole benchmark, so that no webhook is ever a duplicate.
static ISSUE: AtomicU64 = AtomicU64::new(1);

pub(crate) fn run(address: SocketAddr, sample: &Sample, connections: usize, time: Duration) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (begun, used) = (Instant::now(), processor_seconds());
        let warm = begun + time / 8;
        let end = warm + time;
        let posting = (0..connections).map(|_| post(address, sample, warm, end));
        let seen = futures_util::future::join_all(posting).await;
        let machine = begun.elapsed().as_secs_f64() * thread::available_parallelism().unwrap().get() as f64;
        let load = (processor_seconds() - used) / machine * 100.0;
        let refused: usize = seen.iter().map(|seen| seen.refused).sum();
        let mut latencies: Vec<_> = seen.into_iter().flat_map(|seen| seen.accepted).collect();
        latencies.sort_unstable();
        let at = |percent: usize| latencies.get(latencies.len().saturating_sub(1) * percent / 100).copied();
        Figures {
            per_second: latencies.len() as f64 / time.as_secs_f64(),
            p50: at(50).unwrap_or_default(),
            p99: at(99).unwrap_or_default(),
            refused: 100.0 * refused as f64 / (refused + latencies.len()).max(1) as f64,
            load,
        }
    })
}

/// The processor time that this process has used, in seconds.
fn processor_seconds() -> f64 {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap().as_secs_f64()
}

async fn post(address: SocketAddr, sample: &Sample, warm: Instant, end: Instant) -> Seen {
    let mut stream = connect(address).await;
    let (mut seen, mut answer) = (Seen::default(), Vec::new());
    loop {
        let begun = Instant::now();
        if begun >= end {
            return seen;
        }
        let is_accepted = exchange(&mut stream, sample, next_issue(), &mut answer).await.unwrap_or(false);
        if begun >= warm {
            if is_accepted {
                seen.accepted.push(begun.elapsed());
            } else {
                seen.refused += 1;
            }
        }
        if !is_accepted {
            // A request that was refused before its body was read leaves the connection unusable.
            stream = connect(address).await;
        }
    }
}

/// Returns the number of an issue that was never posted before.
pub(crate) fn next_issue() -> u64 {
    ISSUE.fetch_add(1, Ordering::Relaxed)
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Posts an alert, and returns whether it was answered with 202.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    sample: &Sample,
    issue: u64,
    answer: &mut Vec<u8>,
) -> io::Result<bool> {
    let digits = number(issue);
    let mut parts = sample.parts(&digits);
    let mut rest = parts.as_mut_slice();
    while !rest.is_empty() {
        let written = stream.write_vectored(rest).await?;
        IoSlice::advance_slices(&mut rest, written);
    }
    answer.clear();
    while !is_whole(answer) {
        if stream.read_buf(answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // What follows may be anything; the connection is not used again.
        if answer.len() >= ACCEPTED.len() && !answer.starts_with(ACCEPTED) {
            return Ok(false);
        }
    }
    Ok(true)
}

const ACCEPTED: &[u8] = b"HTTP/1.1 202";

/// Whether a response is complete: the bodies are JSON objects that contain no other object.
fn is_whole(answer: &[u8]) -> bool {
    answer.ends_with(b"}")
}

pub(crate) fn median(figures: &[Figures]) -> Figures {
    let middle = |of: fn(&Figures) -> f64| middle(figures.iter().map(of).collect());
    Figures {
        per_second: middle(|figures| figures.per_second),
        p50: Duration::from_secs_f64(middle(|figures| figures.p50.as_secs_f64())),
        p99: Duration::from_secs_f64(middle(|figures| figures.p99.as_secs_f64())),
        refused: middle(|figures| figures.refused),
        load: middle(|figures| figures.load),
    }
}

pub(crate) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
