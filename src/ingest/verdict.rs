//! What is to be done with a webhook.

use std::fmt;

use chrono::{DateTime, Utc};
use thiserror::Error;

use super::{Dedup, FollowUp};
use crate::alert::{Alert, Level, Opening};
use crate::pagerduty::{Event, EventType, Rendered};
use crate::sentry::json::NotJson;
use crate::sentry::platform::Silence;

/// What is to be done with a webhook.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Queue the event.
    Queue(Box<Prepared>),
    /// Queue an event for every integration where the incident is open.
    Follow(Box<FollowUp>),
    /// Say yes and do nothing.
    Ignored(Ignored),
    /// Say no.
    Rejected(Rejection),
}

/// An event that is ready to be queued, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The event, a trigger.
    pub event: Event,
    /// Its JSON, and what was cut to be within PagerDuty's limits.
    pub rendered: Rendered,
    /// What Sentry told, without what is redacted.
    pub alert: Alert,
    /// When Sentry received its event, to be compared with resolves: by Sentry's own clock and no other. Where there is
    /// no event, as for a metric alert, this is when Sentry told of it: a firing is dated back by its time window, often
    /// to before the last one ended. `None` where Sentry tells neither, or a time that cannot be.
    pub happened_at: Option<DateTime<Utc>>,
    /// How it is known to repeat another webhook.
    pub dedup: Dedup,
}

/// Why nothing is done; `Display` is a sentence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ignored {
    /// The webhook asks for nothing.
    Silent(Silence),
    /// An alert milder than it has to be.
    Mild {
        /// Its level.
        level: Level,
        /// The mildest level that is told to PagerDuty.
        min_level: Level,
    },
    /// It is not what the operator wants to be paged for.
    NoPaging(Opening),
    /// Sentry does not close incidents.
    NoResolving,
    /// Sentry does not acknowledge incidents.
    NoAcknowledging,
    /// The same was told a short while ago.
    Repeated,
    /// This very webhook was received before, and nothing proves that Sentry sent it again.
    Replayed,
    /// Sentry received an alert for the incident after it had sent this resolve.
    Outdated,
    /// There is no incident that the bridge could do this to.
    NothingOpen(EventType),
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(silence) => silence.fmt(f),
            Self::Mild { level, min_level } => {
                write!(f, "the level {} is below BRIDGE_MIN_LEVEL, which is {}", level.name(), min_level.name())
            }
            Self::NoPaging(opening) => {
                write!(f, "it opens no incident, because BRIDGE_PAGE_ON does not name `{}`", opening.name())
            }
            Self::NoResolving => f.write_str("BRIDGE_RESOLVE is off, so what is resolved in Sentry stays open"),
            Self::NoAcknowledging => {
                f.write_str("BRIDGE_ACKNOWLEDGE is off, so what is assigned in Sentry stays unacknowledged")
            }
            Self::Repeated => f.write_str("the same was told a short while ago, and one event is enough"),
            Self::Replayed => f.write_str(
                "this very resolve was received before, byte for byte: a copy of it closes nothing, whoever sends it",
            ),
            Self::Outdated => f.write_str(
                "Sentry received an alert after it had sent this resolve, so the incident is open again and stays open",
            ),
            Self::NothingOpen(EventType::Trigger) => {
                f.write_str("the bridge opened no incident for it before, so there is none to open again")
            }
            Self::NothingOpen(event_type) => {
                write!(f, "the bridge knows of no open incident for it, so there is nothing to {event_type}")
            }
        }
    }
}

/// Why a body is refused; never repeats what is in it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Rejection {
    /// It is no JSON, even after repair.
    #[error(transparent)]
    NotJson(#[from] NotJson),
    /// It is JSON, but nothing that Sentry sends.
    #[error("the body is JSON, but no webhook of Sentry: it tells of neither an event nor a project")]
    NotSentry,
    /// It looks like Sentry's, but no incident key can be made of it.
    #[error(
        "the body looks like a webhook of Sentry, but names neither an issue nor a metric alert: there is no id of one \
         in it, and none in an address"
    )]
    NoIssue,
}
