//! The tests of the queue and the deliveries once more, on PostgreSQL.

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
#[path = "../worker.rs"]
mod worker;

mod shared;
mod transfer;
mod trouble;
