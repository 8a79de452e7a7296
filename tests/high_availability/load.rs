//! Clients that post alerts to each bridge in turn, retry nothing, and record the responses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::LEVELS;
use super::support::{TOKEN, alert_of_level};

/// The largest number of alerts about one issue.
const REPEATED: u64 = 8;

/// The timeout of a response.
const ANSWER: Duration = Duration::from_secs(5);

/// A posted alert.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) issue: u64,
    /// Unique among all alerts.
    pub(crate) message: String,
    /// Whether it was answered 202.
    pub(crate) taken: bool,
    /// The status of the response, if there was one.
    pub(crate) status: Option<u16>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// The running clients, one for each service key.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Post>>>,
}

struct Shared {
    addresses: Mutex<Vec<SocketAddr>>,
    /// The pause of each client between two alerts.
    pace: Duration,
    posted: AtomicUsize,
    taken: AtomicUsize,
    ended: AtomicBool,
}

impl Clients {
    pub(crate) fn start(addresses: Vec<SocketAddr>, pace: Duration) -> Self {
        let shared = Arc::new(Shared {
            addresses: Mutex::new(addresses),
            pace,
            posted: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let threads = (0..).zip(LEVELS).map(|(client, level)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.work(client, level))
        });
        Self { threads: threads.collect(), shared }
    }

    /// Changes the address of the bridge with this index.
    pub(crate) fn move_to(&self, place: usize, address: SocketAddr) {
        self.shared.addresses.lock().unwrap()[place] = address;
    }

    /// The number of alerts that were answered 202 so far.
    pub(crate) fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// Stops the clients, and returns what each of them posted, in order.
    pub(crate) fn end(self) -> Vec<Vec<Post>> {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

impl Shared {
    fn address(&self) -> SocketAddr {
        let addresses = self.addresses.lock().unwrap();
        addresses[self.posted.fetch_add(1, Ordering::SeqCst) % addresses.len()]
    }

    /// Posts alerts about issues that no other client posts about, so that their order is known. An alert that was not
    /// answered may be committed at any later time, so nothing more is posted about its issue.
    fn work(&self, client: u64, level: &str) -> Vec<Post> {
        let mut posts: Vec<Post> = Vec::new();
        let (mut issue, mut alerts) = (client, 0);
        while !self.ended.load(Ordering::SeqCst) {
            let message = format!("alert {} of client {client}", posts.len());
            let begun = Instant::now();
            let status = post(self.address(), &alert_of_level(level, issue, &message));
            let taken = status == Some(202);
            posts.push(Post { issue, message, taken, status, took: begun.elapsed() });
            self.taken.fetch_add(usize::from(taken), Ordering::SeqCst);
            alerts += 1;
            if alerts == REPEATED || !taken {
                (issue, alerts) = (issue + LEVELS.len() as u64, 0);
            }
            // This pause determines the load; nothing is awaited.
            thread::sleep(self.pace);
        }
        posts
    }
}

/// Posts an alert and returns the status of the answer, if there is one.
fn post(address: SocketAddr, body: &[u8]) -> Option<u16> {
    let head = format!(
        "POST /sentry/{TOKEN} HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    status(address, &[head.as_bytes(), body].concat())
}

/// Whether `/readyz` is answered 200.
pub(crate) fn is_ready(address: SocketAddr) -> bool {
    status(address, b"GET /readyz HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n\r\n") == Some(200)
}

fn status(address: SocketAddr, request: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.write_all(request).ok()?;
    let mut status_line = [0; b"HTTP/1.1 202".len()];
    stream.read_exact(&mut status_line).ok()?;
    std::str::from_utf8(&status_line[9..]).ok()?.parse().ok()
}
