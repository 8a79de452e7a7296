//! The canary: a small marked event that the bridge sends to Sentry from time to time. Sentry's alert for it calls the
//! bridge, so that the whole way of an alert is tried, from Sentry's intake to the queue's commit.
//!
//! - [`task`]: sends canaries when they are due
//! - `client`: the one request, and what its answer means
//! - [`status`]: from what is stored of canaries to what is shown and alarmed; pure
//!
//! [`crate::ingest::canary`] makes the mark and knows the canary's webhooks by it; [`crate::queue::canary`] stores when each
//! was sent and came back.

mod client;
pub mod status;
pub mod task;

pub use client::SendError;
pub use status::{CanaryLimits, CanaryStatus, Progress, RoundTrip};
pub use task::{CanaryTask, Pace};
