//! What PagerDuty's response, or a missing response, means for the event.
//!
//! Sources: PagerDuty's page "Events API v1: Overview" (responses and retry logic), and responses that its users captured.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::ServiceKey;

/// The longest wait that a `Retry-After` header can ask for. PagerDuty's rate limit counts over 60 seconds, so a longer wait
/// has no use, and a wrong header must not stop the events of a service key: one of them is still sent each minute.
pub const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// How much of a response is kept as a reason, in characters.
const MAX_REASON: usize = 500;

/// How one attempt ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// PagerDuty accepted the event.
    Delivered {
        /// What is unusual about the response, such as a body that does not say `success`.
        note: Option<String>,
    },
    /// PagerDuty asks to slow down (403 in v1, 429 in v2). It did not accept the event, and nothing is wrong with it.
    Throttled {
        /// The response as one line of text.
        reason: String,
        /// The wait that PagerDuty asked for, at most [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// A transient failure: PagerDuty may or may not have accepted the event. Send it again.
    Transient {
        /// What happened.
        reason: String,
        /// What caused it.
        cause: FailureCause,
        /// The wait that PagerDuty asked for, at most [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// The connection ended before the first byte of a response, for example an idle connection that was closed just as it
    /// was used again. PagerDuty may or may not have accepted the event. Send it again.
    Dropped {
        /// What happened.
        reason: String,
    },
    /// A permanent failure: PagerDuty will never accept this event. Only a response that PagerDuty itself can have sent
    /// means that.
    Refused {
        /// PagerDuty's own reason.
        reason: String,
    },
    /// The other side could not prove that it is PagerDuty, so nothing was sent.
    Untrusted {
        /// The TLS error.
        reason: String,
    },
}

/// What caused an [`Outcome::Transient`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailureCause {
    /// PagerDuty answered 5xx or 408.
    ServerError,
    /// No response came in time.
    Timeout,
    /// The network: no connection, a connection that broke within the response, a redirect, or a response that PagerDuty
    /// does not send.
    NetworkError,
}

impl FailureCause {
    /// Whether the event itself may be at fault: PagerDuty once answered 500 to invalid events for an hour (2021-04-23).
    /// Otherwise the network is: a connection was refused, a host name is unknown, a proxy redirects.
    #[must_use]
    pub fn may_be_the_event(self) -> bool {
        matches!(self, Self::ServerError | Self::Timeout)
    }
}

/// The kind of an [`Outcome`], as metrics count it.
#[derive(Clone, Copy, Debug, EnumString, Eq, Hash, IntoStaticStr, PartialEq, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum OutcomeKind {
    /// PagerDuty accepted the event.
    Delivered,
    /// PagerDuty asked to slow down.
    Throttled,
    /// PagerDuty will never accept the event.
    Refused,
    /// PagerDuty answered 5xx or 408.
    #[strum(serialize = "error")]
    ServerError,
    /// No response came in time.
    Timeout,
    /// PagerDuty was not reached: no connection, a redirect, or a response that is not PagerDuty's.
    #[strum(serialize = "unreachable")]
    NetworkError,
    /// The connection ended before a response.
    Dropped,
    /// The other side could not prove that it is PagerDuty.
    Untrusted,
}

impl OutcomeKind {
    /// Every kind.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Its label in metrics and its name in the database, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The kind with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// An HTTP response.
#[derive(Clone, Copy, Debug)]
pub struct EventsApiResponse<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The header `Retry-After`, unparsed.
    pub retry_after: Option<&'a str>,
    /// The header `Location`, unparsed.
    pub location: Option<&'a str>,
    /// The beginning of the body.
    pub body: &'a [u8],
}

/// The fields of PagerDuty's JSON responses. All are optional because the response may come from a proxy.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseBody {
    status: Option<String>,
    message: Option<String>,
    errors: Option<serde_json::Value>,
}

impl ResponseBody {
    fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Whether this is PagerDuty's response to an invalid event. Every captured one has all three fields; a gateway's error
    /// such as `{"status":"error","message":"…"}` has no list of errors.
    fn is_refusal(&self) -> bool {
        let errors = self.errors.as_ref().and_then(serde_json::Value::as_array);
        self.status.is_some() && self.message.is_some() && errors.is_some_and(|errors| !errors.is_empty())
    }
}

impl Outcome {
    /// The kind of the outcome.
    #[must_use]
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Delivered { .. } => OutcomeKind::Delivered,
            Self::Throttled { .. } => OutcomeKind::Throttled,
            Self::Refused { .. } => OutcomeKind::Refused,
            Self::Transient { cause: FailureCause::ServerError, .. } => OutcomeKind::ServerError,
            Self::Transient { cause: FailureCause::Timeout, .. } => OutcomeKind::Timeout,
            Self::Transient { cause: FailureCause::NetworkError, .. } => OutcomeKind::NetworkError,
            Self::Dropped { .. } => OutcomeKind::Dropped,
            Self::Untrusted { .. } => OutcomeKind::Untrusted,
        }
    }

    /// Why the attempt failed; `None` when PagerDuty accepted the event.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Delivered { .. } => None,
            Self::Throttled { reason, .. }
            | Self::Transient { reason, .. }
            | Self::Dropped { reason }
            | Self::Refused { reason }
            | Self::Untrusted { reason } => Some(reason),
        }
    }

    /// Classifies a response. `now` is needed for a `Retry-After` that is a date; `key` is masked in reasons, in case a
    /// proxy repeats it.
    #[must_use]
    pub fn of_response(response: &EventsApiResponse<'_>, key: &ServiceKey, now: DateTime<Utc>) -> Self {
        let retry_after = response.retry_after.and_then(|value| parse_retry_after(value, now));
        let reason = || describe(response, key);
        match response.status {
            200..=299 => Self::Delivered { note: unusual_success(response, key) },
            403 | 429 => Self::Throttled { reason: reason(), retry_after },
            408 | 500..=599 => Self::Transient { reason: reason(), cause: FailureCause::ServerError, retry_after },
            // 400 is PagerDuty's documented response to an invalid event, with the bare text `Invalid routing key` for an
            // unknown key; 413 and 422 are about the body, so sending it again cannot help.
            400 | 413 | 422 => Self::Refused { reason: reason() },
            400..=499 if ResponseBody::parse(response.body).is_some_and(|body| body.is_refusal()) => {
                Self::Refused { reason: reason() }
            }
            400..=499 => Self::Transient {
                reason: describe_middlebox(response, key),
                cause: FailureCause::NetworkError,
                retry_after,
            },
            300..=399 => Self::Transient {
                reason: format!(
                    "answered {} with a redirect to {}, which is never followed: point BRIDGE_PAGERDUTY_URL at PagerDuty itself",
                    response.status,
                    one_line(response.location.unwrap_or("nowhere"), key),
                ),
                cause: FailureCause::NetworkError,
                retry_after,
            },
            _ => Self::Transient { reason: reason(), cause: FailureCause::NetworkError, retry_after },
        }
    }
}

/// Parses a `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3); anything else is ignored.
pub(crate) fn parse_retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for `u64` also asks for a long wait.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(SystemTime::from(now)).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn describe(response: &EventsApiResponse<'_>, key: &ServiceKey) -> String {
    let text = text_of(response, key);
    if text.is_empty() {
        format!("answered {} with an empty body", response.status)
    } else {
        format!("answered {}: {text}", response.status)
    }
}

/// Describes the response of a proxy, a firewall or a gateway, which says nothing about the event.
fn describe_middlebox(response: &EventsApiResponse<'_>, key: &ServiceKey) -> String {
    let text = text_of(response, key);
    let text = if text.is_empty() { "empty body".to_owned() } else { text };
    format!(
        "answered {}, a status that PagerDuty does not send for events: something between the bridge and PagerDuty \
         probably sent it, or BRIDGE_PAGERDUTY_URL is wrong ({text})",
        response.status
    )
}

/// The body as one line: PagerDuty's message and errors, or the whole text if it is not PagerDuty's JSON.
fn text_of(response: &EventsApiResponse<'_>, key: &ServiceKey) -> String {
    let text = match ResponseBody::parse(response.body) {
        Some(body) => {
            let message = body.message.or(body.status).unwrap_or_default();
            match body.errors.as_ref().map(join_errors).filter(|errors| !errors.is_empty()) {
                Some(errors) => format!("{message}: {errors}"),
                None => message,
            }
        }
        None => String::from_utf8_lossy(response.body).into_owned(),
    };
    one_line(&text, key)
}

fn join_errors(errors: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match errors {
        serde_json::Value::Null => String::new(),
        serde_json::Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join("; "),
        other => text(other),
    }
}

/// Returns the warning for a body that does not say `success`. Any 2xx is a success whatever the body says, as it is for
/// PagerDuty's own agent.
fn unusual_success(response: &EventsApiResponse<'_>, key: &ServiceKey) -> Option<String> {
    let status = ResponseBody::parse(response.body).and_then(|body| body.status);
    (status.as_deref() != Some("success")).then(|| describe(response, key))
}

fn one_line(text: &str, key: &ServiceKey) -> String {
    let masked = text.replace(key.expose(), &key.to_string());
    let line = masked
        .split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if line.chars().count() <= MAX_REASON {
        return line;
    }
    line.chars().take(MAX_REASON - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ServiceKey {
        ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap()
    }

    fn now() -> DateTime<Utc> {
        "2026-11-22T03:00:00Z".parse().unwrap()
    }

    fn of(status: u16, body: &str) -> Outcome {
        Outcome::of_response(
            &EventsApiResponse { status, retry_after: None, location: None, body: body.as_bytes() },
            &key(),
            now(),
        )
    }

    fn waits(header: &str) -> Option<Duration> {
        let response = EventsApiResponse { status: 429, retry_after: Some(header), location: None, body: b"" };
        match Outcome::of_response(&response, &key(), now()) {
            Outcome::Throttled { retry_after, .. } => retry_after,
            other => panic!("429 is throttling, not {other:?}"),
        }
    }

    #[test]
    fn success_is_any_2xx_but_an_odd_body_is_told() {
        assert_eq!(
            of(200, r#"{"status":"success","message":"Event processed","incident_key":"42"}"#),
            Outcome::Delivered { note: None }
        );
        for (status, body) in [(204, ""), (202, "<html>"), (200, r#"{"status":"invalid event"}"#)] {
            assert!(matches!(of(status, body), Outcome::Delivered { note: Some(_) }), "{status} {body}");
        }
    }

    #[test]
    fn both_403_and_429_are_throttling() {
        let body = r#"{"status":"throttle exceeded","message":"Requests for this service are arriving too quickly.  Please retry later."}"#;
        for status in [403, 429] {
            assert!(matches!(of(status, body), Outcome::Throttled { retry_after: None, .. }), "{status}");
        }
    }

    #[test]
    fn a_refusal_of_pagerduty_is_final_and_keeps_the_reason() {
        assert_eq!(
            of(
                400,
                r#"{"errors":["Service key is the wrong length (should be 32 characters)"],"message":"Event object is invalid","status":"invalid event"}"#
            ),
            Outcome::Refused {
                reason:
                    "answered 400: Event object is invalid: Service key is the wrong length (should be 32 characters)"
                        .to_owned()
            }
        );
        assert_eq!(
            of(400, "Invalid routing key"),
            Outcome::Refused { reason: "answered 400: Invalid routing key".to_owned() }
        );
        for status in [400, 413, 422] {
            for body in ["", "<html>"] {
                assert!(matches!(of(status, body), Outcome::Refused { .. }), "{status} {body}");
            }
        }
        let envelope = r#"{"status":"invalid event","message":"Event object is invalid","errors":["no"]}"#;
        for status in [401, 404, 405, 415, 499] {
            assert!(matches!(of(status, envelope), Outcome::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn a_4xx_that_is_not_in_pagerdutys_envelope_is_a_network_error_and_is_named() {
        let bodies = [
            "",
            "<html><h1>404 Not Found</h1></html>",
            r#"{"message":"no Route matched with those values"}"#,
            r#"{"status":"error","message":"Unauthorized"}"#,
            r#"{"status":401,"message":"Unauthorized","errors":["no"]}"#,
            r#"{"status":"error","message":"Unauthorized","errors":[]}"#,
            r#"["status","message","errors"]"#,
        ];
        for status in [401, 402, 404, 405, 407, 409, 410, 415, 421, 425, 431, 451, 499] {
            for body in bodies {
                let Outcome::Transient { reason, cause: FailureCause::NetworkError, .. } = of(status, body) else {
                    panic!("{status} {body} is final")
                };
                let named = format!(
                    "answered {status}, a status that PagerDuty does not send for events: something between the bridge and \
                     PagerDuty probably sent it, or BRIDGE_PAGERDUTY_URL is wrong ("
                );
                assert!(reason.starts_with(&named) && !reason.ends_with("()"), "{reason}");
            }
        }
    }

    #[test]
    fn a_transient_failure_is_one_of_pagerduty_or_of_the_network() {
        for status in [408, 500, 502, 503, 504, 599] {
            assert!(matches!(of(status, ""), Outcome::Transient { cause: FailureCause::ServerError, .. }), "{status}");
        }
        for status in [301, 302, 307, 308, 600, 700] {
            assert!(matches!(of(status, ""), Outcome::Transient { cause: FailureCause::NetworkError, .. }), "{status}");
        }
    }

    #[test]
    fn an_answer_is_of_the_kind_that_it_means() {
        let kinds = [(200, "delivered"), (403, "throttled"), (400, "refused"), (408, "error"), (503, "error")];
        for (status, kind) in kinds.into_iter().chain([(302, "unreachable"), (600, "unreachable")]) {
            assert_eq!(of(status, "").kind().name(), kind, "{status}");
        }
    }

    #[test]
    fn retry_after_is_heeded_in_both_forms_and_capped() {
        assert_eq!(waits("7"), Some(Duration::from_secs(7)));
        assert_eq!(waits("Sun, 22 Nov 2026 03:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(waits("Sunday, 22-Nov-26 03:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(waits("Sun Nov 22 03:00:30 2026"), Some(Duration::from_secs(30)));
        assert_eq!(waits("Sun, 22 Nov 2026 02:00:00 GMT"), Some(Duration::ZERO));
        for far in ["864000", "18446744073709551615", "99999999999999999999999", "Thu, 31 Dec 2099 23:59:59 GMT"] {
            assert_eq!(waits(far), Some(Duration::from_mins(1)), "{far}");
        }
        assert_eq!(waits("soon"), None);
        assert_eq!(waits("-1"), None);
    }

    #[test]
    fn a_reason_is_one_bounded_line_without_the_key() {
        let body = format!("bad\r\n\tkey {} {}", key().expose(), "x".repeat(10_000));
        let Outcome::Refused { reason } = of(400, &body) else { panic!("400 is final") };
        assert!(reason.starts_with("answered 400: bad key …WXYZ xxx"), "{reason}");
        assert!(reason.chars().count() < 600);
        assert!(!reason.contains(key().expose()));
    }

    #[test]
    fn every_kind_has_a_name_of_its_own_that_fits_a_label() {
        let mut names: Vec<_> = OutcomeKind::ALL.iter().map(|kind| kind.name()).collect();
        assert!(names.iter().all(|name| name.chars().all(|letter| letter.is_ascii_lowercase())), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OutcomeKind::ALL.len());
    }
}
