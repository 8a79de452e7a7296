//! The tests of the queue and the deliveries once more, on PostgreSQL.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "clippy excuses tests, but not the helpers beside them")]

#[path = "../queue/attention.rs"]
mod attention;
#[path = "../queue/clocks.rs"]
mod clocks;
#[path = "../queue/database.rs"]
mod database;
#[path = "../queue/delivery_view.rs"]
mod delivery_view;
#[path = "../queue/editing.rs"]
mod editing;
#[path = "../queue/folding.rs"]
mod folding;
#[path = "../queue/incidents.rs"]
mod incidents;
#[path = "../queue/overview.rs"]
mod overview;
#[path = "../queue/queue.rs"]
mod queue;
#[path = "../queue/sentry.rs"]
mod sentry;
#[path = "../queue/worker.rs"]
mod worker;

mod plans;
mod shared;
mod tls;
mod transfer;
mod trouble;
