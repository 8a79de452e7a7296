//! How the sandbox behaves while no fault is active.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The type of an integration of the Events API v1.
pub(crate) const EVENTS_V1: &str = "generic_events_api_inbound_integration";

/// The type of an integration of the Events API v2.
pub(crate) const EVENTS_V2: &str = "events_api_v2_inbound_integration";

/// All options. The defaults are as strict as PagerDuty is known to be, or stricter.
///
/// All but [`keep_alive`](Self::keep_alive) can be changed while the sandbox runs, with
/// [`Sandbox::set_options`](crate::Sandbox::set_options) or `PUT /options`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Options {
    /// Whether a request that PagerDuty's documentation forbids but its servers accept is answered with 400. It is recorded
    /// as a violation either way.
    pub strict: bool,
    /// The largest body, in bytes. PagerDuty documents "512 KB"; 512,000 is the smaller reading.
    pub max_body: usize,
    /// The response to a larger body; PagerDuty's is not documented.
    pub oversize: Oversize,
    /// What a limit such as "1024 characters" counts; not documented.
    pub count: Counting,
    /// The rate limit.
    pub throttle: ThrottleOptions,
    /// The integration keys that exist; `None`: all well-formed ones.
    pub keys: Option<BTreeSet<String>>,
    /// The response to an event for a key that does not exist.
    pub unknown_key: UnknownKey,
    /// Whether every valid event is answered with success and not applied. PagerDuty did so in its incident
    /// `6bf6s5x13tmg`, and does so whenever nobody is on call.
    pub silent_drop: bool,
    /// Whether an incident that one Events API opened is unknown to the other. PagerDuty documents nothing about it; both take
    /// the same keys, and by default they share their incidents.
    pub separate_apis: bool,
    /// Whether responses list their JSON fields in reverse order, to detect clients that compare them as text.
    pub reversed_keys: bool,
    /// How long an idle connection is kept; read when the sandbox starts. PagerDuty's value is not known, but it is well
    /// below five minutes.
    #[serde(rename = "keep_alive_ms", with = "millis")]
    pub keep_alive: Duration,
    /// The subscriptions to webhooks V3 of every incident.
    pub webhooks: Vec<Subscription>,
    /// How many of the newest requests the journal keeps. The counters count them all.
    pub journal_entries: usize,
    /// How many bytes of request bodies the journal keeps.
    pub journal_bytes: usize,
    /// The REST API and the services that it shows.
    pub rest: RestOptions,
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
            separate_apis: false,
            reversed_keys: false,
            keep_alive: Duration::from_mins(1),
            webhooks: Vec::new(),
            journal_entries: 10_000,
            journal_bytes: 64 << 20,
            rest: RestOptions::default(),
        }
    }
}

impl Options {
    /// Returns these options with the ones that `patch` names replaced. In nested options such as `throttle`, too, only the
    /// named ones are replaced.
    ///
    /// # Errors
    ///
    /// When an option does not exist or cannot have the value.
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

/// PagerDuty's rate limit: how many events of one integration key are accepted in a sliding window.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleOptions {
    /// Events in one window. PagerDuty documents about 120, and that it may lower this "dynamically".
    pub limit: usize,
    /// The length of the window.
    #[serde(rename = "window_ms", with = "millis")]
    pub window: Duration,
    /// Whether throttled events count as well. A client that does not slow down is then never accepted again.
    pub count_rejected: bool,
    /// The status of a throttled event.
    pub status: ThrottleStatus,
    /// The `Retry-After` of a throttled event; the Events API documents none.
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

/// The response to a body over the limit.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Oversize {
    /// 413 without a body, as proxies do.
    #[serde(rename = "413")]
    Status413,
    /// 400 with PagerDuty's "invalid event".
    #[serde(rename = "400json")]
    Json400,
}

/// What a limit in characters counts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    /// Unicode code points.
    CodePoints,
    /// UTF-16 code units; most emoji have two.
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

/// The response to an event for a key that does not exist.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownKey {
    /// 400 with the plain text `Invalid routing key` (captured from v2).
    Refuse,
    /// Success; the event is not applied.
    Accept,
}

/// The status of a throttled event.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum ThrottleStatus {
    /// 403, as captured from v1.
    Forbidden,
    /// 429, as v2 answers and as the documentation of the rate limits says, which covers both.
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

/// The value of a `Retry-After` header.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// This many seconds.
    Seconds(u32),
    /// The date that is this many seconds from now.
    HttpDate(u32),
}

/// A subscription to the webhooks of every incident.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Subscription {
    /// The URL to which its webhooks are posted.
    pub url: String,
    /// The secrets with which they are signed: one, or several during a rotation.
    pub secrets: Vec<String>,
}

/// What the REST API shows, and how it answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestOptions {
    /// The token that it accepts; `None`: any.
    pub token: Option<String>,
    /// Whether the token may only read.
    pub read_only: bool,
    /// The maximum number of requests in 60 seconds; PagerDuty documents 960.
    pub limit: usize,
    /// The response to every request, in place of the normal one.
    pub answer: Option<RestAnswer>,
    /// The services of the account. If there are none here, every known integration key has a service of its own.
    pub services: Vec<ServiceOptions>,
}

impl Default for RestOptions {
    fn default() -> Self {
        Self { token: None, read_only: false, limit: 960, answer: None, services: Vec::new() }
    }
}

/// A response with which the REST API rejects every request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RestAnswer {
    /// The status code: 401, 402, 403, 429 or a server error.
    pub status: u16,
    /// For 429: the seconds of the header `ratelimit-reset`. PagerDuty may leave it out.
    #[serde(default)]
    pub reset: Option<u32>,
}

/// A service of the account.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceOptions {
    /// Its id, such as `PIJ90N7`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its status, which decides whether events open incidents.
    #[serde(default)]
    pub status: RestServiceStatus,
    /// Whether its incidents have alerts, which then carry the incident key.
    #[serde(default)]
    pub creates_alerts: bool,
    /// Whether a rule suppresses its alerts.
    #[serde(default)]
    pub suppresses: bool,
    /// Its integrations.
    pub integrations: Vec<IntegrationOptions>,
    /// Who is on call for its escalation policy.
    #[serde(default)]
    pub on_call: Vec<String>,
}

impl ServiceOptions {
    /// An active service with one integration of the Events API v1, and one person on call.
    #[must_use]
    pub fn new(id: &str, name: &str, key: &str) -> Self {
        let integration = IntegrationOptions {
            id: format!("PI{}", id.trim_start_matches('P')),
            name: "Sentry".to_owned(),
            kind: EVENTS_V1.to_owned(),
            key: key.to_owned(),
        };
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            status: RestServiceStatus::Active,
            creates_alerts: false,
            suppresses: false,
            integrations: vec![integration],
            on_call: vec!["Ada Lovelace".to_owned()],
        }
    }

    /// Whether it opens no incidents at present.
    pub(crate) fn is_off(&self) -> bool {
        matches!(self.status, RestServiceStatus::Disabled | RestServiceStatus::Maintenance)
    }
}

/// The status of a service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestServiceStatus {
    /// It has no open incident.
    #[default]
    Active,
    /// It has acknowledged incidents.
    Warning,
    /// It has triggered incidents.
    Critical,
    /// It is in a maintenance window, and opens no incidents.
    Maintenance,
    /// It is disabled, and opens no incidents.
    Disabled,
}

/// An integration of a service.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IntegrationOptions {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type, such as `generic_events_api_inbound_integration`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its integration key.
    pub key: String,
}

/// Durations as whole milliseconds, for `serde(with)`.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }

    /// The same for an optional duration.
    pub(crate) mod option {
        use super::{Deserialize, Deserializer, Duration, Serializer};

        #[expect(clippy::ref_option, reason = "the signature that serde calls")]
        pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => super::serialize(duration, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
        }
    }
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
