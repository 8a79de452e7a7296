//! The lease protocol, with the beginning and the settlement of attempts, in every possible order of events: two bridges, two
//! service keys, three events, and every way in which a few things go wrong within a bounded time.
//!
//! The rules are the program's own: `Member` and `LeaseTable`, by way of [`rules`]. Around them, [`Protocol`] has a database
//! that executes some statements late or never, bridges that crash, pause or leave at any moment, and a PagerDuty that
//! receives requests at once or as late as it may.
//!
//! It is a package of its own so that the search is compiled with optimisation; see `[profile.dev.package]` in the
//! workspace's `Cargo.toml`.

mod model;
pub mod rules;

pub use model::{Action, Protocol, State};
pub use rules::Rule;

/// No event is received after a later one of its incident.
pub const ORDER: &str = "no event is received after a later one of its incident";
/// No two bridges have requests of one service key on the way at the same time.
pub const ONE_SENDER: &str = "no two bridges send for one service key";
/// The search does reach the delivery of all events.
pub const ALL_DELIVERED: &str = "all is delivered";
/// The search does reach its last step.
pub const TIME_ENDS: &str = "time ends";
