//! Tests of `tests/bridge` with the queue in PostgreSQL behind `PgBouncer` in transaction mode: every transaction may run
//! on another connection to the server.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]
#![allow(dead_code, unused_imports, reason = "some helpers are only for the tests that are left out")]

#[path = "../bridge/delivery.rs"]
mod delivery;
#[path = "../bridge/issue_lifecycle.rs"]
mod issue_lifecycle;
#[path = "../bridge/log_throttling.rs"]
mod log_throttling;
#[path = "../bridge/retry.rs"]
mod retry;
#[path = "../bridge/status_page.rs"]
mod status_page;
#[path = "../bridge/support/mod.rs"]
mod support;
#[path = "../bridge/webhook.rs"]
mod webhook;
