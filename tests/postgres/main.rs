//! The tests of the queue and the deliveries once more, on PostgreSQL.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "clippy excuses tests, but not the helpers beside them")]
#![allow(clippy::duplicate_mod, reason = "each of these files is a test of its own as well")]

#[path = "../delivery_view.rs"]
mod delivery_view;
#[path = "../queue.rs"]
mod queue;
#[path = "../queue_attention.rs"]
mod queue_attention;
#[path = "../queue_clocks.rs"]
mod queue_clocks;
#[path = "../queue_editing.rs"]
mod queue_editing;
#[path = "../queue_folding.rs"]
mod queue_folding;
#[path = "../queue_incidents.rs"]
mod queue_incidents;
#[path = "../queue_overview.rs"]
mod queue_overview;
#[path = "../queue_sentry.rs"]
mod queue_sentry;
#[path = "../worker.rs"]
mod worker;

mod plans;
mod shared;
mod tls;
mod transfer;
mod trouble;
