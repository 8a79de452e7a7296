//! Sends an event to the store endpoint of a DSN.
//!
//! Sources: `web/api.py` of Sentry 9.1.2, and `endpoints/store.rs` of Relay, which serves the endpoint since Sentry 20.6.
//! Relay answers 200 before its filters and quotas apply, so only the webhook proves that Sentry has accepted an event.

use std::path::Path;
use std::time::Duration;

use awc::http::header::{HeaderMap, RETRY_AFTER};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Dsn;
use crate::http_client::{PROGRAM, awc_client};
use crate::ingest::{CanaryId, CanaryMark, canary};
use crate::printable;
use crate::tls::{TlsError, client_config};

/// The time limit for sending a canary, from connecting to the last byte of the response.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The header that identifies the sender; Sentry 9.1.2 requires `sentry_client` in it.
const AUTH: &str = "X-Sentry-Auth";

/// The most that is read of a response, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The most characters of Sentry's reason that are shown.
const MAX_REASON: usize = 200;

/// Why Sentry did not accept a canary, as a sentence in which "it" is Sentry. It never contains the key.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CanarySendError {
    /// No connection, or one that broke.
    #[error("it cannot be reached ({0})")]
    Unreachable(String),
    /// No response in time. Sentry may have accepted the canary nevertheless.
    #[error("it did not answer within {TIMEOUT:?}")]
    Timeout,
    /// 429.
    #[error("it throttles this project or key (429{}): look at its quota, and at the rate limit of the key", said(.reason))]
    Throttled {
        /// The reason that Sentry gives.
        reason: String,
        /// How long Sentry asks to wait, if it does.
        wait: Option<Duration>,
    },
    /// 400, 401, 403, 404 or any other status code for which a retry does not help.
    #[error("it refuses the canary ({status}{}): check BRIDGE_CANARY_DSN, and whether the key is enabled", said(.reason))]
    Refused {
        /// The status.
        status: u16,
        /// The reason that Sentry gives.
        reason: String,
    },
    /// 5xx.
    #[error("it failed ({status}{})", said(.reason))]
    Failed {
        /// The status.
        status: u16,
        /// The reason that Sentry gives.
        reason: String,
    },
    /// A redirect, which is not followed.
    #[error(
        "it answers with a redirect ({0}), which is not followed: the DSN has to name the address that it redirects to"
    )]
    Redirect(u16),
}

fn said(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(", {reason}") }
}

/// A client for one project.
pub(super) struct CanaryClient {
    http: awc::Client,
    /// The current DSN, which may be replaced while the bridge runs.
    dsn: watch::Receiver<Dsn>,
}

impl CanaryClient {
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub(super) fn new(dsn: watch::Receiver<Dsn>, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let tls = client_config("BRIDGE_SENTRY_CA_FILE", ca_file)?;
        Ok(Self { http: awc_client(tls, TIMEOUT), dsn })
    }

    /// Sends one canary.
    pub(super) async fn send(&self, id: CanaryId, at: DateTime<Utc>, mark: &CanaryMark) -> Result<(), CanarySendError> {
        let dsn = self.dsn.borrow().clone();
        let sent = timeout(TIMEOUT, self.try_send(&dsn, &event(id, at, mark, &dsn))).await;
        sent.unwrap_or(Err(CanarySendError::Timeout))
    }

    async fn try_send(&self, dsn: &Dsn, event: &Value) -> Result<(), CanarySendError> {
        use awc::error::{ConnectError, SendRequestError};
        let key = dsn.public_key();
        let request = self
            .http
            .post(dsn.store().as_str())
            // Canaries are minutes apart, and 9.1 closes idle connections without notice.
            .force_close()
            .insert_header((AUTH, format!("Sentry sentry_version=7, sentry_client={PROGRAM}, sentry_key={key}")));
        let mut response = match request.send_json(event).await {
            Ok(response) => response,
            Err(SendRequestError::Timeout | SendRequestError::Connect(ConnectError::Timeout)) => {
                return Err(CanarySendError::Timeout);
            }
            Err(error) => return Err(CanarySendError::Unreachable(error.to_string())),
        };
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let body = response.body().limit(MAX_ANSWER).await.unwrap_or_default();
        Err(refusal(status, response.headers(), &body, key))
    }
}

fn refusal(status: u16, headers: &HeaderMap, body: &[u8], key: &str) -> CanarySendError {
    let reason = reason(headers, body, key);
    match status {
        300..=399 => CanarySendError::Redirect(status),
        429 => {
            let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            CanarySendError::Throttled { reason, wait: seconds.map(Duration::from_secs) }
        }
        500.. => CanarySendError::Failed { status, reason },
        _ => CanarySendError::Refused { status, reason },
    }
}

/// Sentry's reason, on one line: the header `X-Sentry-Error` of 9.1, else `detail` or `error` of the body.
fn reason(headers: &HeaderMap, body: &[u8], key: &str) -> String {
    let of_header = headers.get("X-Sentry-Error").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let of_body = || {
        let answer: Value = serde_json::from_slice(body).ok()?;
        ["detail", "error"].into_iter().find_map(|name| answer[name].as_str().map(str::to_owned))
    };
    let reason = of_header.or_else(of_body).unwrap_or_default().replace(key, "…");
    printable::line(&reason.chars().take(MAX_REASON).collect::<String>()).to_string()
}

/// The canary's event. Its fingerprint groups all canaries of a DSN into one issue; Sentry's alert matches its tag.
fn event(id: CanaryId, at: DateTime<Utc>, mark: &CanaryMark, dsn: &Dsn) -> Value {
    let tag = canary::tag_value(dsn);
    json!({
        "event_id": id.to_string(),
        "timestamp": at.to_rfc3339_opts(SecondsFormat::Secs, true),
        "platform": "other",
        "level": "info",
        "logger": "bridge-canary",
        "message": mark.title(),
        "fingerprint": ["bridge-canary", tag],
        "tags": {canary::TAG: tag},
    })
}

#[cfg(test)]
mod tests {
    use awc::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_sentry_says_is_told_on_one_line_and_without_the_key() {
        let said = |headers: &HeaderMap, body: &str| refusal(403, headers, body.as_bytes(), "0123abcd").to_string();
        let none = headers(&[]);
        assert_eq!(
            said(&none, r#"{"detail":"event rejected\nfor 0123abcd","causes":[]}"#),
            r"it refuses the canary (403, event rejected\nfor …): check BRIDGE_CANARY_DSN, and whether the key is enabled"
        );
        assert!(said(&headers(&[("x-sentry-error", "Invalid api key")]), "").contains("(403, Invalid api key)"));
        assert!(said(&none, "<html>").contains("(403): check"));
        assert!(said(&none, &format!(r#"{{"error":"{}"}}"#, "x".repeat(1000))).len() < 400);
    }

    #[test]
    fn a_throttled_canary_is_sent_again_when_sentry_says() {
        let throttled = refusal(429, &headers(&[("retry-after", "90")]), b"{}", "0123abcd");
        assert_eq!(
            throttled,
            CanarySendError::Throttled { reason: String::new(), wait: Some(Duration::from_secs(90)) }
        );
        assert!(matches!(refusal(503, &headers(&[]), b"", "k"), CanarySendError::Failed { status: 503, .. }));
        assert_eq!(refusal(302, &headers(&[]), b"", "k"), CanarySendError::Redirect(302));
    }
}
