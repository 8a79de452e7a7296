//! From the queue to PagerDuty: in order, at PagerDuty's pace, until it is taken.
//!
//! - [`schedule`]: what to send next and when to look again; pure
//! - `lane`: what the schedule knows of one service key, which is
//!   - `lines`: its events, a line for each incident
//!   - `suspicion`: whether an event is itself to blame for its failures
//!   - `health`: what the answers say about PagerDuty
//!   - `latency`: how long its attempts take
//!   - `window`: which part of the queue is held in memory
//!   - [`pace`]: so many events per 60 seconds, fewer while PagerDuty throttles
//! - `connections`: how the keys share the connections, so that slow ones hold up nobody
//! - [`backoff`]: how long to wait after the n-th failure
//! - [`restart`]: what the attempts of an earlier run mean for the pace
//! - [`view`]: what it looks like from outside; `shown`: how often that is brought up to date
//! - [`Limits`]: what bounds it; [`Fate`]: what becomes of an attempted event; [`Moment`]: the schedule's time
//! - [`worker`]: does what the schedule says, with the queue and the client
//!   - `attempt`: the steps of an attempt; `news`: what the log is told of it
//!   - `reads`: what is read of the queue meanwhile; `set_aside`: what of that cannot be read

mod attempt;
pub mod backoff;
mod connections;
mod fate;
mod health;
mod lane;
mod latency;
mod limits;
mod lines;
mod moment;
mod news;
pub mod pace;
mod reads;
pub mod restart;
pub mod schedule;
mod set_aside;
mod shown;
mod suspicion;
pub mod view;
mod window;
pub mod worker;

pub use fate::Fate;
pub use limits::Limits;
pub use moment::Moment;
pub use schedule::Schedule;
pub use view::{DeliveryView, LaneView, UnreadableView};
pub use worker::Worker;
