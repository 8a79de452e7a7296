//! One attempt to send an event to PagerDuty, with `awc` over rustls.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::error::ParseError;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, USER_AGENT};
use awc::{ClientResponse, Connector};
use chrono::Utc;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::connect::Connect;
use super::outcome::{Answer, Cause, Outcome};
use super::{ApiVersion, Destination, events_api};
use crate::tls::{self, TlsError};

/// How much of an answer is read, in bytes: enough for every reason, and bounded.
const MAX_ANSWER: usize = 16 * 1024;

/// How long an idle connection is kept. PagerDuty closes idle ones earlier than most clients expect
/// (alertmanager#2352), and an event sent into a closing connection costs an attempt.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Sends events to one PagerDuty. Cheap to clone; bound to its thread, as every `awc` client is.
#[derive(Clone)]
pub struct Client {
    http: awc::Client,
    root: Url,
    timeout: Duration,
}

impl Client {
    /// Makes a client for the PagerDuty at `root`, such as `https://events.pagerduty.com`; the path of an Events API is
    /// added to it. One attempt takes `timeout` at most, from connecting to the last byte of the answer. It trusts the
    /// usual certificate authorities and those of the PEM file `ca_file`, and never follows a redirect.
    pub fn new(root: &Url, timeout: Duration, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        // A file that cannot be used is reported whether it is needed or not.
        let tls = tls::client_config("BRIDGE_PAGERDUTY_CA_FILE", ca_file)?;
        let tls = Some(Arc::new(tls)).filter(|_| root.scheme() == "https");
        let connector = Connector::new()
            .connector(Connect::new(tls))
            .timeout(timeout / 2)
            // No limit of its own (awc's default is 100): the scheduler decides how many attempts are in flight, and an
            // attempt that waited here for a connection would spend its timeout before it is sent.
            .limit(0)
            .conn_keep_alive(KEEP_ALIVE);
        let http = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .timeout(timeout)
            .add_default_header((USER_AGENT, concat!("sentry-pagerduty-bridge/", env!("CARGO_PKG_VERSION"))))
            .finish();
        Ok(Self { http, root: root.clone(), timeout })
    }

    /// The longest time one attempt takes.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends `body` once and returns how that ended, within the timeout from connecting to the last byte.
    ///
    /// The key of the destination is masked in the outcome's texts.
    pub async fn send(&self, destination: &Destination, body: Vec<u8>) -> Outcome {
        let deadline = Instant::now() + self.timeout;
        let target = target(&self.root, &self.endpoint(destination.api));
        let request = self.http.post(target).insert_header((CONTENT_TYPE, "application/json")).send_body(body);
        match timeout_at(deadline, request).await {
            Ok(Ok(response)) => read_answer(response, destination, deadline).await,
            Ok(Err(error)) => classify_send_error(&error, self.timeout),
            Err(_) => timed_out(self.timeout),
        }
    }

    /// Sends a GET, which changes nothing at PagerDuty, and describes the answer. The error describes why there is none, or
    /// why the other side is not trusted.
    pub async fn reach(&self, api: ApiVersion) -> Result<String, String> {
        let endpoint = self.endpoint(api);
        match timeout(self.timeout, self.http.get(target(&self.root, &endpoint)).send()).await {
            Ok(Ok(response)) => Ok(format!("{endpoint} answers, with status {}", response.status().as_u16())),
            Ok(Err(error)) => {
                let outcome = classify_send_error(&error, self.timeout);
                Err(format!("{endpoint}: {}", outcome.failure().unwrap_or_default()))
            }
            Err(_) => Err(format!("{endpoint}: no answer within {:?}", self.timeout)),
        }
    }

    fn endpoint(&self, api: ApiVersion) -> String {
        format!("{}{}", self.root.as_str().trim_end_matches('/'), events_api(api).path())
    }
}

/// The address with `http`, because [`Connect`] makes the TLS and not `awc`. The `Host` header is the same: `awc` leaves out
/// the port 443.
fn target(url: &Url, endpoint: &str) -> String {
    let Some(rest) = endpoint.strip_prefix("https://") else { return endpoint.to_owned() };
    match (url.port(), rest.split_once('/')) {
        (None, Some((host, path))) => format!("http://{host}:443/{path}"),
        _ => format!("http://{rest}"),
    }
}

async fn read_answer<S>(mut response: ClientResponse<S>, destination: &Destination, deadline: Instant) -> Outcome
where
    S: Stream<Item = Result<actix_web::web::Bytes, PayloadError>> + Unpin,
{
    let mut body = Vec::new();
    // The status alone decides about the event: a body that breaks off or is slow changes nothing.
    let reading = async {
        while let Some(Ok(chunk)) = response.next().await {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())]);
            if body.len() == MAX_ANSWER {
                break;
            }
        }
    };
    let _ = timeout_at(deadline, reading).await;
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let answer = Answer {
        status: response.status().as_u16(),
        retry_after: header(RETRY_AFTER),
        location: header(LOCATION),
        body: &body,
    };
    events_api(destination.api).classify(&answer, &destination.key, Utc::now())
}

fn classify_send_error(error: &SendRequestError, timeout: Duration) -> Outcome {
    if let SendRequestError::Connect(ConnectError::Io(error)) = error
        && let Some(tls) = tls_error(error)
    {
        return Outcome::Untrusted { reason: format!("TLS: {tls}") };
    }
    match error {
        SendRequestError::Timeout => timed_out(timeout),
        // Only after the request was sent: awc returns this when the stream ends where an answer should begin.
        SendRequestError::Connect(ConnectError::Disconnected) => dropped(None),
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) if is_closing(error) => {
            dropped(Some(error))
        }
        SendRequestError::Connect(ConnectError::Timeout) => network(format!("no connection within {:?}", timeout / 2)),
        SendRequestError::Connect(error) => network(format!("no connection: {error}")),
        SendRequestError::Send(error) => network(format!("the connection broke: {error}")),
        other => network(format!("no answer: {other}")),
    }
}

/// The rustls error inside, if there is one: it is about trust, while all others are about the network.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref()
}

/// Whether the other side closed the connection. An answer that is cut short is another kind of error.
fn is_closing(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof, WriteZero};
    let closing = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof, WriteZero];
    closing.contains(&error.kind())
}

fn dropped(error: Option<&io::Error>) -> Outcome {
    let reason = "the connection ended before an answer".to_owned();
    Outcome::Dropped { reason: error.map_or(reason.clone(), |error| format!("{reason}: {error}")) }
}

fn timed_out(timeout: Duration) -> Outcome {
    Outcome::Transient { reason: format!("no answer within {timeout:?}"), cause: Cause::Timeout, retry_after: None }
}

fn network(reason: String) -> Outcome {
    Outcome::Transient { reason, cause: Cause::Network, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::super::OutcomeKind;
    use super::*;

    fn kind(error: &SendRequestError) -> OutcomeKind {
        classify_send_error(error, Duration::from_secs(10)).kind()
    }

    #[test]
    fn awc_is_given_the_same_host_and_port_without_the_tls() {
        for (root, expected) in [
            ("https://events.pagerduty.com", "http://events.pagerduty.com:443/x"),
            ("https://127.0.0.1:8443/base", "http://127.0.0.1:8443/base/x"),
            ("https://[::1]", "http://[::1]:443/x"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/x"),
        ] {
            let url: Url = root.parse().unwrap();
            let endpoint = format!("{}/x", url.as_str().trim_end_matches('/'));
            assert_eq!(target(&url, &endpoint), expected);
        }
    }

    #[test]
    fn a_connection_that_ends_before_an_answer_is_no_network_error() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        assert_eq!(kind(&ConnectError::Disconnected.into()), OutcomeKind::Dropped);
        assert_eq!(kind(&SendRequestError::Send(io(io::ErrorKind::BrokenPipe))), OutcomeKind::Dropped);
        let reset = ParseError::Io(io(io::ErrorKind::ConnectionReset));
        assert_eq!(kind(&SendRequestError::Response(reset)), OutcomeKind::Dropped);

        let cut_short = ParseError::Io(io::Error::other("bytes remaining on stream"));
        assert_eq!(kind(&SendRequestError::Response(cut_short)), OutcomeKind::Unreachable);
        assert_eq!(kind(&SendRequestError::Response(ParseError::Header)), OutcomeKind::Unreachable);
        let refused = ConnectError::Io(io(io::ErrorKind::ConnectionRefused));
        assert_eq!(kind(&refused.into()), OutcomeKind::Unreachable);
        let reset_while_connecting = ConnectError::Io(io(io::ErrorKind::ConnectionReset));
        assert_eq!(kind(&reset_while_connecting.into()), OutcomeKind::Unreachable);
        assert_eq!(kind(&ConnectError::Timeout.into()), OutcomeKind::Unreachable);
        assert_eq!(kind(&SendRequestError::Timeout), OutcomeKind::Timeout);
    }
}
