//! The values of the metrics' labels. None of them comes from outside the program.

use strum::{IntoStaticStr, VariantArray};

/// The text of a label's value.
pub(super) fn label(value: impl Into<&'static str>) -> &'static str {
    value.into()
}

/// Where a webhook came from, as far as the bridge knows.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum WebhookSource {
    /// Sentry's legacy plugin `WebHooks`, or a project's service hook.
    Legacy,
    /// Sentry's integration platform.
    Platform,
    /// Not known: the request was refused before it was read, could not be read, or is neither of the two.
    Unknown,
}

/// How a webhook was answered.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum WebhookAnswer {
    /// 202, queued.
    Queued,
    /// 202, ignored.
    Ignored,
    /// 202, ignored: the bridge's own canary.
    Canary,
    /// 400 or 422: not JSON, or not a Sentry webhook.
    Rejected,
    /// 401, because of the token.
    WrongToken,
    /// 401: the signature is well-formed, but does not match the body.
    WrongSignature,
    /// 401: the signature is missing or malformed.
    Unsigned,
    /// 408, 413, or the request ended early.
    Unread,
    /// 503: it could not be committed, or the limit of body memory was reached.
    Unavailable,
    /// 404: an address under `/sentry` that does not exist.
    NotFound,
    /// 405: the method is not POST.
    WrongMethod,
}

/// What became of webhooks with a wrong signature.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum HeldOutcome {
    /// Held, until a secret verifies it.
    Held,
    /// Not held, because there was no room.
    NoRoom,
    /// Verified by a secret later, and admitted.
    Admitted,
    /// Held for 24 hours, and deleted.
    Expired,
}

impl WebhookAnswer {
    /// Whether webhooks of this source can be answered like this.
    pub(super) fn is_possible_for(self, source: WebhookSource) -> bool {
        match self {
            Self::Queued | Self::Ignored | Self::Canary => source != WebhookSource::Unknown,
            Self::Rejected => source != WebhookSource::Legacy,
            Self::Unavailable => true,
            Self::WrongToken
            | Self::WrongSignature
            | Self::Unsigned
            | Self::Unread
            | Self::NotFound
            | Self::WrongMethod => source == WebhookSource::Unknown,
        }
    }

    /// Whether a webhook of this source that was answered like this was authenticated, by a token or a signature.
    pub(super) fn is_authenticated(self, source: WebhookSource) -> bool {
        match self {
            Self::Queued | Self::Ignored | Self::Canary | Self::Rejected => true,
            // A source is only known once the body was read, which needs authentication.
            Self::Unavailable => source != WebhookSource::Unknown,
            Self::WrongToken
            | Self::WrongSignature
            | Self::Unsigned
            | Self::Unread
            | Self::NotFound
            | Self::WrongMethod => false,
        }
    }
}

/// What Sentry's API said about the issue of an open incident.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum IssueCheck {
    /// It is not resolved.
    Open,
    /// It is resolved.
    Resolved,
    /// It was merged into another.
    Merged,
    /// It was deleted.
    Deleted,
    /// Sentry did not say.
    Failed,
}

impl IssueCheck {
    /// Its value as a label, and as a word in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How a webhook of PagerDuty was answered.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PagerDutyAnswer {
    /// 202: an update of an issue is committed.
    Queued,
    /// 202: there is nothing to do.
    Ignored,
    /// 401.
    WrongSignature,
    /// 408, 413, 503, or 400 for a body that is incomplete.
    Unread,
    /// 503: it could not be committed.
    Unavailable,
}

/// What became of an attempt to change an issue in Sentry.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum UpdateOutcome {
    /// The issue was changed.
    Done,
    /// The issue already was as it should be, or is gone.
    NotNeeded,
    /// The incident was changed again before the issue was changed.
    Superseded,
    /// Sentry did not change the issue; the update is tried again.
    Failed,
    /// The update is given up.
    Dead,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_written_in_snake_case() {
        let sources: Vec<_> = WebhookSource::VARIANTS.iter().map(|source| label(*source)).collect();
        assert_eq!(sources, ["legacy", "platform", "unknown"]);
        assert_eq!([WebhookAnswer::WrongToken, WebhookAnswer::NotFound].map(label), ["wrong_token", "not_found"]);
    }
}
