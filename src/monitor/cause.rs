//! What the bridge pages for on its own account.

use crate::pagerduty::IncidentKey;

/// What the bridge pages for on its own account. The order is that of how much is lost by it, the most first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// Alerts cannot be committed, or what is committed cannot be read.
    Storage,
    /// PagerDuty cannot prove who it is.
    Untrusted,
    /// Webhooks in a row had a wrong signature: the secret was probably changed in Sentry.
    Signatures,
    /// The oldest event waits for too long.
    Waiting,
    /// No webhook came for too long.
    Silence,
    /// There are dead letters.
    DeadLetters,
    /// Events wait though nothing but PagerDuty or the way to it keeps them from leaving, but not yet for too long.
    Delivery,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 7] = [
        Self::Storage,
        Self::Untrusted,
        Self::Signatures,
        Self::Waiting,
        Self::Silence,
        Self::DeadLetters,
        Self::Delivery,
    ];

    /// Its name in metrics, incident keys and `/api`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Waiting => "waiting",
            Self::DeadLetters => "dead_letters",
            Self::Signatures => "signatures",
            Self::Untrusted => "untrusted",
            Self::Storage => "storage",
            Self::Delivery => "delivery",
        }
    }

    /// The incident that it opens, the same in every run of the bridge. Bridges that page one service need prefixes that
    /// differ.
    #[must_use]
    pub fn incident_key(self, prefix: &str) -> IncidentKey {
        IncidentKey::of_alarm(prefix, self.name())
    }

    /// Whether somebody is paged for it. While PagerDuty is not trusted nothing reaches it, and afterwards it is over. Events
    /// that wait are paged for as [`Waiting`](Self::Waiting) once they have done so for too long.
    #[must_use]
    pub fn is_paged(self) -> bool {
        !matches!(self, Self::Untrusted | Self::Delivery)
    }
}
