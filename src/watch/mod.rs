//! Whether the bridge is well: facts in, troubles out.
//!
//! - [`facts`]: what is known at one moment, gathered from the queue, the deliveries and the metrics
//! - [`judge`](mod@judge): what of it is trouble; pure
//! - [`cause`]: what can be the trouble
//! - [`word`]: how the bridge fares, in one word; pure
//!
//! The status page shows it, `/metrics` counts it, and the bridge's own alarms page for it.

pub mod cause;
pub mod facts;
pub mod judge;
#[cfg(test)]
mod tests;
pub mod word;

pub use cause::Cause;
pub use facts::{Facts, Watch};
pub use judge::{Limits, Trouble, judge};
pub use word::Word;
