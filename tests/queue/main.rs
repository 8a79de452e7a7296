//! The durable queue and its deliveries, on SQLite. `tests/postgres/` runs the same tests on PostgreSQL, except for those
//! about files.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "clippy excuses tests, but not the helpers beside them")]

mod admin;
mod background_tasks;
mod backlog;
mod clocks;
mod database;
mod database_failures;
mod delivery_view;
mod files;
mod folding;
mod incidents;
mod overview;
mod queue;
mod worker;
