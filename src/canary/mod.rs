//! The canary: a small marked event that the bridge sends to Sentry from time to time. Sentry's alert for it sends a
//! webhook to the bridge, which tests the whole path of an alert, from Sentry's intake to the queue's commit.
//!
//! - [`task`]: sends canaries when they are due
//! - `client`: the request that sends a canary, and what the response means
//! - [`status`]: derives what is shown and alarmed from the stored canaries; pure
//!
//! [`crate::ingest::canary`] makes the mark and recognises the canary's webhooks by it; [`crate::queue::external`] stores when
//! each canary was sent and came back.

mod client;
pub mod status;
pub mod task;

pub use client::SendError;
pub use status::{CanaryLimits, CanaryStatus, Progress, RoundTrip};
pub use task::{CanaryTask, Pace};
