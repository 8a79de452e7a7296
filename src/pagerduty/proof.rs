//! What became of an event that PagerDuty accepted: a success response does not prove that the event took effect.

use strum::{EnumString, IntoStaticStr, VariantArray};

/// What became of a delivered event.
#[derive(Clone, Copy, Debug, EnumString, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ProofState {
    /// A trigger: its incident exists. A resolve: its incident is resolved.
    Confirmed,
    /// A trigger: its alert exists, but a rule in PagerDuty suppresses it.
    Suppressed,
    /// A trigger: no incident exists.
    NotOpened,
    /// A resolve: its incident was still open, so the resolve was sent once more.
    Resent,
    /// A resolve that was sent once more: its incident is still open.
    LeftOpen,
}

impl ProofState {
    /// The name in the database, in metrics and in `/api`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether an operator has to look into it.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::NotOpened | Self::LeftOpen)
    }
}
