//! Whether the bridge is well: facts in, troubles out.
//!
//! - [`facts`]: what is known at one moment, gathered from the queue, the deliveries and the metrics
//! - `clock`: how long things last, whatever is done to the machine's clock
//! - [`judge`](mod@judge): what of it is trouble; pure
//! - [`cause`]: what can be the trouble
//! - [`word`]: how the bridge fares, in one word; pure
//! - [`gauges`](mod@gauges): all of it as gauges for Prometheus; pure
//! - [`alarm`]: when somebody is paged for it, and when it is over; pure
//! - [`rhythm`]: how often is looked, and how long a trouble has to be gone
//! - `notice`: what PagerDuty is told; pure
//! - [`keeper`]: looks every few seconds and does what the alarms say
//!
//! The status page shows it, `/metrics` counts it, and the bridge's own alarms page for it.

pub mod alarm;
pub mod cause;
mod clock;
pub mod facts;
pub mod gauges;
pub mod judge;
pub mod keeper;
mod notice;
pub mod rhythm;
#[cfg(test)]
mod tests;
pub mod word;

pub use cause::Cause;
pub use clock::CommitTimes;
pub use facts::{Facts, Watch};
pub use gauges::{gauges, gauges_without_database};
pub use judge::{Limits, Trouble, judge};
pub use keeper::{Keeper, Paging};
pub use rhythm::Rhythm;
pub use word::Word;
