//! Shared support of the tests. Every wait ends with an event, or panics if there is none within [`PATIENCE`].

mod alerts;
mod bridge;
mod command;
mod disk;
mod http;
mod pagerduty;
mod process;
mod queue_contents;

use std::time::Duration;

pub(crate) use alerts::{alert, alert_of_level, fixtures};
pub(crate) use bridge::{
    Bridge, IS_POSTGRES, KEY, OTHER_KEY, ROUTES, TOKEN, execute_sql, refuse_resolves, take_resolves,
};
pub(crate) use command::{Run, run, run_with_input};
pub(crate) use disk::Disk;
pub(crate) use http::{Answer, Connection, get, get_with, post};
pub(crate) use pagerduty::{ClosedPort, PagerDuty};
pub(crate) use process::{Process, program};
pub(crate) use queue_contents::{make_dead_letter, make_events_wait};

/// The timeout of every wait. Few waits need a tenth of it. It is less than the time for which the bridge waits for a body,
/// so that a bridge that waits where it must not is noticed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// The largest number of times that a wait is extended by [`PATIENCE`] because the program still makes progress.
pub(crate) const EXTENSIONS: u32 = 8;
