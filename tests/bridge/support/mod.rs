//! What the tests share. Every wait ends with an event, or with a panic when that stays away for [`PATIENCE`].

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
pub(crate) use bridge::{Bridge, IS_POSTGRES, KEY, OTHER_KEY, ROUTES, TOKEN, meddle};
pub(crate) use command::{Run, run, run_with_input};
pub(crate) use disk::Disk;
pub(crate) use http::{Answer, Connection, get, get_with, post};
pub(crate) use pagerduty::{ClosedPort, PagerDuty};
pub(crate) use process::{Process, program};
pub(crate) use queue_contents::{have_one_refused, hold_up};

/// How long anything that is waited for may take. Few things need a tenth of it. It is less than the bridge waits for a
/// body, so that a bridge that waits where it must not is noticed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// So many times [`PATIENCE`] is waited at most where something goes on meanwhile, because the machine is busy.
pub(crate) const EXTENSIONS: u32 = 8;
