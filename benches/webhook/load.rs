//! Posts as fast as the answers come, on so many connections at once.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::body::Sample;

/// What was measured.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    p50: Duration,
    p99: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(f, "{:>7.0} a second, p50 {:>6.2} ms, p99 {:>6.2} ms", self.per_second, ms(self.p50), ms(self.p99))
    }
}

/// Issues differ over the whole benchmark, so that nothing is ever a repetition.
static ISSUE: AtomicU64 = AtomicU64::new(1);

pub(crate) fn run(address: SocketAddr, sample: &Sample, connections: usize, time: Duration) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let warm = Instant::now() + time / 8;
        let end = warm + time;
        let posting = (0..connections).map(|_| post(address, sample, warm, end));
        let mut latencies: Vec<Duration> = futures_util::future::join_all(posting).await.concat();
        latencies.sort_unstable();
        let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
        Figures { per_second: latencies.len() as f64 / time.as_secs_f64(), p50: at(50), p99: at(99) }
    })
}

async fn post(address: SocketAddr, sample: &Sample, warm: Instant, end: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut latencies = Vec::new();
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    loop {
        let begun = Instant::now();
        if begun >= end {
            return latencies;
        }
        sample.write(ISSUE.fetch_add(1, Ordering::Relaxed), &mut request);
        stream.write_all(&request).await.unwrap();
        answer.clear();
        while !is_whole(&answer) {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the server closed the connection");
        }
        assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer));
        if begun >= warm {
            latencies.push(begun.elapsed());
        }
    }
}

/// The answers are JSON objects without another object in them.
fn is_whole(answer: &[u8]) -> bool {
    answer.ends_with(b"}")
}

pub(crate) fn median(figures: &[Figures]) -> Figures {
    Figures {
        per_second: middle(figures.iter().map(|figures| figures.per_second).collect()),
        p50: Duration::from_secs_f64(middle(figures.iter().map(|figures| figures.p50.as_secs_f64()).collect())),
        p99: Duration::from_secs_f64(middle(figures.iter().map(|figures| figures.p99.as_secs_f64()).collect())),
    }
}

pub(crate) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
