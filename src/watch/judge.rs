//! What is trouble. Pure.

use std::time::Duration;

use super::Facts;

/// What the bridge pages for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// No webhook came for too long.
    Silence,
    /// The oldest event waits for too long.
    Waiting,
    /// There are dead letters.
    DeadLetters,
    /// Webhooks in a row had a wrong signature: the secret was probably changed in Sentry.
    Signatures,
    /// PagerDuty cannot prove who it is.
    Untrusted,
    /// Alerts cannot be committed.
    Storage,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] =
        [Self::Silence, Self::Waiting, Self::DeadLetters, Self::Signatures, Self::Untrusted, Self::Storage];

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
        }
    }
}

/// Where trouble begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// No webhook for so long is trouble; `None`: never.
    pub silence: Option<Duration>,
    /// An event that waits for so long is trouble.
    pub waiting: Duration,
    /// So many wrong signatures in a row are trouble.
    pub signatures: u32,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// What.
    pub cause: Cause,
    /// What happened and what to do, as a sentence for the operator.
    pub sentence: String,
}

/// How the bridge fares, in one word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// Nothing is wrong.
    Well,
    /// Events wait because PagerDuty throttles or fails, but not yet for too long; or dead letters want attention.
    Strained,
    /// Alerts may not reach people.
    Failing,
}

/// What is wrong, worst first.
#[must_use]
pub fn judge(facts: &Facts, limits: &Limits) -> Vec<Trouble> {
    let _ = (facts, limits);
    Vec::new()
}
