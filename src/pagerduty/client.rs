//! One attempt to send an event to PagerDuty.

use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use url::Url;

use super::outcome::{EventsApiResponse, FailureCause, Outcome};
use super::{ApiVersion, Destination, events_api};
use crate::http_client::{HttpClient, RequestError};
use crate::tls::{self, TlsError};

/// Sends events to one PagerDuty. Cheap to clone; bound to its thread, as every `awc` client is.
#[derive(Clone)]
pub struct EventsClient {
    http: HttpClient,
    root: Url,
}

impl EventsClient {
    /// Makes a client for the PagerDuty at `root`, such as `https://events.pagerduty.com`; the path of an Events API is
    /// added to it. One attempt takes `timeout` at most, from connecting to the last byte of the response. It trusts the
    /// usual certificate authorities and those of the PEM file `ca_file`, and never follows a redirect.
    pub fn new(root: &Url, timeout: Duration, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        // A file that cannot be used is an error even if `root` needs no TLS.
        let tls = tls::client_config("BRIDGE_PAGERDUTY_CA_FILE", ca_file)?;
        let http = HttpClient::new(Some(tls).filter(|_| root.scheme() == "https"), timeout);
        Ok(Self { http, root: root.clone() })
    }

    /// The longest time one attempt takes.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.http.timeout()
    }

    /// Sends `body` once and returns how that ended, within the timeout from connecting to the last byte.
    ///
    /// The key of the destination is masked in the outcome's texts.
    pub async fn send(&self, destination: &Destination, body: Vec<u8>) -> Outcome {
        match self.http.post_json(&self.endpoint(destination.api), body).await {
            Ok(response) => {
                let response = EventsApiResponse {
                    status: response.status,
                    retry_after: response.retry_after.as_deref(),
                    location: response.location.as_deref(),
                    body: &response.body,
                };
                events_api(destination.api).classify(&response, &destination.service_key, Utc::now())
            }
            Err(error) => classify(error),
        }
    }

    /// Sends a GET, which changes nothing at PagerDuty, and describes the response. The error describes why there is none,
    /// or why the other side is not trusted.
    pub async fn reach(&self, api: ApiVersion) -> Result<String, String> {
        let endpoint = self.endpoint(api);
        match self.http.get(&endpoint).await {
            Ok(response) => Ok(format!("{endpoint} answers, with status {}", response.status)),
            Err(error) => Err(format!("{endpoint}: {}", error.reason())),
        }
    }

    fn endpoint(&self, api: ApiVersion) -> Url {
        let mut endpoint = self.root.clone();
        endpoint.set_path(&format!("{}{}", self.root.path().trim_end_matches('/'), events_api(api).path()));
        endpoint
    }
}

/// Classifies a request that got no response.
fn classify(error: RequestError) -> Outcome {
    match error {
        RequestError::Timeout(reason) => Outcome::Transient { reason, cause: FailureCause::Timeout, retry_after: None },
        RequestError::Dropped(reason) => Outcome::Dropped { reason },
        RequestError::Untrusted(reason) => Outcome::Untrusted { reason },
        RequestError::Network(reason) => {
            Outcome::Transient { reason, cause: FailureCause::NetworkError, retry_after: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::OutcomeKind;
    use super::*;

    #[test]
    fn a_missing_answer_is_an_outcome_of_its_own_kind() {
        let kind = |error: fn(String) -> RequestError| classify(error("why".to_owned())).kind();
        assert_eq!(kind(RequestError::Timeout), OutcomeKind::Timeout);
        assert_eq!(kind(RequestError::Dropped), OutcomeKind::Dropped);
        assert_eq!(kind(RequestError::Untrusted), OutcomeKind::Untrusted);
        assert_eq!(kind(RequestError::Network), OutcomeKind::NetworkError);
    }

    #[test]
    fn the_path_of_the_events_api_is_added_to_the_root() {
        for (root, expected) in [
            ("https://events.pagerduty.com", "https://events.pagerduty.com/generic/2010-04-15/create_event.json"),
            ("http://127.0.0.1:8090/", "http://127.0.0.1:8090/generic/2010-04-15/create_event.json"),
        ] {
            let client = EventsClient::new(&root.parse().unwrap(), Duration::from_secs(1), None).unwrap();
            assert_eq!(client.endpoint(ApiVersion::V1).as_str(), expected);
        }
    }
}
