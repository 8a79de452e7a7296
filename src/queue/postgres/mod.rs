//! The queue in a database of PostgreSQL, which several bridges may share.
//!
//! - `pools`: the server and the connections to it; `error`: what its errors mean
//! - `engine`: transactions that recover from errors, and commits whose response was lost; `load` and `write`: the two
//!   halves of a transaction; `rows`: parses the rows that are loaded
//! - `edit`: changes from outside
//! - `leases`: which bridge delivers for which service key; `fences`: whether an attempt may begin or end by a lease
//! - `schema`: the tables; `durability`: what a commit survives on this server
//! - `read`: what deliveries, pages and the monitor read
//! - `maintenance`: what is done for the queue itself; `canary`: what happens to canaries; `sentry`: what was learned from
//!   Sentry's API
//! - `transfer`: all rows, for a move to another database
//! - `text`: texts that PostgreSQL cannot store as they are

mod canary;
mod durability;
mod edit;
mod engine;
mod error;
mod fences;
mod issue_update;
mod leases;
mod load;
mod maintenance;
mod pools;
mod proof;
mod read;
mod rows;
mod schema;
mod sentry;
mod text;
mod transfer;
mod write;

pub(super) use edit::PostgresEdits;
pub(super) use engine::PostgresEngine;
pub(super) use leases::PostgresLeases;
pub(super) use pools::{ReadPool, Server};
pub(super) use read::PostgresReads;
pub(super) use transfer::PostgresTransfer;
