//! The queue in one SQLite file.
//!
//! - `engine`: the connection that writes and recovers from errors; `load` and `write`: the two halves of a
//!   transaction. It uses `rusqlite`, which runs SQLite on the calling thread: the writer has a thread of its own
//! - `files`: the locks that keep a second bridge out, and whether the open files are still those at their paths;
//!   `recovery`: saves what it can of files that were deleted, replaced or truncated
//! - `read`: connections that cannot write; they use `sqlx`, which keeps SQLite off the threads that everything else
//!   runs on
//! - `transfer`: all rows, for a move to another database
//! - `edit`: changes from outside; `standalone`: what is written besides the events and their attempts
//! - `database`: the file, and what its errors mean; `schema`: its tables
//! - `plans`: tests that the queries of pages, alarms and batches use indexes

mod database;
mod edit;
mod engine;
mod files;
mod load;
#[cfg(test)]
mod plans;
mod read;
mod recovery;
mod schema;
mod standalone;
mod transfer;
mod write;

pub(super) use edit::SqliteEditorStore;
pub(super) use engine::SqliteEngine;
pub(super) use read::SqliteReads;
pub(super) use transfer::SqliteTransfer;

use super::EventId;

/// The numbers as a JSON array, which a statement takes as one parameter.
fn numbers(ids: &[EventId]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| id.get()).collect();
    serde_json::to_string(&ids).unwrap_or_default()
}
