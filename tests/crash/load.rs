//! Many Sentrys that post at once and remember what they were answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::support::{PATIENCE, TOKEN, alert};

/// How many post at once.
const POSTERS: u64 = 4;

/// One in so many posts is about the issue of the post before it.
const REPEATED: u64 = 5;

/// An alert that was posted.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) issue: u64,
    /// No other alert says the same.
    pub(crate) message: String,
    /// Whether the answer was 202.
    pub(crate) taken: bool,
}

/// The posters at work.
pub(crate) struct Posters {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Post>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    address: SocketAddr,
    /// How many alerts are still to be posted.
    permits: usize,
    /// How many posts have ended, with an answer or without.
    answered: usize,
    ended: bool,
}

impl Posters {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let state = Mutex::new(State { address, permits: 0, answered: 0, ended: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let threads = (0..POSTERS).map(|poster| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.work(poster))
        });
        Self { threads: threads.collect(), shared }
    }

    /// Lets them post so many alerts more.
    pub(crate) fn post(&self, alerts: usize) {
        self.shared.change(|state| state.permits += alerts);
    }

    /// From now on the bridge is there.
    pub(crate) fn move_to(&self, address: SocketAddr) {
        self.shared.change(|state| state.address = address);
    }

    /// How many posts have ended so far, with an answer or without.
    pub(crate) fn answered(&self) -> usize {
        self.shared.state.lock().unwrap().answered
    }

    /// Waits until so many posts have ended.
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

    /// Lets them post what they still may, and returns what each of them posted, in order.
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

    /// Where to post the next alert; `None`: no more.
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

    /// Posts about issues of its own, so that it knows in which order.
    fn work(&self, poster: u64) -> Vec<Post> {
        let mut posts: Vec<Post> = Vec::new();
        while let Some(address) = self.permit() {
            let number = posts.len() as u64;
            let issue = match posts.last() {
                Some(last) if number.is_multiple_of(REPEATED) => last.issue,
                _ => number * POSTERS + poster,
            };
            let message = format!("alert {number} of poster {poster}");
            let taken = post(address, &alert(issue, &message)) == Some(202);
            posts.push(Post { issue, message, taken });
            self.change(|state| state.answered += 1);
        }
        posts
    }
}

/// The status of the answer, if there is one.
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
