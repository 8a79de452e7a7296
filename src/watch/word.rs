//! How the bridge fares, in one word. Pure.

use chrono::TimeDelta;

use super::{Facts, Trouble};
use crate::pagerduty::ServiceKey;

/// An event that waits for so long does not just pass through.
const PASSING: TimeDelta = TimeDelta::minutes(1);

/// How the bridge fares, in one word; the later ones are worse.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Word {
    /// Nothing is wrong.
    Well,
    /// Events wait because PagerDuty throttles or fails, but not yet for too long; or dead letters want attention.
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
        let strained = if is_strained(facts) { Self::Strained } else { Self::Well };
        troubles.iter().map(|trouble| trouble.word).max().unwrap_or(Self::Well).max(strained)
    }
}

fn is_strained(facts: &Facts) -> bool {
    let waits = facts.attention.as_ref().ok().and_then(|attention| attention.oldest.as_ref());
    waits.is_some_and(|oldest| facts.at - oldest.since >= PASSING)
        || facts.delivery.lanes.iter().any(|lane| {
            lane.allowed < lane.rate
                || lane.backs_off_until.is_some()
                || lane.trouble.is_some() && may_wait(facts, &lane.service_key)
        })
}

/// Whether something waits for that key, or nobody knows. How the last attempt failed stays known for as long as nothing
/// is sent, also when its event was refused for good or somebody discarded it.
fn may_wait(facts: &Facts, key: &ServiceKey) -> bool {
    facts.queue.as_ref().map_or(true, |queue| {
        queue.destinations.iter().any(|destination| destination.service_key == *key && destination.waiting > 0)
    })
}
