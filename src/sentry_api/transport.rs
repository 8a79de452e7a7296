//! HTTP calls to Sentry's API: each within a time limit, with the token in a header and nowhere else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, LINK, LOCATION, RETRY_AFTER, USER_AGENT};
use awc::http::{Method, StatusCode};
use awc::{ClientResponse, Connector};
use chrono::Utc;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use super::error::ApiError;
use crate::config::ApiToken;
use crate::tls::{self, TlsError};

/// The maximum size of a response, in bytes. A page of 100 rules of a real organization has 300 KB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// The maximum number of pages that are read of one list: 20,000 rows.
const MAX_PAGES: usize = 200;

/// The maximum number of attempts, for a call that Sentry throttles and for a failed call that is safe to repeat.
const ATTEMPTS: u32 = 4;

/// The longest wait that is accepted from Sentry; the windows of its rate limits are a minute at most.
const MAX_WAIT: Duration = Duration::from_secs(65);

/// The pause before a failed call is repeated, doubled each time.
const PAUSE: Duration = Duration::from_millis(500);

/// One request to Sentry's API.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: Method,
    /// The path segments below `/api/`. A `/` within a segment is percent-encoded.
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    /// The smallest scope that allows it, for error messages.
    scope: &'static str,
}

impl Call {
    pub(super) fn get<S: AsRef<str>>(path: &[S], scope: &'static str) -> Self {
        Self::new(Method::GET, path, scope)
    }

    pub(super) fn post<S: AsRef<str>>(path: &[S], scope: &'static str, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path, scope) }
    }

    pub(super) fn put<S: AsRef<str>>(path: &[S], scope: &'static str, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, path, scope) }
    }

    pub(super) fn delete<S: AsRef<str>>(path: &[S], scope: &'static str) -> Self {
        Self::new(Method::DELETE, path, scope)
    }

    /// A GET of a path directly below `/api/`, beside `/api/0/`.
    pub(super) fn get_beside(path: &str) -> Self {
        Self { method: Method::GET, path: vec![path.to_owned()], query: Vec::new(), body: None, scope: "org:read" }
    }

    fn new<S: AsRef<str>>(method: Method, path: &[S], scope: &'static str) -> Self {
        let path = path.iter().map(|segment| segment.as_ref().to_owned());
        Self { method, path: ["0".to_owned()].into_iter().chain(path).collect(), query: Vec::new(), body: None, scope }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Method and path, for error messages.
    fn shown(&self) -> String {
        format!("{} /api/{}/", self.method, self.path.join("/"))
    }
}

/// A successful response.
struct Answer {
    body: Vec<u8>,
    /// The cursor of the next page, if there is one.
    next: Option<String>,
}

/// The connection to one Sentry.
pub(super) struct Transport {
    http: awc::Client,
    root: Url,
    /// The current token, which may be replaced while the bridge runs.
    token: watch::Receiver<ApiToken>,
    timeout: Duration,
}

impl Transport {
    pub(super) fn new(
        root: &Url,
        token: ApiToken,
        timeout: Duration,
        ca_file: Option<&Path>,
    ) -> Result<Self, TlsError> {
        let tls = tls::client_config("BRIDGE_SENTRY_CA_FILE", ca_file)?;
        let connector = Connector::new().rustls_0_23(Arc::new(tls)).timeout(timeout / 2).handshake_timeout(timeout / 2);
        let http = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .timeout(timeout)
            .add_default_header((USER_AGENT, concat!("sentry-pagerduty-bridge/", env!("CARGO_PKG_VERSION"))))
            .finish();
        Ok(Self { http, root: root.clone(), token: watch::channel(token).1, timeout })
    }

    /// Makes the transport use the newest of these tokens for each call.
    pub(super) fn with_tokens(self, token: watch::Receiver<ApiToken>) -> Self {
        Self { token, ..self }
    }

    /// Makes a call and parses its response as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ApiError> {
        parse(call, &self.answer(call, None).await?.body)
    }

    /// Makes a call and ignores the body of its response.
    pub(super) async fn done(&self, call: &Call) -> Result<(), ApiError> {
        self.answer(call, None).await.map(drop)
    }

    /// Reads a list, page by page.
    pub(super) async fn list<T: DeserializeOwned>(&self, call: &Call) -> Result<Vec<T>, ApiError> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let answer = self.answer(call, cursor.as_deref()).await?;
            rows.append(&mut parse::<Vec<T>>(call, &answer.body)?);
            match answer.next {
                None => return Ok(rows),
                next if next == cursor => {
                    return Err(shape(call, "its next page is the same page again".to_owned()));
                }
                next => cursor = next,
            }
        }
        Err(shape(call, format!("it has more than {MAX_PAGES} pages")))
    }

    async fn answer(&self, call: &Call, cursor: Option<&str>) -> Result<Answer, ApiError> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(call, cursor).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let wait = match &error {
                // Sentry does not execute a call that it throttles, so it is safe to repeat it.
                ApiError::Throttled { wait, .. } if *wait <= MAX_WAIT => *wait,
                ApiError::Unreachable { .. } | ApiError::Status { status: 500.., .. } if call.method == Method::GET => {
                    PAUSE * 2_u32.pow(attempt - 1)
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

    async fn attempt(&self, call: &Call, cursor: Option<&str>) -> Result<Answer, ApiError> {
        let deadline = Instant::now() + self.timeout;
        let token = self.token.borrow().clone();
        let request = self
            .http
            .request(call.method.clone(), self.address(call, cursor)?)
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
                return Err(self.late(call));
            }
            Ok(Err(error)) => return Err(unreachable(call, error.to_string())),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = timeout_at(deadline, read(response)).await.map_err(|_| self.late(call))?;
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
        Ok(Answer { body, next: links.find_map(next_cursor) })
    }

    fn address(&self, call: &Call, cursor: Option<&str>) -> Result<String, ApiError> {
        let mut url = self.root.clone();
        // The root has a host, so it has path segments.
        let mut segments = url.path_segments_mut().map_err(|()| shape(call, "the address has no path".to_owned()))?;
        segments.pop_if_empty().push("api").extend(&call.path).push("");
        drop(segments);
        // Only the cursor is taken from the next page's address, so that the token goes only to the configured Sentry.
        let query = call.query.iter().map(|(name, value)| (*name, value.as_str()));
        let query: Vec<_> = query.chain(cursor.map(|cursor| ("cursor", cursor))).collect();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url.into())
    }

    fn late(&self, call: &Call) -> ApiError {
        ApiError::Timeout { call: call.shown(), timeout: self.timeout }
    }
}

fn refusal(call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8], token: &ApiToken) -> ApiError {
    let (shown, status) = (call.shown(), status.as_u16());
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match status {
        300..=399 => ApiError::Redirect { call: shown, to: header(LOCATION.as_str()).map_or_else(nowhere, place) },
        401 => ApiError::Unauthorized { call: shown },
        403 => ApiError::Forbidden { call: shown, scope: call.scope },
        404 | 410 => ApiError::Gone { call: shown, status },
        429 => {
            let reset = header("X-Sentry-Rate-Limit-Reset");
            let wait = wait(header(RETRY_AFTER.as_str()), reset, Utc::now().timestamp());
            ApiError::Throttled { call: shown, wait }
        }
        _ => ApiError::Status { call: shown, status, reason: reason(body, token.expose()) },
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

fn parse<T: DeserializeOwned>(call: &Call, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        // serde quotes unexpected values, and one of them may be a secret.
        let what = if error.is_data() { "it does not have the documented format" } else { "it is not JSON" };
        shape(call, format!("{what} (line {}, column {})", error.line(), error.column()))
    })
}

fn shape(call: &Call, why: String) -> ApiError {
    ApiError::Shape { call: call.shown(), why }
}

fn unreachable(call: &Call, why: String) -> ApiError {
    ApiError::Unreachable { call: call.shown(), why }
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
    const MAX: usize = 300;
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(object)) => match object.get("detail").and_then(Value::as_str) {
            Some(detail) => detail.to_owned(),
            None => Value::Object(object).to_string(),
        },
        Ok(other) => other.to_string(),
        Err(_) => "the response is not JSON; a proxy may have sent it".to_owned(),
    };
    let text = text.replace(token, "…");
    let printable = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    printable.take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

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
        let token = ApiToken::parse("token-of-the-api-for-tests").unwrap();
        let timeout = Duration::from_millis(200);
        let transport = Transport::new(&root, token, timeout, None).unwrap();
        let error = transport.json::<Value>(&Call::get(&["organizations", "acme"], "org:read")).await.unwrap_err();
        let call = "GET /api/0/organizations/acme/".to_owned();
        assert_eq!(error, ApiError::Timeout { call, timeout });
    }

    #[test]
    fn an_address_is_made_of_segments_that_cannot_leave_the_api() {
        let token = ApiToken::parse("token-of-the-api-for-tests").unwrap();
        let root = Url::parse("https://example.com/sentry/").unwrap();
        let transport = Transport::new(&root, token, TIMEOUT, None).unwrap();
        let call = Call::get(&["projects", "acme", "a/b?c", ".."], "org:read").query("per_page", "100");
        assert_eq!(
            transport.address(&call, Some("0:100:0")).unwrap(),
            "https://example.com/sentry/api/0/projects/acme/a%2Fb%3Fc/?per_page=100&cursor=0%3A100%3A0"
        );
    }
}
