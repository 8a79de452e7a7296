//! A client of `/api` that validates every response against the specification.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

use super::spec::Spec;
use crate::support::{Answer, Bridge, Connection, KEY, OTHER_KEY, PagerDuty};

pub(super) const ADMIN_TOKEN: &str = "admin-token-for-tests-alone";

/// Starts a bridge with an admin token.
#[track_caller]
pub(super) fn start(pagerduty: &PagerDuty, more: &[(&str, &str)]) -> Bridge {
    Bridge::start_with(&pagerduty.url(), &[&[("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN)], more].concat())
}

/// Sends a request on a connection of its own.
#[track_caller]
pub(super) fn request(bridge: &Bridge, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let (host, length) = (bridge.address, body.len());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{authorization}Content-Length: {length}\r\n\r\n"
    );
    let mut connection = Connection::open(bridge.address);
    connection.send(&[head.as_bytes(), body].concat());
    connection.answer()
}

/// A client with the admin token.
pub(super) struct Client<'a> {
    bridge: &'a Bridge,
    spec: Spec,
    /// The operations that were answered 200.
    pub(super) done: RefCell<BTreeSet<(String, String)>>,
}

impl<'a> Client<'a> {
    pub(super) fn new(bridge: &'a Bridge) -> Self {
        Self { bridge, spec: Spec::read(), done: RefCell::default() }
    }

    /// Returns status and body. The body has to conform to the specification and to hold no secret.
    #[track_caller]
    pub(super) fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = request(self.bridge, method, path, Some(ADMIN_TOKEN), body.as_bytes());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains(KEY) && !text.contains(OTHER_KEY) && !text.contains(ADMIN_TOKEN), "{text}");
        let (status, said) = answer.status_and_json();
        self.spec.holds(method, path, status, &said);
        if status == 200 {
            self.done.borrow_mut().insert((method.to_owned(), self.spec.path(path).unwrap()));
        }
        (status, said)
    }

    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Value {
        self.done("GET", path, "")
    }

    #[track_caller]
    pub(super) fn done(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, said) = self.call(method, path, body);
        assert_eq!(status, 200, "{said}");
        said
    }

    /// Sends a request that has to be refused; returns the status and the error.
    #[track_caller]
    pub(super) fn refused(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, said) = self.call(method, path, body);
        (status, said["reason"].as_str().unwrap().to_owned())
    }

    pub(super) fn operations(&self) -> BTreeSet<(String, String)> {
        self.spec.operations().into_iter().collect()
    }
}

/// The values of this member in all entries of a list.
#[track_caller]
pub(super) fn texts(list: &Value, name: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry[name].as_str().unwrap().to_owned()).collect()
}
