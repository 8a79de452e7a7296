//! What became of an event that PagerDuty accepted: an answer of success is no proof of it.

use strum::{EnumString, IntoStaticStr, VariantArray};

/// What became of a delivered event.
#[derive(Clone, Copy, Debug, EnumString, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ProofState {
    /// A trigger: its incident exists. A resolve: its incident is resolved.
    Confirmed,
    /// A trigger: its alert exists, and a rule of PagerDuty suppresses it.
    Suppressed,
    /// A trigger: no incident exists.
    NotOpened,
    /// A resolve: its incident was open still, so that it was sent once more.
    Resent,
    /// A resolve that was sent once more: its incident is open still.
    LeftOpen,
}

impl ProofState {
    /// The name in the database, in metrics and in `/api`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether somebody has to look at it.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::NotOpened | Self::LeftOpen)
    }
}
