//! The integration platform from outside: authentication, and what `explain` prints about its bodies.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers of tests included")]

mod authentication;
mod explain;
