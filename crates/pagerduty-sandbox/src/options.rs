//! How the sandbox behaves while nobody tells it to misbehave.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::millis;

/// Everything that can be set. The default is as strict as PagerDuty is known to be, or stricter.
///
/// Any of it may be changed while the sandbox runs ([`Sandbox::set_options`](crate::Sandbox::set_options),
/// `PUT /options`), except [`keep_alive`](Self::keep_alive).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Whether what PagerDuty's pages forbid but its servers let through is answered 400. Such things are recorded as
    /// violations either way.
    pub strict: bool,
    /// The largest body, in bytes. PagerDuty says "512 KB"; 512,000 is safe under both readings of KB.
    pub max_body: usize,
    /// What a larger body is answered; which one PagerDuty chose is not documented.
    pub oversize: Oversize,
    /// What "1024 characters" counts; PagerDuty does not say.
    pub count: Counting,
    /// The rate limit.
    pub throttle: ThrottleOptions,
    /// The integration keys that exist; `None`: every well-formed one.
    pub keys: Option<BTreeSet<String>>,
    /// What an event for a key that does not exist is answered.
    pub unknown_key: UnknownKey,
    /// Whether every event is answered with success and dropped: PagerDuty did so in its incident `6bf6s5x13tmg`, and
    /// it does so whenever nobody is on call.
    pub silent_drop: bool,
    /// Whether answers name their members the other way round, so that nobody compares them as text.
    pub reversed_keys: bool,
    /// How long an idle connection is kept, from the start of the sandbox to its end. PagerDuty's own figure is not
    /// known; it is well below five minutes.
    #[serde(rename = "keep_alive_ms", with = "millis")]
    pub keep_alive: Duration,
    /// How many requests the journal remembers; older ones leave it, the counters still know them.
    pub journal_entries: usize,
    /// How many bytes of request bodies the journal remembers.
    pub journal_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strict: true,
            max_body: 512_000,
            oversize: Oversize::Status413,
            count: Counting::CodePoints,
            throttle: ThrottleOptions::default(),
            keys: None,
            unknown_key: UnknownKey::Refuse,
            silent_drop: false,
            reversed_keys: false,
            keep_alive: Duration::from_mins(1),
            journal_entries: 10_000,
            journal_bytes: 64 << 20,
        }
    }
}

impl Options {
    /// These options with the members of `patch` put over them; `throttle` is patched member by member as well.
    ///
    /// # Errors
    ///
    /// When `patch` names an option that does not exist or gives one a value that it cannot have.
    pub fn patched(&self, patch: &Map<String, Value>) -> Result<Self, serde_json::Error> {
        let mut merged = serde_json::to_value(self)?;
        for (name, value) in patch {
            match (merged.get_mut(name), value) {
                (Some(Value::Object(old)), Value::Object(new)) => {
                    old.extend(new.iter().map(|(name, value)| (name.clone(), value.clone())));
                }
                _ => merged[name] = value.clone(),
            }
        }
        serde_json::from_value(merged)
    }
}

/// PagerDuty's rate limit: so many accepted events of one integration key in a window that looks back from now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleOptions {
    /// Events in one window. PagerDuty: about 120, and it may lower that "dynamically".
    pub limit: usize,
    /// The window's length.
    #[serde(rename = "window_ms", with = "millis")]
    pub window: Duration,
    /// Whether refused events count as well: then a client that hammers never recovers.
    pub count_rejected: bool,
    /// The status of a refusal.
    pub status: ThrottleStatus,
    /// The `Retry-After` of a refusal; the Events API documents none.
    pub retry_after: Option<RetryAfter>,
}

impl Default for ThrottleOptions {
    fn default() -> Self {
        Self {
            limit: 120,
            window: Duration::from_mins(1),
            count_rejected: false,
            status: ThrottleStatus::Forbidden,
            retry_after: None,
        }
    }
}

/// What a body over the limit is answered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Oversize {
    /// 413 without a body, as proxies do.
    #[serde(rename = "413")]
    Status413,
    /// 400 with PagerDuty's "invalid event".
    #[serde(rename = "400json")]
    Json400,
}

/// What a limit on characters counts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    /// Unicode code points.
    CodePoints,
    /// UTF-16 code units: most emoji are two.
    Utf16,
}

impl Counting {
    pub(crate) fn length(self, text: &str) -> usize {
        match self {
            Self::CodePoints => text.chars().count(),
            Self::Utf16 => text.encode_utf16().count(),
        }
    }
}

/// What an event for a key that does not exist is answered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownKey {
    /// 400 with the bare text `Invalid routing key` (captured on v2).
    Refuse,
    /// Success, and nothing happens.
    Accept,
}

/// The status that says "slower".
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum ThrottleStatus {
    /// 403, as v1 was captured.
    Forbidden,
    /// 429, as v2 does and as the page on rate limits, tagged for both, says.
    TooManyRequests,
}

impl From<ThrottleStatus> for u16 {
    fn from(status: ThrottleStatus) -> Self {
        match status {
            ThrottleStatus::Forbidden => 403,
            ThrottleStatus::TooManyRequests => 429,
        }
    }
}

impl TryFrom<u16> for ThrottleStatus {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        match status {
            403 => Ok(Self::Forbidden),
            429 => Ok(Self::TooManyRequests),
            _ => Err(format!("PagerDuty throttles with 403 or 429, not with {status}")),
        }
    }
}

/// How a refusal says when to come back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// In so many seconds.
    Seconds(u32),
    /// At the date so many seconds from now.
    HttpDate(u32),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let options = Options { silent_drop: true, ..Options::default() };
        let patch = json!({"oversize": "400json", "throttle": {"limit": 2, "retry_after": {"seconds": 5}}});
        let patched = options.patched(patch.as_object().unwrap()).unwrap();
        let throttle =
            ThrottleOptions { limit: 2, retry_after: Some(RetryAfter::Seconds(5)), ..ThrottleOptions::default() };
        assert_eq!(patched, Options { oversize: Oversize::Json400, throttle, ..options });
    }

    #[test]
    fn a_patch_that_names_no_option_is_refused() {
        for patch in [json!({"stricked": true}), json!({"throttle": {"status": 418}}), json!({"throttle": {"a": 1}})] {
            assert!(Options::default().patched(patch.as_object().unwrap()).is_err(), "{patch}");
        }
    }
}
