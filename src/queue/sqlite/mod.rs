//! SQLite: one file, one writing connection, and a few that only read.
//!
//! - `place`: the file, how connections to it are set up, and what its errors mean
//! - `version`: whether this SQLite keeps what it has committed
//! - `schema`: its tables, and whether they are those of this program
//! - `engine`: the connection that survives errors
//! - `files`: the locks that keep a second bridge out, and whether the open files are still those at their paths;
//!   `recovery`: what is kept of files that were taken away
//! - `write`: the statements of one commit; `receive`: of what webhooks bring; `accept`: of arriving events; `rejected`:
//!   of rejected webhooks; `prune`: of history
//! - `statements`: what is held back to be sent to SQLite together
//! - `incidents`: where incidents are open; `seen`: what does nothing a second time
//! - `memory`: what the metrics find again after a restart
//! - `edit`: changes from outside
//! - `read`: connections that only read, and what the deliveries read; `overview`: how much stands where; `pages`: what
//!   a page shows; `list`: what the commands list; `attention`: what the bridge's own alarms ask
//! - `attempts`: what the rate limiter has to know after a restart
//! - `salvage`: reading around damage
//! - `row`: a row's columns as types
//! - `plans`: tests that indexes find what pages and alarms ask for

mod attempts;
mod attention;
mod edit;
mod engine;
mod files;
mod list;
mod load;
mod memory;
mod overview;
mod pages;
mod place;
#[cfg(test)]
mod plans;
mod prune;
mod read;
mod recovery;
mod row;
mod salvage;
mod schema;
mod statements;
mod version;
mod write;

pub(super) use edit::Edits;
pub(super) use engine::Engine;
pub(super) use read::Reads;
