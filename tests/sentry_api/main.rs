//! The clients of Sentry's API (`audit`, `connect`, `catch-up`, and the tasks of a running bridge): the real binary against
//! the strict twin of Sentry's API, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod audit;
mod calls;
mod canary;
mod canary_alert;
mod catch_up;
mod connect;
mod daily_audit;
mod in_process;
mod issue_status;
#[path = "../bridge/api/spec.rs"]
#[allow(dead_code, reason = "the tests of the API use all of it")]
mod spec;
#[path = "../bridge/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the bridge use all of it")]
mod support;
mod test_webhook;
#[path = "../faults/tls_proxy.rs"]
#[allow(dead_code, reason = "the tests of faults use all of it")]
mod tls_proxy;
mod twin;
mod two_way;
mod undo;
