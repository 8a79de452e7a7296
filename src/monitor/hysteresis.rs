//! When a trouble counts and when it is over, so that nothing flaps. Pure.
//!
//! Times are counted from the start of the bridge, by the monotonic clock.

use std::time::Duration;

/// The maximum number of times that the wait until a trouble is over is doubled: from 15 seconds to eight minutes.
const DOUBLINGS: u32 = 5;

/// A trouble that comes back within this time has to be gone for twice as long.
const RECENT: Duration = Duration::from_hours(1);

/// What one check found out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Assessment<T> {
    /// There is trouble.
    Trouble(T),
    /// There is none.
    Clear,
    /// It cannot be known, such as when the queue cannot be read.
    Unknown,
}

/// The course of one trouble.
#[derive(Debug)]
pub(super) struct Hysteresis {
    phase: Phase,
    /// How often it was raised recently.
    raises: u32,
    raised_at: Duration,
}

/// The phase of a trouble.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// No trouble since then.
    Inactive(Duration),
    /// Trouble since then, for too short a time to count.
    Pending(Duration),
    /// Trouble that counts.
    Firing,
    /// It was firing, and there has been no trouble since then.
    Clearing(Duration),
}

impl Hysteresis {
    /// No trouble since `now`.
    pub(super) fn new(now: Duration) -> Self {
        Self { phase: Phase::Inactive(now), raises: 0, raised_at: Duration::ZERO }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Records what a check at `now` found out. Trouble fires when it has lasted for `pending_for`, and is over when it has
    /// been gone for `resolve_after`.
    pub(super) fn advance<T>(
        &mut self,
        assessment: &Assessment<T>,
        pending_for: Duration,
        resolve_after: Duration,
        now: Duration,
    ) {
        let is_trouble = match assessment {
            Assessment::Trouble(_) => true,
            Assessment::Clear => false,
            Assessment::Unknown => return,
        };
        let lasted = |since: Duration, long: Duration| now.saturating_sub(since) >= long;
        self.phase = match (self.phase, is_trouble) {
            (Phase::Inactive(_), true) if pending_for.is_zero() => Phase::Firing,
            (Phase::Inactive(_), true) => Phase::Pending(now),
            (Phase::Pending(since), true) if lasted(since, pending_for) => Phase::Firing,
            (Phase::Clearing(_), true) => Phase::Firing,
            (Phase::Pending(_), false) => Phase::Inactive(now),
            (Phase::Firing, false) if resolve_after.is_zero() => Phase::Inactive(now),
            (Phase::Firing, false) => Phase::Clearing(now),
            (Phase::Clearing(since), false) if lasted(since, resolve_after) => Phase::Inactive(since),
            (phase, _) => phase,
        };
    }

    /// Makes a pending trouble last for the whole time again before it fires.
    pub(super) fn restart_pending(&mut self, now: Duration) {
        if let Phase::Pending(since) = &mut self.phase {
            *since = now;
        }
    }

    /// Records that the trouble was reported.
    pub(super) fn raised(&mut self, now: Duration) {
        self.raises = if self.came_back(now) { self.raises.saturating_add(1) } else { 1 };
        self.raised_at = now;
    }

    /// How long the trouble has to be gone: `first`, doubled for each time it came back recently.
    pub(super) fn resolve_after(&self, first: Duration, now: Duration) -> Duration {
        let returns = if self.came_back(now) { self.raises.saturating_sub(1) } else { 0 };
        first * 2_u32.pow(returns.min(DOUBLINGS))
    }

    fn came_back(&self, now: Duration) -> bool {
        now.saturating_sub(self.raised_at) < RECENT
    }
}
