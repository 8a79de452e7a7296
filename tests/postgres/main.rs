//! The tests of `tests/queue` on PostgreSQL, and tests of PostgreSQL itself.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "clippy excuses tests, but not the helpers beside them")]

#[path = "../queue/admin.rs"]
mod admin;
#[path = "../queue/background_tasks.rs"]
mod background_tasks;
#[path = "../queue/backlog.rs"]
mod backlog;
#[path = "../queue/clocks.rs"]
mod clocks;
#[path = "../queue/database.rs"]
mod database;
#[path = "../queue/delivery_view.rs"]
mod delivery_view;
#[path = "../queue/folding.rs"]
mod folding;
#[path = "../queue/incidents.rs"]
mod incidents;
#[path = "../queue/overview.rs"]
mod overview;
#[path = "../queue/queue.rs"]
mod queue;
#[path = "../queue/worker.rs"]
mod worker;

mod plans;
mod server_failures;
mod several_bridges;
mod tls;
mod transfer;
