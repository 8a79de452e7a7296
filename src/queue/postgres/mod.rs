//! The queue in a database of PostgreSQL, which several bridges may share.
//!
//! - `pools`: the server and the connections to it; `error`: what its errors mean
//! - `engine`: transactions that recover from errors, and commits whose response was lost; `load` and `write`: the two
//!   halves of a transaction; `rows`: values as they are stored
//! - `edit`: changes from outside
//! - `leases`: which bridge delivers for which service key, and whether an attempt may begin or end by a lease
//! - `schema`: the tables
//! - `read`: what deliveries, pages and the monitor read
//! - `standalone`: what is written besides the events and their attempts
//! - `transfer`: all rows, for a move to another database

mod edit;
mod engine;
mod error;
mod leases;
mod load;
mod pools;
mod read;
mod rows;
mod schema;
mod standalone;
mod transfer;
mod write;

pub(super) use engine::PostgresEngine;
pub(super) use leases::PostgresLeases;
pub(super) use pools::{ReadPool, Server};
pub(super) use read::PostgresReads;
pub(super) use transfer::PostgresTransfer;
