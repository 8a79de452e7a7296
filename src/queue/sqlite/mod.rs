//! SQLite: one file, one writer, WAL with `synchronous=FULL`.

mod read;
mod write;

pub(super) use read::Reads;
pub(super) use write::Engine;
