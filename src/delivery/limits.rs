//! What bounds the deliveries.

use std::time::Duration;

/// What bounds the deliveries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Attempts per 60 seconds and service key.
    pub rate: u32,
    /// For how long an event may fail while others of its key pass, before it is a dead letter.
    pub give_up_after: Duration,
    /// Attempts under way at once, in total: as many connections are open to PagerDuty at the most. Keys that PagerDuty
    /// answers slowly share half of them.
    pub in_flight: u32,
    /// Attempts under way at once for one service key.
    pub in_flight_per_key: u32,
    /// How many events of one service key that could leave at once are held in memory; the others stay in the queue
    /// until there is room.
    pub window: usize,
}

impl Limits {
    /// The limits of a running bridge.
    ///
    /// 192 connections: well within the 1024 files that a process may open on most systems, and enough for about a
    /// hundred keys to turn out slow at the same moment without delaying the others.
    #[must_use]
    pub fn new(rate: u32, give_up_after: Duration) -> Self {
        Self { rate, give_up_after, in_flight: 192, in_flight_per_key: 8, window: 1000 }
    }
}
