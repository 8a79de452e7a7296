//! From the queue to PagerDuty: in order, within PagerDuty's rate limit, until PagerDuty accepts or rejects each event.
//!
//! Decisions, which are pure:
//!
//! - [`scheduler`]: what to send next and when to look again
//! - `service_key_queue`: the scheduler's state of one service key, made of
//!   - `incident_queue`: its events, in a queue for each incident
//!   - `failure_history`: whether an event is the cause of its own failures
//!   - `circuit_breaker`: when to try again after failures
//!   - [`rate_limiter`]: how many events may be sent per 60 seconds, fewer while PagerDuty throttles
//!   - `prefetch`: which part of the queue is loaded
//! - `connections`: how the keys share the connections, so that slow keys do not delay the others
//! - [`owned_keys`]: for which keys this bridge delivers, where several share the queue
//!
//! What the worker keeps and shows, without I/O:
//!
//! - `unreadable`: the waiting events that cannot be read
//! - [`view`]: the deliveries as people and metrics see them
//!
//! I/O:
//!
//! - [`worker`]: carries out the scheduler's decisions, with the queue and the client
//! - `steps`: attempts and reads of the queue, which run concurrently

mod circuit_breaker;
mod connections;
mod failure_history;
mod incident_queue;
pub mod owned_keys;
mod prefetch;
pub mod rate_limiter;
pub mod scheduler;
mod service_key_queue;
mod steps;
mod unreadable;
pub mod view;
pub mod worker;

use std::time::Duration;

pub use circuit_breaker::TRANSIENT_BACKOFF;
pub use scheduler::Scheduler;
pub use view::{DeliveryView, KeyView, UnreadableView};
pub use worker::Worker;

/// A moment on the scheduler's clock, which never goes back: the time since the clock began.
pub type Moment = Duration;

/// The limits of the deliveries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeliveryLimits {
    /// Attempts per 60 seconds and service key.
    pub rate: u32,
    /// How long an event may fail while others of its key are delivered, before it becomes a dead letter.
    pub give_up_after: Duration,
    /// Attempts in flight in total, and so the most connections that are open to PagerDuty. Keys that PagerDuty answers
    /// slowly share half of them.
    pub in_flight: u32,
    /// Attempts in flight for one service key.
    pub in_flight_per_key: u32,
    /// How many ready events of one service key are loaded; the others stay in the queue until there is room.
    pub prefetch: usize,
}

impl DeliveryLimits {
    /// The limits of a running bridge.
    ///
    /// 192 connections: well within the 1024 files that a process may open on most systems, and enough for about a
    /// hundred keys to turn out slow at the same moment without delaying the others.
    #[must_use]
    pub fn new(rate: u32, give_up_after: Duration) -> Self {
        Self { rate, give_up_after, in_flight: 192, in_flight_per_key: 8, prefetch: 1000 }
    }
}
