//! One attempt to send a message to the fallback webhook.

use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;

use super::message::Message;
use super::outage::FallbackError;
use crate::config::FallbackUrl;
use crate::http_client::{HttpClient, RequestError, Response};
use crate::pagerduty::outcome::parse_retry_after;
use crate::tls::{self, TlsError};

/// The timeout of one request, from connecting to the last byte of the response.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The fallback webhook. Bound to its thread, because its HTTP client is.
#[derive(Clone)]
pub struct FallbackWebhook {
    plain: HttpClient,
    tls: HttpClient,
    /// The current address, which may be replaced while the bridge runs.
    url: watch::Receiver<FallbackUrl>,
}

impl FallbackWebhook {
    /// Creates a webhook at `url`. Trusts the usual certificate authorities and those of the PEM file `ca_file`.
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub fn new(url: FallbackUrl, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        Self::with_timeout(url, ca_file, TIMEOUT)
    }

    fn with_timeout(url: FallbackUrl, ca_file: Option<&Path>, timeout: Duration) -> Result<Self, TlsError> {
        let tls = tls::client_config("BRIDGE_FALLBACK_CA_FILE", ca_file)?;
        let (plain, tls) = (HttpClient::new(None, timeout), HttpClient::new(Some(tls), timeout));
        Ok(Self { plain, tls, url: watch::channel(url).1 })
    }

    /// Uses the newest value of `url` as the address of each request.
    #[must_use]
    pub fn with_urls(self, url: watch::Receiver<FallbackUrl>) -> Self {
        Self { url, ..self }
    }

    /// The host of its address.
    #[must_use]
    pub fn host(&self) -> String {
        self.url.borrow().to_string()
    }

    /// Sends a message. If the server answers 400, sends the text alone, because some tools reject the other fields.
    ///
    /// # Errors
    ///
    /// When there is no response, or one that is not a success. Redirects are not followed.
    pub async fn send(&self, message: &Message) -> Result<(), FallbackError> {
        let mut answer = self.post(message.json()).await?;
        if answer.status == 400 {
            answer = self.post(message.text_json()).await?;
        }
        classify(&answer)
    }

    async fn post(&self, body: Vec<u8>) -> Result<Response, FallbackError> {
        let url = self.url.borrow().clone();
        let http = if url.expose().scheme() == "https" { &self.tls } else { &self.plain };
        http.post_json(url.expose(), body).await.map_err(|error| FallbackError {
            reason: error.reason().to_owned(),
            retry_after: None,
            may_have_arrived: matches!(error, RequestError::Timeout(_) | RequestError::Dropped(_)),
        })
    }
}

fn classify(answer: &Response) -> Result<(), FallbackError> {
    let status = answer.status;
    let advice = match status {
        200..=299 => return Ok(()),
        300..=399 => ", a redirect, which is not followed: set BRIDGE_FALLBACK_URL to the address that it leads to",
        400 => ": it does not accept JSON with a field `text`; the documentation lists the webhooks that do",
        401 | 403 | 404 | 405 | 410 => ": check BRIDGE_FALLBACK_URL, for the webhook may have been removed",
        429 => ": too many requests",
        _ => "",
    };
    Err(FallbackError {
        reason: format!("answered {status}{advice}"),
        retry_after: answer.retry_after.as_deref().and_then(|wait| parse_retry_after(wait, Utc::now())),
        may_have_arrived: status >= 500,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answered(status: u16, retry_after: Option<&str>) -> Result<(), FallbackError> {
        let retry_after = retry_after.map(str::to_owned);
        let body = b"Not found: /services/hunter2".to_vec();
        classify(&Response {
            status,
            retry_after,
            location: Some("https://login.example.com/".to_owned()),
            rate_limit_reset: None,
            body,
        })
    }

    #[test]
    fn any_success_will_do_and_nothing_that_the_server_said_is_repeated() {
        for status in [200, 202, 204] {
            assert_eq!(answered(status, None), Ok(()));
        }
        for status in [100, 302, 307, 400, 403, 404, 408, 410, 429, 500, 503] {
            let error = answered(status, None).unwrap_err();
            assert!(error.reason.starts_with(&format!("answered {status}")), "{error}");
            assert!(!error.reason.contains("hunter2") && !error.reason.contains("login"), "{error}");
            assert_eq!(error.may_have_arrived, status >= 500);
        }
        assert_eq!(answered(429, Some("30")).unwrap_err().retry_after, Some(Duration::from_secs(30)));
    }

    #[actix_web::test]
    async fn a_webhook_that_does_not_answer_ends_an_attempt_after_its_time() {
        // The system accepts the connection and the request, but no response ever comes.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hooks/hunter2", listener.local_addr().unwrap());
        let webhook =
            FallbackWebhook::with_timeout(FallbackUrl::parse(&url).unwrap(), None, Duration::from_millis(200)).unwrap();
        let error = webhook.send(&Message::test(Utc::now())).await.unwrap_err();
        assert_eq!(error.reason, "no answer within 200ms");
        assert!(error.may_have_arrived);
    }
}
