//! The tests of `tests/bridge` with the queue in PostgreSQL, except for those about SQLite's files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]
#![allow(dead_code, unused_imports, reason = "some helpers are only for the tests that are left out")]

#[path = "../bridge/api/mod.rs"]
mod api;
#[path = "../bridge/clocks.rs"]
mod clocks;
mod commands;
#[path = "../bridge/delivery.rs"]
mod delivery;
#[path = "../bridge/events_api.rs"]
mod events_api;
#[path = "../bridge/incident_scope.rs"]
mod incident_scope;
#[path = "../bridge/issue_lifecycle.rs"]
mod issue_lifecycle;
#[path = "../bridge/log_throttling.rs"]
mod log_throttling;
#[path = "../bridge/logs.rs"]
mod logs;
#[path = "../bridge/outages.rs"]
mod outages;
#[path = "../bridge/queue.rs"]
mod queue;
#[path = "../bridge/retry.rs"]
mod retry;
#[path = "../bridge/rotation.rs"]
mod rotation;
#[path = "../bridge/status_page.rs"]
mod status_page;
#[path = "../bridge/support/mod.rs"]
mod support;
#[path = "../bridge/terminal_escaping.rs"]
mod terminal_escaping;
#[path = "../bridge/webhook.rs"]
mod webhook;
