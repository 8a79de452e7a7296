//! The integration platform from the outside: its doors, and what `explain` says of its bodies.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers of tests included")]

mod authentication;
mod explain;
