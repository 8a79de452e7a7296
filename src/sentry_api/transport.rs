//! The HTTP client of Sentry's API: each call within a time limit, with the token in a header and nowhere else.

use std::path::Path;
use std::time::Duration;

use awc::ClientResponse;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, LINK, LOCATION, RETRY_AFTER};
use awc::http::{Method, StatusCode};
use chrono::Utc;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use super::error::SentryApiError;
use crate::backoff::Backoff;
use crate::config::ApiToken;
use crate::http_client::{ApiCall, awc_client, printable_reason};
use crate::tls::{self, TlsError};

/// The maximum size of a response, in bytes. A page of 100 rules of a real organization has 300 KB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// The maximum number of pages that are read of one list: 20,000 rows.
const MAX_PAGES: usize = 200;

/// The maximum number of attempts, for a call that Sentry throttles and for a failed call that is safe to repeat.
const ATTEMPTS: u32 = 4;

/// The longest wait that is accepted from Sentry; the windows of its rate limits are a minute at most.
const MAX_WAIT: Duration = Duration::from_secs(65);

/// The pause before a failed call is repeated.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), ceiling: MAX_WAIT };

/// The timeout of one call, from connecting to the last byte. Sentry itself ends requests after 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(35);

/// One organization of one Sentry, over HTTP.
pub struct SentryClient {
    http: awc::Client,
    root: Url,
    pub(super) organization: String,
    /// The current token, which may be replaced while the bridge runs.
    token: watch::Receiver<ApiToken>,
    timeout: Duration,
}

impl SentryClient {
    /// Makes a client for the organization with this slug at the Sentry at `root`. It trusts the usual certificate
    /// authorities and those of the PEM file `ca_file`.
    ///
    /// # Errors
    ///
    /// When that file cannot be used.
    pub fn new(root: &Url, organization: &str, token: ApiToken, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let tls = tls::client_config("BRIDGE_SENTRY_CA_FILE", ca_file)?;
        let (http, token) = (awc_client(tls, TIMEOUT), watch::channel(token).1);
        Ok(Self { http, root: root.clone(), organization: organization.to_owned(), token, timeout: TIMEOUT })
    }

    /// Makes the client use the newest of these tokens for each call.
    #[must_use]
    pub fn with_tokens(self, token: watch::Receiver<ApiToken>) -> Self {
        Self { token, ..self }
    }

    /// Makes a call and parses its response as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: &ApiCall) -> Result<T, SentryApiError> {
        parse(call, &self.answer(call, None).await?.0)
    }

    /// Makes a call and ignores the body of its response.
    pub(super) async fn done(&self, call: &ApiCall) -> Result<(), SentryApiError> {
        self.answer(call, None).await.map(drop)
    }

    /// Reads a list, page by page.
    pub(super) async fn pages<T: DeserializeOwned>(&self, call: &ApiCall) -> Result<Vec<T>, SentryApiError> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let (body, next) = self.answer(call, cursor.as_deref()).await?;
            rows.append(&mut parse::<Vec<T>>(call, &body)?);
            match next {
                None => return Ok(rows),
                next if next == cursor => {
                    return Err(shape(call, "its next page is the same page again".to_owned()));
                }
                next => cursor = next,
            }
        }
        Err(shape(call, format!("it has more than {MAX_PAGES} pages")))
    }

    /// Makes a call, again where that is safe and may help. Returns the body and the cursor of the next page, if there is one.
    async fn answer(&self, call: &ApiCall, cursor: Option<&str>) -> Result<(Vec<u8>, Option<String>), SentryApiError> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(call, cursor).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let wait = match &error {
                // Sentry does not execute a call that it throttles, so it is safe to repeat it.
                SentryApiError::Throttled { wait, .. } if *wait <= MAX_WAIT => *wait,
                SentryApiError::Unreachable { .. } | SentryApiError::Status { status: 500.., .. }
                    if call.method == Method::GET =>
                {
                    RETRY.pause(attempt)
                }
                _ => return Err(error),
            };
            if attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
            sleep(wait).await;
        }
    }

    async fn attempt(&self, call: &ApiCall, cursor: Option<&str>) -> Result<(Vec<u8>, Option<String>), SentryApiError> {
        let deadline = Instant::now() + self.timeout;
        let token = self.token.borrow().clone();
        let request = self
            .http
            .request(call.method.clone(), self.address(call, cursor))
            // One connection per call: Sentry's web server closes idle connections without notice (9.1 at once), and a
            // change that was sent over a closing connection must not be repeated.
            .force_close()
            .insert_header((AUTHORIZATION, format!("Bearer {}", token.expose())));
        let sending = match &call.body {
            Some(body) => request.send_json(body),
            None => request.send(),
        };
        let response = match timeout_at(deadline, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(SendRequestError::Timeout | SendRequestError::Connect(ConnectError::Timeout))) | Err(_) => {
                return Err(self.timed_out(call));
            }
            Ok(Err(error)) => return Err(unreachable(call, error.to_string())),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = timeout_at(deadline, read(response)).await.map_err(|_| self.timed_out(call))?;
        let body = body.map_err(|why| unreachable(call, why))?;
        // awc treats a connection that closes in the middle of a body as the end of the body.
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| body.len() < length) {
            return Err(unreachable(call, "the response was cut off".to_owned()));
        }
        if !status.is_success() {
            return Err(refusal(call, status, &headers, &body, &token));
        }
        let mut links = headers.get_all(LINK).filter_map(|link| link.to_str().ok());
        Ok((body, links.find_map(next_cursor)))
    }

    fn address(&self, call: &ApiCall, cursor: Option<&str>) -> String {
        let mut url = call.url(&self.root);
        // Only the cursor is taken from the next page's address, so that the token goes only to the configured Sentry.
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        url.into()
    }

    fn timed_out(&self, call: &ApiCall) -> SentryApiError {
        SentryApiError::Timeout { call: call.shown(), timeout: self.timeout }
    }
}

fn refusal(call: &ApiCall, status: StatusCode, headers: &HeaderMap, body: &[u8], token: &ApiToken) -> SentryApiError {
    let (shown, status) = (call.shown(), status.as_u16());
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match status {
        300..=399 => {
            SentryApiError::Redirect { call: shown, to: header(LOCATION.as_str()).map_or_else(nowhere, place) }
        }
        401 => SentryApiError::Unauthorized { call: shown },
        403 => SentryApiError::Forbidden { call: shown, scope: call.needs },
        404 | 410 => SentryApiError::Gone { call: shown, status },
        429 => {
            let reset = header("X-Sentry-Rate-Limit-Reset");
            let wait = wait(header(RETRY_AFTER.as_str()), reset, Utc::now().timestamp());
            SentryApiError::Throttled { call: shown, wait }
        }
        _ => SentryApiError::Status { call: shown, status, reason: reason(body, token.expose()) },
    }
}

async fn read<S>(mut response: ClientResponse<S>) -> Result<Vec<u8>, String>
where
    S: Stream<Item = Result<actix_web::web::Bytes, PayloadError>> + Unpin,
{
    let mut body = Vec::new();
    while let Some(chunk) = response.next().await {
        body.extend_from_slice(&chunk.map_err(|error| format!("the response was cut off: {error}"))?);
        if body.len() > MAX_ANSWER {
            return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
        }
    }
    Ok(body)
}

fn parse<T: DeserializeOwned>(call: &ApiCall, body: &[u8]) -> Result<T, SentryApiError> {
    serde_json::from_slice(body).map_err(|error| {
        // serde quotes unexpected values, and one of them may be a secret.
        let what = if error.is_data() { "it does not have the documented format" } else { "it is not JSON" };
        shape(call, format!("{what} (line {}, column {})", error.line(), error.column()))
    })
}

fn shape(call: &ApiCall, why: String) -> SentryApiError {
    SentryApiError::Shape { call: call.shown(), why }
}

fn unreachable(call: &ApiCall, why: String) -> SentryApiError {
    SentryApiError::Unreachable { call: call.shown(), why }
}

fn nowhere() -> String {
    "nowhere".to_owned()
}

/// Scheme and host of an address, which are enough to identify the server; the rest may contain a secret.
fn place(address: &str) -> String {
    match Url::parse(address) {
        Ok(url) if url.host().is_some() => url.origin().ascii_serialization(),
        _ => "another path".to_owned(),
    }
}

/// Returns the cursor of the next page from a `Link` header, if that page has results: Sentry always names a next page.
fn next_cursor(link: &str) -> Option<String> {
    let of_link = |link: &str| {
        let member = |name: &str| {
            let mut members = link.split(';').skip(1).map(str::trim);
            members.find_map(|part| Some(part.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"')?.to_owned()))
        };
        let is_next = member("rel").as_deref() == Some("next") && member("results").as_deref() == Some("true");
        member("cursor").filter(|_| is_next)
    };
    link.split(", <").find_map(of_link)
}

/// How long a throttled call has to wait: `Retry-After` in seconds, else until the window's reset, else a second.
fn wait(retry_after: Option<&str>, reset: Option<&str>, now: i64) -> Duration {
    let seconds = retry_after.and_then(|text| text.trim().parse().ok()).or_else(|| {
        let reset: i64 = reset?.trim().parse().ok()?;
        u64::try_from(reset.saturating_sub(now)).ok()
    });
    Duration::from_secs(seconds.unwrap_or(1))
}

/// Returns Sentry's explanation of an error response, on one line, truncated and without the token.
fn reason(body: &[u8], token: &str) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(object)) => match object.get("detail").and_then(Value::as_str) {
            Some(detail) => detail.to_owned(),
            None => Value::Object(object).to_string(),
        },
        Ok(other) => other.to_string(),
        Err(_) => "the response is not JSON; a proxy may have sent it".to_owned(),
    };
    printable_reason(&text, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_followed_only_where_it_has_results() {
        let link = |results: &str| {
            format!(
                "<http://s/api/0/x/?per_page=1&cursor=0:0:1>; rel=\"previous\"; results=\"true\"; cursor=\"0:0:1\", \
                 <http://s/api/0/x/?cursor=0:100:0>; rel=\"next\"; results=\"{results}\"; cursor=\"0:100:0\""
            )
        };
        assert_eq!(next_cursor(&link("true")).as_deref(), Some("0:100:0"));
        assert_eq!(next_cursor(&link("false")), None);
        assert_eq!(next_cursor(""), None);
        assert_eq!(next_cursor("<x>; rel=\"next\"; results=\"true\""), None);
    }

    #[test]
    fn a_throttled_call_waits_as_sentry_says() {
        assert_eq!(wait(Some("7"), Some("100"), 90), Duration::from_secs(7));
        assert_eq!(wait(None, Some("100"), 90), Duration::from_secs(10));
        assert_eq!(wait(None, Some("80"), 90), Duration::from_secs(1));
        assert_eq!(wait(Some("soon"), None, 90), Duration::from_secs(1));
    }

    #[test]
    fn what_sentry_says_is_printed_on_one_line_and_without_the_token() {
        let said = |body: &str| reason(body.as_bytes(), "the-token-of-the-api");
        assert_eq!(said(r#"{"detail":"no\n\u001bthe-token-of-the-api"}"#), "no  …");
        assert_eq!(said(r#"{"name":["Too long."]}"#), r#"{"name":["Too long."]}"#);
        assert_eq!(said("<html>"), "the response is not JSON; a proxy may have sent it");
        assert_eq!(said(&format!(r#"{{"detail":"{}"}}"#, "x".repeat(1000))).len(), 300);
    }

    #[test]
    fn a_redirect_is_told_by_its_host_alone() {
        assert_eq!(place("https://elsewhere.example/login?next=SECRET"), "https://elsewhere.example");
        assert_eq!(place("/auth/login/"), "another path");
    }

    #[actix_web::test]
    async fn an_answer_that_does_not_come_is_waited_for_so_long_and_asked_for_once() {
        // The operating system accepts connections, and no response is ever sent.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let root = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let token = ApiToken::parse_sentry("token-of-the-api-for-tests").unwrap();
        let timeout = Duration::from_millis(200);
        let client = SentryClient { timeout, ..SentryClient::new(&root, "acme", token, None).unwrap() };
        let call = ApiCall::new(Method::GET, ["api", "0", "organizations", "acme", ""], "org:read");
        let error = client.json::<Value>(&call).await.unwrap_err();
        let call = "GET /api/0/organizations/acme/".to_owned();
        assert_eq!(error, SentryApiError::Timeout { call, timeout });
    }

    #[test]
    fn an_address_is_made_of_segments_that_cannot_leave_the_api() {
        let token = ApiToken::parse_sentry("token-of-the-api-for-tests").unwrap();
        let root = Url::parse("https://example.com/sentry/").unwrap();
        let client = SentryClient::new(&root, "acme", token, None).unwrap();
        let path = ["api", "0", "projects", "acme", "a/b?c", "..", ""];
        let call = ApiCall::new(Method::GET, path, "org:read").query("per_page", "100");
        assert_eq!(
            client.address(&call, Some("0:100:0")),
            "https://example.com/sentry/api/0/projects/acme/a%2Fb%3Fc/?per_page=100&cursor=0%3A100%3A0"
        );
    }
}
