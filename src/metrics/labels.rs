//! The values that labels may have. None of them comes from outside.

/// Where a webhook came from, as far as the bridge knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// Sentry's legacy plugin `WebHooks`.
    Legacy,
    /// Sentry's integration platform.
    Platform,
    /// Nobody knows: it was turned away, could not be read, or is neither.
    Unknown,
}

/// What a webhook was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answered {
    /// 202, queued.
    Queued,
    /// 202, ignored.
    Ignored,
    /// 400 or 422: not JSON, or no webhook of Sentry's.
    Rejected,
    /// 401, because of the token.
    WrongToken,
    /// 401, because a signature that has the form of one is not that of the body.
    WrongSignature,
    /// 401, because there is no signature, or none that has the form of one.
    Unsigned,
    /// 408, 413, or broken off.
    Unread,
    /// 503: it could not be committed, or there was no room to read it.
    Unavailable,
    /// 404: an address under `/sentry` that does not exist.
    NotFound,
    /// 405: no POST.
    WrongMethod,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::Legacy, Self::Platform, Self::Unknown];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Platform => "platform",
            Self::Unknown => "unknown",
        }
    }
}

impl Answered {
    /// Every answer.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Ignored,
        Self::Rejected,
        Self::WrongToken,
        Self::WrongSignature,
        Self::Unsigned,
        Self::Unread,
        Self::Unavailable,
        Self::NotFound,
        Self::WrongMethod,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::WrongToken => "wrong_token",
            Self::WrongSignature => "wrong_signature",
            Self::Unsigned => "unsigned",
            Self::Unread => "unread",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not_found",
            Self::WrongMethod => "wrong_method",
        }
    }

    /// Whether a webhook of this source and answer has proven where it comes from: by a token or a signature.
    #[must_use]
    pub fn is_proven(self, source: Source) -> bool {
        match self {
            Self::Queued | Self::Ignored | Self::Rejected => true,
            // Without a source it was never read, so nobody knows what it was.
            Self::Unavailable => source != Source::Unknown,
            Self::WrongToken
            | Self::WrongSignature
            | Self::Unsigned
            | Self::Unread
            | Self::NotFound
            | Self::WrongMethod => false,
        }
    }
}
