//! What a webhook of the integration platform is about.

/// The values of the header `Sentry-Hook-Resource`.
///
/// Source: `sentry_apps/event_types.py` in Sentry, August 2026.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Resource {
    /// An alert rule fired for an issue.
    EventAlert,
    /// An issue changed.
    Issue,
    /// An error event came in.
    Error,
    /// A metric alert changed its status.
    MetricAlert,
    /// The integration was installed or removed.
    Installation,
    /// Somebody wrote a comment.
    Comment,
    /// Sentry's own debugging robot did something.
    Seer,
    /// An alert on what is done to an issue.
    ActivityAlert,
    /// The analysis of a mobile build.
    PreprodArtifact,
}

impl Resource {
    /// All that this version knows.
    pub const ALL: [Self; 9] = [
        Self::EventAlert,
        Self::Issue,
        Self::Error,
        Self::MetricAlert,
        Self::Installation,
        Self::Comment,
        Self::Seer,
        Self::ActivityAlert,
        Self::PreprodArtifact,
    ];

    /// Its name in the header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EventAlert => "event_alert",
            Self::Issue => "issue",
            Self::Error => "error",
            Self::MetricAlert => "metric_alert",
            Self::Installation => "installation",
            Self::Comment => "comment",
            Self::Seer => "seer",
            Self::ActivityAlert => "activity_alert",
            Self::PreprodArtifact => "preprod_artifact",
        }
    }

    /// Reads that name; `None` for names of another version of Sentry.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.name() == name.trim())
    }
}
