//! From the queue to PagerDuty: in order, at PagerDuty's pace, until it is taken.
//!
//! - [`schedule`]: what to send next and when to look again; pure
//! - [`lane`]: what the schedule knows of one service key: its lines, its pace, its trouble
//! - [`pace`]: so many events per 60 seconds, fewer while PagerDuty throttles
//! - [`backoff`]: how long to wait after the n-th failure
//! - [`worker`]: does what the schedule says, with the queue and the client

pub mod backoff;
pub mod lane;
pub mod pace;
pub mod schedule;
pub mod worker;

pub use schedule::{Limits, Moment, Schedule};
pub use worker::Worker;
