//! A model of the lease protocol, including the beginning and the settlement of attempts, for every possible order of
//! events: two bridges, two service keys, three events, and every combination of a few faults within a bounded time.
//!
//! The rules are the program's own: [`rules`] calls `LeaseHolder` and `LeaseTable`. Around them, [`Protocol`] models a database
//! that executes some statements late or never, bridges that crash, pause or leave at any moment, and a PagerDuty that
//! receives a request at once or at the latest possible moment.
//!
//! It is a package of its own so that the search is compiled with optimisation; see `[profile.dev.package]` in the
//! workspace's `Cargo.toml`.

mod model;
pub mod rules;

pub use model::{ModelAction, ModelState, Protocol};
pub use rules::LeaseRule;

/// PagerDuty receives no event after a later event of the same incident.
pub const ORDER: &str = "no event is received after a later one of its incident";
/// No two bridges have requests for the same service key in flight at the same time.
pub const ONE_SENDER: &str = "no two bridges send for one service key";
/// The search reaches a state in which all events are delivered.
pub const ALL_DELIVERED: &str = "all is delivered";
/// The search reaches its last step.
pub const TIME_ENDS: &str = "time ends";
