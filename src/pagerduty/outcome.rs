//! What an answer of PagerDuty, or the lack of one, means for the event.
//!
//! Sources: PagerDuty's page "Events API v1: Overview" (responses and retry logic), and the answers its users captured.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::ServiceKey;
use super::kind::OutcomeKind;

/// The longest wait a `Retry-After` can ask for. PagerDuty counts over 60 seconds, so a longer wait helps nobody, and a
/// mistaken header must not keep a service key's alerts and alarms from being tried: one of them is sent each minute.
pub const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// How much of an answer is kept as a reason, in characters.
const MAX_REASON: usize = 500;

/// How one attempt ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// PagerDuty took the event.
    Delivered {
        /// What was odd about the answer, such as a body that does not say `success`.
        oddity: Option<String>,
    },
    /// PagerDuty asks to slow down (403 in v1, 429 in v2); nothing was taken, and nothing is wrong with the event.
    Throttled {
        /// The answer in words.
        reason: String,
        /// The wait it asked for, at most [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// The event may or may not have been taken: send it again.
    Trouble {
        /// What happened, in words.
        reason: String,
        /// What caused it.
        cause: Cause,
        /// The wait it asked for, at most [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// The connection ended before the first byte of an answer, as one does that was idle for too long and is closed
    /// in the moment in which it is used again. The event may or may not have been taken: send it again.
    Dropped {
        /// What happened, in words.
        reason: String,
    },
    /// PagerDuty will never take this event. Only an answer that PagerDuty itself can have given says so.
    Refused {
        /// PagerDuty's own reason.
        reason: String,
    },
    /// The other side could not prove that it is PagerDuty, so nothing was sent.
    Untrusted {
        /// What TLS found wrong.
        reason: String,
    },
}

/// What caused an [`Outcome::Trouble`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// PagerDuty answered 5xx or 408.
    Answer,
    /// No answer came in time.
    Timeout,
    /// The way: no connection, one that broke within the answer, a redirect, an answer that is none or that PagerDuty does
    /// not give.
    Way,
}

impl Cause {
    /// What it speaks against.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Answer | Self::Timeout => Blame::Event,
            Self::Way => Blame::Way,
        }
    }
}

/// What a [`Cause`] speaks against.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The way to PagerDuty: refused connections, lost names, redirects.
    Way,
    /// Possibly the event itself: PagerDuty once answered 500 to invalid events for an hour (2021-04-23).
    Event,
}

/// An answer as it came over the wire.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The header `Retry-After`, as it stands.
    pub retry_after: Option<&'a str>,
    /// The header `Location`, as it stands.
    pub location: Option<&'a str>,
    /// The beginning of the body.
    pub body: &'a [u8],
}

/// The members of PagerDuty's JSON answers; everything is optional because proxies answer too.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    status: Option<String>,
    message: Option<String>,
    errors: Option<serde_json::Value>,
}

impl Envelope {
    /// Whether this is how PagerDuty refuses an event: all three members, as in every captured refusal. A gateway's error
    /// such as `{"status":"error","message":"…"}` has no list of errors.
    fn refuses(&self) -> bool {
        let errors = self.errors.as_ref().and_then(serde_json::Value::as_array);
        self.status.is_some() && self.message.is_some() && errors.is_some_and(|errors| !errors.is_empty())
    }
}

impl Outcome {
    /// How the attempt ended, in a word.
    #[must_use]
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Delivered { .. } => OutcomeKind::Delivered,
            Self::Throttled { .. } => OutcomeKind::Throttled,
            Self::Refused { .. } => OutcomeKind::Refused,
            Self::Trouble { cause: Cause::Answer, .. } => OutcomeKind::Error,
            Self::Trouble { cause: Cause::Timeout, .. } => OutcomeKind::Timeout,
            Self::Trouble { cause: Cause::Way, .. } => OutcomeKind::Unreachable,
            Self::Dropped { .. } => OutcomeKind::Dropped,
            Self::Untrusted { .. } => OutcomeKind::Untrusted,
        }
    }

    /// How the attempt failed, in words; `None` when PagerDuty took the event.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Delivered { .. } => None,
            Self::Throttled { reason, .. }
            | Self::Trouble { reason, .. }
            | Self::Dropped { reason }
            | Self::Refused { reason }
            | Self::Untrusted { reason } => Some(reason),
        }
    }

    /// Reads an answer. `now` is needed for a `Retry-After` that is a date; `key` is masked in reasons, should a
    /// proxy have repeated it.
    #[must_use]
    pub fn of_answer(answer: &Answer<'_>, key: &ServiceKey, now: DateTime<Utc>) -> Self {
        let retry_after = answer.retry_after.and_then(|value| parse_retry_after(value, now));
        let in_words = || in_words(answer, key);
        match answer.status {
            200..=299 => Self::Delivered { oddity: oddity(answer, key) },
            403 | 429 => Self::Throttled { reason: in_words(), retry_after },
            408 | 500..=599 => Self::Trouble { reason: in_words(), cause: Cause::Answer, retry_after },
            // 400 is PagerDuty's documented refusal, with the bare text `Invalid routing key` for an unknown one; 413 and 422
            // speak about the body, so that sending it again cannot help.
            400 | 413 | 422 => Self::Refused { reason: in_words() },
            400..=499 if is_refusal(answer.body) => Self::Refused { reason: in_words() },
            400..=499 => Self::Trouble { reason: of_middlebox(answer, key), cause: Cause::Way, retry_after },
            300..=399 => Self::Trouble {
                reason: format!(
                    "answered {} with a redirect to {}, which is never followed: point BRIDGE_PAGERDUTY_URL at PagerDuty itself",
                    answer.status,
                    one_line(answer.location.unwrap_or("nowhere"), key),
                ),
                cause: Cause::Way,
                retry_after,
            },
            _ => Self::Trouble { reason: in_words(), cause: Cause::Way, retry_after },
        }
    }
}

fn is_refusal(body: &[u8]) -> bool {
    serde_json::from_slice::<Envelope>(body).is_ok_and(|envelope| envelope.refuses())
}

/// The answer of a proxy, a firewall or a gateway: it says nothing about the event.
fn of_middlebox(answer: &Answer<'_>, key: &ServiceKey) -> String {
    let said = said(answer, key);
    let said = if said.is_empty() { "without a word".to_owned() } else { said };
    format!(
        "answered {}, which PagerDuty does not answer to an event: something between the bridge and PagerDuty probably \
         did, or BRIDGE_PAGERDUTY_URL is wrong ({said})",
        answer.status
    )
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3); anything else is as if it were not there.
fn parse_retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // What is no number for being too great is a long wait all the same.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = DateTime::parse_from_rfc2822(value).ok()?;
        date.signed_duration_since(now).to_std().unwrap_or(Duration::ZERO)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn in_words(answer: &Answer<'_>, key: &ServiceKey) -> String {
    let said = said(answer, key);
    if said.is_empty() {
        format!("answered {} without a word", answer.status)
    } else {
        format!("answered {}: {said}", answer.status)
    }
}

fn said(answer: &Answer<'_>, key: &ServiceKey) -> String {
    let said = match serde_json::from_slice::<Envelope>(answer.body) {
        Ok(envelope) => {
            let message = envelope.message.or(envelope.status).unwrap_or_default();
            match envelope.errors.as_ref().map(errors_in_words).filter(|errors| !errors.is_empty()) {
                Some(errors) => format!("{message}: {errors}"),
                None => message,
            }
        }
        Err(_) => String::from_utf8_lossy(answer.body).into_owned(),
    };
    one_line(&said, key)
}

fn errors_in_words(errors: &serde_json::Value) -> String {
    let word = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match errors {
        serde_json::Value::Null => String::new(),
        serde_json::Value::Array(list) => list.iter().map(word).collect::<Vec<_>>().join("; "),
        other => word(other),
    }
}

/// 2xx is success whatever the body says, as for PagerDuty's own agent; but what it says is worth a warning.
fn oddity(answer: &Answer<'_>, key: &ServiceKey) -> Option<String> {
    let status = serde_json::from_slice::<Envelope>(answer.body).ok().and_then(|envelope| envelope.status);
    (status.as_deref() != Some("success")).then(|| in_words(answer, key))
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
        Outcome::of_answer(&Answer { status, retry_after: None, location: None, body: body.as_bytes() }, &key(), now())
    }

    fn waits(header: &str) -> Option<Duration> {
        let answer = Answer { status: 429, retry_after: Some(header), location: None, body: b"" };
        match Outcome::of_answer(&answer, &key(), now()) {
            Outcome::Throttled { retry_after, .. } => retry_after,
            other => panic!("429 is throttling, not {other:?}"),
        }
    }

    #[test]
    fn success_is_any_2xx_but_an_odd_body_is_told() {
        assert_eq!(
            of(200, r#"{"status":"success","message":"Event processed","incident_key":"42"}"#),
            Outcome::Delivered { oddity: None }
        );
        for (status, body) in [(204, ""), (202, "<html>"), (200, r#"{"status":"invalid event"}"#)] {
            assert!(matches!(of(status, body), Outcome::Delivered { oddity: Some(_) }), "{status} {body}");
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
    fn a_4xx_that_is_not_in_pagerdutys_envelope_is_trouble_on_the_way_and_is_named() {
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
                let Outcome::Trouble { reason, cause: Cause::Way, .. } = of(status, body) else {
                    panic!("{status} {body} is final")
                };
                let named = format!(
                    "answered {status}, which PagerDuty does not answer to an event: something between the bridge and \
                     PagerDuty probably did, or BRIDGE_PAGERDUTY_URL is wrong ("
                );
                assert!(reason.starts_with(&named) && !reason.ends_with("()"), "{reason}");
            }
        }
    }

    #[test]
    fn trouble_is_sent_again() {
        for status in [408, 500, 502, 503, 504, 599] {
            assert!(matches!(of(status, ""), Outcome::Trouble { cause: Cause::Answer, .. }), "{status}");
        }
        for status in [301, 302, 307, 308, 600, 700] {
            assert!(matches!(of(status, ""), Outcome::Trouble { cause: Cause::Way, .. }), "{status}");
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
}
