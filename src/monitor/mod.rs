//! Whether the bridge is healthy: a snapshot of it goes in, troubles, gauges and alarms come out.
//!
//! - [`snapshot`]: what is known at one moment, with times that a step of the machine's clock does not change
//! - [`checks`]: from a snapshot to the troubles and the health; pure
//! - [`headline`]: the worst trouble in one line; pure
//! - [`gauges`](mod@gauges): a snapshot as gauges for Prometheus; pure
//! - `alarms`: when an alarm is raised and resolved, and what its events contain; `hysteresis`: keeps it from flapping;
//!   pure
//! - `monitor`: [`Monitor`], which takes the snapshots
//! - `alarm_task`: [`AlarmTask`], which raises and resolves the alarms
//! - [`fallback`]: a webhook that is notified when PagerDuty itself takes no events
//!
//! The status page, `/api` and `/metrics` get their snapshots from [`Monitor`]. [`AlarmTask`] runs beside them and
//! pages for troubles. Alarms are events like all others: they go through the durable queue, in order and within the
//! rate limit. Only the alarm that nothing can be committed is sent to PagerDuty directly.

mod alarm_task;
mod alarms;
pub mod checks;
pub mod fallback;
pub mod gauges;
pub mod headline;
mod hysteresis;
#[expect(clippy::module_inception, reason = "the file has the name of its type")]
mod monitor;
pub mod snapshot;

use std::time::Duration;

pub use alarm_task::{AlarmTask, Paging};
pub(crate) use checks::delivery::is_delayed;
pub use checks::{Cause, Health, Trouble, TroubleLimits, troubles};
pub use gauges::{gauges, gauges_without_database};
pub use headline::Headline;
pub use monitor::Monitor;
pub use snapshot::{CommitTimes, ServiceKeyStatus, Snapshot};

/// The pauses of the alarm task and of the fallback webhook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Intervals {
    /// The pause between two checks.
    pub check: Duration,
    /// How long a trouble has to be gone before its alarm is resolved; doubled for each time it came back recently.
    pub resolve_after: Duration,
    /// How long PagerDuty has to take no events before the fallback webhook is notified.
    pub outage_after: Duration,
    /// The pause before the fallback webhook is tried again; it doubles with each attempt.
    pub fallback_pause: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            check: Duration::from_secs(2),
            resolve_after: Duration::from_secs(15),
            outage_after: Duration::from_mins(1),
            fallback_pause: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests;
