//! HTTP requests to other services, with `awc` over rustls: each has a time limit, redirects are not followed, and only the
//! beginning of a response is read.
//!
//! - `connect`: connections, plain or with TLS, without interim responses

mod connect;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::error::ParseError;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::Method;
use awc::http::header::{CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER, USER_AGENT};
use awc::{ClientResponse, Connector};
use futures_util::{Stream, StreamExt};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::Url;

use connect::Connect;

/// How much of a response is read unless the caller asks for more, in bytes: enough for every error message, and bounded.
const MAX_ANSWER: usize = 16 * 1024;

/// How long an idle connection is kept. PagerDuty closes idle ones earlier than most clients expect
/// (alertmanager#2352), and an event sent into a closing connection costs an attempt.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The most characters of a service's own words that an error shows.
const MAX_REASON: usize = 300;

/// The header `User-Agent` of every request.
pub(crate) const PROGRAM: &str = concat!("sentry-pagerduty-bridge/", env!("CARGO_PKG_VERSION"));

/// Makes a plain `awc` client for calls to Sentry, which take `timeout` at most and follow no redirects. Whoever uses it
/// reads the response.
pub(crate) fn awc_client(tls: ClientConfig, timeout: Duration) -> awc::Client {
    let connector = Connector::new().rustls_0_23(Arc::new(tls)).timeout(timeout / 2).handshake_timeout(timeout / 2);
    awc::Client::builder()
        .connector(connector)
        .disable_redirects()
        .timeout(timeout)
        .add_default_header((USER_AGENT, PROGRAM))
        .finish()
}

/// One request: what is asked for, without the server and the token.
#[derive(Clone, Debug)]
pub(crate) struct ApiCall {
    pub(crate) method: Method,
    /// The segments of the path below the root. A `/` within a segment is percent-encoded.
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    /// What the token needs for it, for error messages.
    pub(crate) needs: &'static str,
}

impl ApiCall {
    pub(crate) fn new<'a>(method: Method, path: impl IntoIterator<Item = &'a str>, needs: &'static str) -> Self {
        Self { method, path: path.into_iter().map(str::to_owned).collect(), query: Vec::new(), body: None, needs }
    }

    #[must_use]
    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    #[must_use]
    pub(crate) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Method and path, for error messages.
    pub(crate) fn shown(&self) -> String {
        format!("{} /{}", self.method, self.path.join("/"))
    }

    /// The address at the service with this root.
    pub(crate) fn url(&self, root: &Url) -> Url {
        let mut url = root.clone();
        // A root has a host, so it has path segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(self.query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        url
    }
}

/// Makes the words with which a service explains an error printable: one line, truncated, and without the token.
pub(crate) fn printable_reason(text: &str, token: &str) -> String {
    let text = text.replace(token, "…");
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(MAX_REASON).collect()
}

/// A client for one service. Cheap to clone; bound to its thread, as every `awc` client is.
#[derive(Clone)]
pub(crate) struct HttpClient {
    http: awc::Client,
    timeout: Duration,
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The header `Retry-After`, unparsed.
    pub(crate) retry_after: Option<String>,
    /// The header `Location`, unparsed.
    pub(crate) location: Option<String>,
    /// The header `ratelimit-reset`, unparsed.
    pub(crate) rate_limit_reset: Option<String>,
    /// The beginning of the body; less of it if the connection broke or the time limit passed.
    pub(crate) body: Vec<u8>,
}

/// Why there is no response. The texts never contain the path of the address, which may be a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RequestError {
    /// No response came in time.
    Timeout(String),
    /// The connection ended before the first byte of a response, for example an idle connection that was closed just as it
    /// was used again. The request may or may not have arrived.
    Dropped(String),
    /// The certificate of the other side is not trusted, or TLS failed in another way. Nothing was sent.
    Untrusted(String),
    /// No connection, or one that broke.
    Network(String),
}

impl RequestError {
    /// What happened.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Timeout(reason) | Self::Dropped(reason) | Self::Untrusted(reason) | Self::Network(reason) => reason,
        }
    }
}

impl HttpClient {
    /// Makes a client whose requests take `timeout` at most, from connecting to the last byte of the response. With `tls`
    /// all its connections use TLS, without it none does.
    pub(crate) fn new(tls: Option<ClientConfig>, timeout: Duration) -> Self {
        let connector = Connector::new()
            .connector(Connect::new(tls.map(Arc::new)))
            .timeout(timeout / 2)
            // No limit of its own (awc's default is 100): the caller decides how many requests are in flight, and one that
            // waited here for a connection would spend its timeout before it is sent.
            .limit(0)
            .conn_keep_alive(KEEP_ALIVE);
        let http = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .timeout(timeout)
            .add_default_header((USER_AGENT, PROGRAM))
            .finish();
        Self { http, timeout }
    }

    /// The longest time one request takes.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes a call of the API at `root` and reads up to `max_answer` bytes of the response.
    pub(crate) async fn call(
        &self,
        call: &ApiCall,
        root: &Url,
        headers: &[(HeaderName, String)],
        max_answer: usize,
    ) -> Result<Response, RequestError> {
        let deadline = Instant::now() + self.timeout;
        let mut request = self.http.request(call.method.clone(), target(&call.url(root)));
        for (name, value) in headers {
            request = request.insert_header((name.clone(), value.as_str()));
        }
        let sending = match &call.body {
            Some(body) => request.insert_header((CONTENT_TYPE, "application/json")).send_body(body.to_string()),
            None => request.send(),
        };
        self.answer(sending, deadline, max_answer).await
    }

    /// Posts JSON.
    pub(crate) async fn post_json(&self, url: &Url, body: Vec<u8>) -> Result<Response, RequestError> {
        let deadline = Instant::now() + self.timeout;
        let request = self.http.post(target(url)).insert_header((CONTENT_TYPE, "application/json")).send_body(body);
        self.answer(request, deadline, MAX_ANSWER).await
    }

    /// Sends a GET.
    pub(crate) async fn get(&self, url: &Url) -> Result<Response, RequestError> {
        let deadline = Instant::now() + self.timeout;
        self.answer(self.http.get(target(url)).send(), deadline, MAX_ANSWER).await
    }

    async fn answer<S>(
        &self,
        request: impl Future<Output = Result<ClientResponse<S>, SendRequestError>>,
        deadline: Instant,
        max_answer: usize,
    ) -> Result<Response, RequestError>
    where
        S: Stream<Item = Result<actix_web::web::Bytes, PayloadError>> + Unpin,
    {
        match timeout_at(deadline, request).await {
            Ok(Ok(response)) => Ok(read(response, deadline, max_answer).await),
            Ok(Err(error)) => Err(request_error(&error, self.timeout)),
            Err(_) => Err(timed_out(self.timeout)),
        }
    }
}

/// The address with the scheme `http`, because [`Connect`] and not `awc` sets up TLS. The `Host` header stays the same:
/// `awc` leaves out port 443.
fn target(url: &Url) -> String {
    let address = url.as_str();
    let Some(rest) = address.strip_prefix("https://") else { return address.to_owned() };
    match (url.port(), rest.split_once('/')) {
        (None, Some((host, path))) => format!("http://{host}:443/{path}"),
        _ => format!("http://{rest}"),
    }
}

async fn read<S>(mut response: ClientResponse<S>, deadline: Instant, max_answer: usize) -> Response
where
    S: Stream<Item = Result<actix_web::web::Bytes, PayloadError>> + Unpin,
{
    let mut body = Vec::new();
    // Only the status code matters: a body that breaks off or is slow changes nothing.
    let reading = async {
        while let Some(Ok(chunk)) = response.next().await {
            body.extend_from_slice(&chunk[..chunk.len().min(max_answer - body.len())]);
            if body.len() == max_answer {
                break;
            }
        }
    };
    let _ = timeout_at(deadline, reading).await;
    let header =
        |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Response {
        status: response.status().as_u16(),
        retry_after: header(RETRY_AFTER),
        location: header(LOCATION),
        rate_limit_reset: header(HeaderName::from_static("ratelimit-reset")),
        body,
    }
}

fn request_error(error: &SendRequestError, timeout: Duration) -> RequestError {
    if let SendRequestError::Connect(ConnectError::Io(error)) = error
        && let Some(tls) = tls_error(error)
    {
        return RequestError::Untrusted(format!("TLS: {tls}"));
    }
    match error {
        SendRequestError::Timeout => timed_out(timeout),
        // Only after the request was sent: awc returns this when the stream ends where a response should begin.
        SendRequestError::Connect(ConnectError::Disconnected) => dropped(None),
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) if is_closing(error) => {
            dropped(Some(error))
        }
        SendRequestError::Connect(ConnectError::Timeout) => {
            RequestError::Network(format!("no connection within {:?}", timeout / 2))
        }
        SendRequestError::Connect(error) => RequestError::Network(format!("no connection: {error}")),
        SendRequestError::Send(error) => RequestError::Network(format!("the connection broke: {error}")),
        other => RequestError::Network(format!("no answer: {other}")),
    }
}

/// The rustls error inside `error`, if there is one: it is about trust, while all other errors are about the network.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref()
}

/// Whether the other side closed the connection. A response that is cut short is another kind of error.
fn is_closing(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof, WriteZero};
    let closing = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof, WriteZero];
    closing.contains(&error.kind())
}

fn dropped(error: Option<&io::Error>) -> RequestError {
    let reason = "the connection ended before an answer".to_owned();
    RequestError::Dropped(error.map_or(reason.clone(), |error| format!("{reason}: {error}")))
}

fn timed_out(timeout: Duration) -> RequestError {
    RequestError::Timeout(format!("no answer within {timeout:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awc_is_given_the_same_host_and_port_without_the_tls() {
        for (address, expected) in [
            ("https://events.pagerduty.com/x", "http://events.pagerduty.com:443/x"),
            ("https://127.0.0.1:8443/base/x", "http://127.0.0.1:8443/base/x"),
            ("https://[::1]/x?y=z", "http://[::1]:443/x?y=z"),
            ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
        ] {
            assert_eq!(target(&address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn a_connection_that_ends_before_an_answer_is_no_network_error() {
        let error = |error: &SendRequestError| request_error(error, Duration::from_secs(10));
        let is_dropped = |request: &SendRequestError| matches!(error(request), RequestError::Dropped(_));
        let is_network = |request: &SendRequestError| matches!(error(request), RequestError::Network(_));
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        assert!(is_dropped(&ConnectError::Disconnected.into()));
        assert!(is_dropped(&SendRequestError::Send(io(io::ErrorKind::BrokenPipe))));
        let reset = ParseError::Io(io(io::ErrorKind::ConnectionReset));
        assert!(is_dropped(&SendRequestError::Response(reset)));

        let cut_short = ParseError::Io(io::Error::other("bytes remaining on stream"));
        assert!(is_network(&SendRequestError::Response(cut_short)));
        assert!(is_network(&SendRequestError::Response(ParseError::Header)));
        assert!(is_network(&ConnectError::Io(io(io::ErrorKind::ConnectionRefused)).into()));
        assert!(is_network(&ConnectError::Io(io(io::ErrorKind::ConnectionReset)).into()));
        assert!(is_network(&ConnectError::Timeout.into()));
        assert_eq!(error(&SendRequestError::Timeout), timed_out(Duration::from_secs(10)));
    }
}
