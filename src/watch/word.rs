//! How the bridge fares, in one word. Pure.

use chrono::TimeDelta;

use super::{Facts, Trouble};
use crate::delivery::LaneView;
use crate::pagerduty::ServiceKey;

/// An event that waits for so long does not just pass through.
const PASSING: TimeDelta = TimeDelta::minutes(1);

/// How the bridge fares, in one word; the later ones are worse.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Word {
    /// Nothing is wrong.
    Well,
    /// Events wait because PagerDuty throttles or fails, or for more than a minute, but not yet for too long; or dead
    /// letters want attention, while others of their key get through.
    Strained,
    /// Alerts may not reach people.
    Failing,
}

impl Word {
    /// The word, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Strained => "strained",
            Self::Failing => "failing",
        }
    }

    /// The word for what [`judge`](super::judge()) made of `facts`.
    #[must_use]
    pub fn of(troubles: &[Trouble], facts: &Facts) -> Self {
        let strained = if is_held_up(facts) || waits_long(facts) { Self::Strained } else { Self::Well };
        troubles.iter().map(|trouble| trouble.word).max().unwrap_or(Self::Well).max(strained)
    }
}

/// Whether an event waits that could have left if PagerDuty did not throttle or fail. How it treated one that is gone
/// holds up nobody.
pub(crate) fn is_held_up(facts: &Facts) -> bool {
    let fails = |lane: &LaneView| lane.allowed < lane.rate || lane.backs_off_until.is_some() || lane.trouble.is_some();
    facts.delivery.lanes.iter().any(|lane| fails(lane) && has_waiting(facts, &lane.service_key))
}

/// Where the queue cannot be read, something may wait.
fn has_waiting(facts: &Facts, service_key: &ServiceKey) -> bool {
    let Ok(queue) = &facts.queue else { return true };
    queue.destinations.iter().any(|destination| destination.service_key == *service_key && destination.waiting > 0)
}

fn waits_long(facts: &Facts) -> bool {
    let oldest = facts.attention.as_ref().ok().and_then(|attention| attention.oldest.as_ref());
    oldest.is_some_and(|oldest| facts.at - oldest.since >= PASSING)
}
