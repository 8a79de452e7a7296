//! Whether the bridge is well: facts in, troubles out.
//!
//! - [`facts`]: what is known at one moment, gathered from the queue, the deliveries and the metrics
//! - [`judge`]: what of it is trouble; pure
//! - [`gauges`]: both as gauges for Prometheus; pure
//!
//! The status page shows it, `/metrics` counts it, and the bridge's own alarms page for it.

pub mod facts;
pub mod gauges;
pub mod judge;

pub use facts::{Facts, Watch};
pub use gauges::gauges;
pub use judge::{Cause, Limits, Trouble, Word, judge};
