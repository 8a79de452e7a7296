//! The kinds of outcomes, to be counted.

/// How an attempt ended, in a word.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum OutcomeKind {
    /// PagerDuty took the event.
    Delivered,
    /// PagerDuty asked to slow down.
    Throttled,
    /// PagerDuty will never take the event.
    Refused,
    /// PagerDuty answered that it is in trouble: 5xx or 408.
    Error,
    /// No answer came in time.
    Timeout,
    /// PagerDuty was not reached: no connection, a broken one, a redirect, or somebody who does not speak HTTP.
    Unreachable,
    /// The other side could not prove that it is PagerDuty.
    Untrusted,
}

impl OutcomeKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Delivered,
        Self::Throttled,
        Self::Refused,
        Self::Error,
        Self::Timeout,
        Self::Unreachable,
        Self::Untrusted,
    ];

    /// Its name in metrics; a word in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_that_fits_a_label() {
        let mut names = OutcomeKind::ALL.map(OutcomeKind::name).to_vec();
        assert!(names.iter().all(|name| name.chars().all(|letter| letter.is_ascii_lowercase())), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OutcomeKind::ALL.len());
    }
}
