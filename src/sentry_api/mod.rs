//! Sentry's own API: what is read and changed there.
//!
//! ```text
//!  Sentry ──▶ transport ──▶ client ──▶ inventory ──┬─▶ audit     what would page nobody
//!             one call      paths,     what there  │
//!                           parsing    is          └─▶ connect   a plan, then its steps
//! ```
//!
//! - [`SentryClient`]: the boundary; nothing above it knows of HTTP. `client` has the calls that the bridge makes,
//!   `transport` makes one of them: timeouts, pages, rate limits, no redirects
//! - [`types`]: the types of Sentry's responses, parsed once
//! - [`inventory`]: reads projects, alerts and webhooks, and determines the generation of the Sentry
//! - [`address`]: which webhook addresses are the bridge's
//! - [`audit`]: finds what would page nobody; pure
//! - `crate::catch_up` and `crate::issue_status` use this API to learn what no webhook reported
//! - [`connect`]: plans the steps that are missing, which is pure, and carries them out
//!
//! Three generations are distinguished by the endpoints that they answer, and by their version only if a Sentry answers
//! for both rules and workflows: rules and the WebHooks plugin (9.1), rules and integrations (10.0 to about 2025),
//! workflows (2026). 404 and 410 both mean that something does not exist here: Sentry removed its rules first with the
//! one status and then with the other.

pub mod address;
pub mod audit;
mod client;
pub mod connect;
mod error;
pub mod inventory;
mod transport;
pub mod types;

pub use error::{SentryApiError, SentryTaskError, optional};
pub use inventory::{Inventory, issue_route};
pub use transport::SentryClient;
