//! How the bridge fares, in one word. Pure.

use super::{Facts, Trouble};
use crate::delivery::KeyView;
use crate::pagerduty::ServiceKey;

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

    /// The word for what [`judge`](super::judge()) found.
    #[must_use]
    pub fn of(troubles: &[Trouble]) -> Self {
        troubles.iter().map(|trouble| trouble.word).max().unwrap_or(Self::Well)
    }
}

/// Whether an event waits that could have left if PagerDuty did not throttle or fail. How it treated one that is gone
/// holds up nobody.
pub(crate) fn is_held_up(facts: &Facts) -> bool {
    held_up(facts).next().is_some()
}

/// The deliveries of the service keys for which that is so.
pub(super) fn held_up(facts: &Facts) -> impl Iterator<Item = &KeyView> {
    let fails = |lane: &&KeyView| {
        let failed = lane.last_failure.is_some() && !lane.is_permanent;
        lane.allowed < lane.rate || lane.backs_off_until.is_some() || failed
    };
    facts.delivery.keys.iter().filter(fails).filter(|lane| has_waiting(facts, &lane.service_key))
}

/// Where the queue cannot be read, something may wait.
fn has_waiting(facts: &Facts, service_key: &ServiceKey) -> bool {
    let Ok(queue) = &facts.queue else { return true };
    queue.destinations.iter().any(|destination| destination.service_key == *service_key && destination.waiting > 0)
}
