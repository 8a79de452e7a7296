//! Clients that post alerts at the same time and record the responses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::support::{PATIENCE, TOKEN, alert};

/// Number of clients.
const CLIENTS: u64 = 4;

/// One in this many alerts is about the same issue as the alert before it.
const REPEATED: u64 = 5;

/// A posted alert.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) issue: u64,
    /// Unique among all alerts.
    pub(crate) message: String,
    /// Whether it was answered 202.
    pub(crate) taken: bool,
}

/// The running clients.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Post>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    address: SocketAddr,
    /// Number of alerts that are still to be posted.
    permits: usize,
    /// Number of alerts that were answered or have failed.
    answered: usize,
    ended: bool,
}

impl Clients {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let state = Mutex::new(State { address, permits: 0, answered: 0, ended: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let threads = (0..CLIENTS).map(|client| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.work(client))
        });
        Self { threads: threads.collect(), shared }
    }

    /// Lets the clients post `alerts` more alerts.
    pub(crate) fn post(&self, alerts: usize) {
        self.shared.change(|state| state.permits += alerts);
    }

    /// Changes the address of the bridge.
    pub(crate) fn move_to(&self, address: SocketAddr) {
        self.shared.change(|state| state.address = address);
    }

    /// The number of alerts that were answered or have failed so far.
    pub(crate) fn answered(&self) -> usize {
        self.shared.state.lock().unwrap().answered
    }

    /// Waits until `number` alerts were answered or have failed.
    #[track_caller]
    pub(crate) fn wait_for_answers(&self, number: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock().unwrap();
        while state.answered < number {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "answer {number} did not come, only {}", state.answered);
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Posts the remaining alerts, and returns what each client posted, in order.
    pub(crate) fn end(self) -> Vec<Vec<Post>> {
        self.shared.change(|state| state.ended = true);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits for permission to post the next alert, and returns the address; `None` if there are no more.
    fn permit(&self) -> Option<SocketAddr> {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.permits > 0 {
                state.permits -= 1;
                return Some(state.address);
            }
            if state.ended {
                return None;
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Posts alerts about issues that no other client posts about, so that their order is known.
    fn work(&self, client: u64) -> Vec<Post> {
        let mut posts: Vec<Post> = Vec::new();
        while let Some(address) = self.permit() {
            let number = posts.len() as u64;
            let issue = match posts.last() {
                Some(last) if number.is_multiple_of(REPEATED) => last.issue,
                _ => number * CLIENTS + client,
            };
            let message = format!("alert {number} of client {client}");
            let taken = post(address, &alert(issue, &message)) == Some(202);
            posts.push(Post { issue, message, taken });
            self.change(|state| state.answered += 1);
        }
        posts
    }
}

/// Posts an alert and returns the status of the response, if there is one.
fn post(address: SocketAddr, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    let head = format!("POST /sentry/{TOKEN} HTTP/1.1\r\nHost: bridge\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut status_line = [0; b"HTTP/1.1 202".len()];
    stream.read_exact(&mut status_line).ok()?;
    std::str::from_utf8(&status_line[9..]).ok()?.parse().ok()
}
