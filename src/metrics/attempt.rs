//! How an attempt to deliver ended, as a label.

use super::Happening;
use crate::pagerduty::outcome::{Blame, Outcome};

/// How an attempt to deliver ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Attempt {
    Delivered,
    Throttled,
    ServerError,
    Network,
    Refused,
    Untrusted,
}

impl Attempt {
    pub(super) const ALL: [Self; 6] =
        [Self::Delivered, Self::Throttled, Self::ServerError, Self::Network, Self::Refused, Self::Untrusted];

    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Delivered { .. } => Self::Delivered,
            Outcome::Throttled { .. } => Self::Throttled,
            Outcome::Trouble { blame: Blame::Event, .. } => Self::ServerError,
            Outcome::Trouble { blame: Blame::Way, .. } => Self::Network,
            Outcome::Refused { .. } => Self::Refused,
            Outcome::Untrusted { .. } => Self::Untrusted,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Network => "network",
            Self::Refused => "refused",
            Self::Untrusted => "untrusted",
        }
    }

    pub(super) fn happening(self) -> Happening {
        match self {
            Self::Delivered => Happening::Delivered,
            Self::Throttled => Happening::Throttled,
            Self::ServerError | Self::Network | Self::Refused | Self::Untrusted => Happening::Failed,
        }
    }
}
