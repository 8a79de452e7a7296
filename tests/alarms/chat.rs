//! A server that stands for the webhook of a chat tool: it accepts messages, rejects them, or does not answer.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::support::PATIENCE;

/// The secret in its address, which must not appear anywhere.
pub(crate) const SECRET: &str = "T00B00-secret-of-the-chat-tool";

/// How a request is answered.
pub(crate) enum Reply {
    /// With this status and these additional header lines.
    Status(u16, String),
    /// With 200, after it is [released](Chat::release).
    Held,
}

/// A running server; its thread ends with the process.
pub(crate) struct Chat {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The responses to the next requests; all later requests are answered with 200.
    replies: VecDeque<Reply>,
    requests: Vec<Value>,
    is_released: bool,
}

impl Chat {
    /// Starts one that accepts every message.
    pub(crate) fn start() -> Self {
        Self::answering([])
    }

    /// Starts one that gives these responses to the first requests.
    pub(crate) fn answering(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Mutex::new(State { replies: replies.into_iter().collect(), ..State::default() });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                // A connection that breaks off is caused by the client; the tests see it by what the client sends next.
                thread::spawn(move || serve(&stream.unwrap(), &served));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of its webhook, with the secret.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks/{SECRET}", self.address)
    }

    /// Waits until `number` requests came, however they were answered, and returns all of them.
    #[track_caller]
    pub(crate) fn wait_for(&self, number: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock().unwrap();
        while state.requests.len() < number {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let requests = state.requests.clone();
                drop(state);
                panic!("message {number} did not come; these did: {requests:#?}");
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
        state.requests.clone()
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.shared.state.lock().unwrap().requests.clone()
    }

    /// Answers the requests that are held.
    pub(crate) fn release(&self) {
        self.shared.state.lock().unwrap().is_released = true;
        self.shared.changed.notify_all();
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).ok()?;
    assert_eq!(line, format!("POST /hooks/{SECRET} HTTP/1.1\r\n"));
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut state = shared.state.lock().unwrap();
    state.requests.push(serde_json::from_slice(&body).unwrap());
    let reply = state.replies.pop_front().unwrap_or(Reply::Status(200, String::new()));
    shared.changed.notify_all();
    let (status, head) = match reply {
        Reply::Status(status, head) => (status, head),
        Reply::Held => {
            while !state.is_released {
                state = shared.changed.wait(state).unwrap();
            }
            (200, String::new())
        }
    };
    drop(state);
    // An error page may repeat the address.
    let page = format!("no such page: /hooks/{SECRET}");
    let head = format!("HTTP/1.1 {status} Any\r\n{head}Connection: close\r\nContent-Length: {}\r\n\r\n", page.len());
    (&mut &*stream).write_all([head, page].concat().as_bytes()).ok()
}
