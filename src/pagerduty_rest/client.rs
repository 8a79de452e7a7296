//! The HTTP client of PagerDuty's REST API: paths, parameters and the meaning of each status.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use awc::http::Method;
use awc::http::header::{ACCEPT, AUTHORIZATION};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use url::Url;

use super::PagerDutyApiError;
use super::types::{
    IncidentAlert, Integration, MaintenanceWindow, PagerDutyIncident, PagerDutyService, integration_type,
};
use crate::config::ApiToken;
use crate::http_client::{ApiCall, HttpClient, RequestError, Response, printable_reason};
use crate::pagerduty::{ApiVersion, IncidentKey};
use crate::tls::{self, TlsError};

/// The time limit of one call, from connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The most that is read of one response, in bytes. A page of 100 services with their integrations may take a megabyte.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// PagerDuty's own limits for a page and for a whole list, in rows.
const PAGE: usize = 100;
const MOST: usize = 10_000;

/// A client for the account that a token belongs to.
pub struct PagerDutyRestClient {
    http: HttpClient,
    root: Url,
    /// The current token, which may be replaced while the bridge runs.
    token: watch::Receiver<ApiToken>,
}

/// What the token of a call needs for reading, and for anything else.
const READS: &str = "use a REST API key of the account, or of a user who sees the services";
const WRITES: &str = "use a REST API key that is not read-only";

fn get(path: &[&str]) -> ApiCall {
    ApiCall::new(Method::GET, path.iter().copied(), READS)
}

impl PagerDutyRestClient {
    /// Makes a client for the REST API at `root`, such as `https://api.pagerduty.com`. It trusts the usual certificate
    /// authorities and those of the PEM file `ca_file`.
    ///
    /// # Errors
    ///
    /// When that file cannot be used.
    pub fn new(root: &Url, token: ApiToken, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let tls = tls::client_config("BRIDGE_PAGERDUTY_CA_FILE", ca_file)?;
        let http = HttpClient::new(Some(tls).filter(|_| root.scheme() == "https"), TIMEOUT);
        Ok(Self { http, root: root.clone(), token: watch::channel(token).1 })
    }

    /// Returns the client with `token` in place of its token. Each call uses the newest value.
    #[must_use]
    pub fn with_tokens(self, token: watch::Receiver<ApiToken>) -> Self {
        Self { token, ..self }
    }

    /// Makes a call and parses the object that the response has under `name`.
    async fn object<T: DeserializeOwned>(&self, call: ApiCall, name: &str) -> Result<T, PagerDutyApiError> {
        let mut answer = self.answer(&call).await?;
        parse(&call, member(&mut answer, name))
    }

    async fn answer(&self, call: &ApiCall) -> Result<Value, PagerDutyApiError> {
        let token = self.token.borrow().clone();
        let headers = [
            (AUTHORIZATION, format!("Token token={}", token.expose())),
            (ACCEPT, "application/vnd.pagerduty+json;version=2".to_owned()),
        ];
        let response = self.http.call(call, &self.root, &headers, MAX_ANSWER).await;
        let unreachable =
            |error: RequestError| PagerDutyApiError::Unreachable { call: call.shown(), why: error.reason().to_owned() };
        let response = response.map_err(unreachable)?;
        match response.status {
            200..=299 => serde_json::from_slice(&response.body)
                .map_err(|error| PagerDutyApiError::Shape { call: call.shown(), why: error.to_string() }),
            _ => Err(refusal(call, &response, &token)),
        }
    }
}

fn refusal(call: &ApiCall, response: &Response, token: &ApiToken) -> PagerDutyApiError {
    let (call, needs) = (call.shown(), call.needs);
    match response.status {
        300..=399 => PagerDutyApiError::Redirect { call },
        401 => PagerDutyApiError::Unauthorized { call },
        402 => PagerDutyApiError::NotInPlan { call },
        403 => PagerDutyApiError::Forbidden { call, needs },
        404 => PagerDutyApiError::NotFound { call },
        429 => {
            let reset = response.rate_limit_reset.as_deref().and_then(|seconds| seconds.trim().parse().ok());
            PagerDutyApiError::Throttled { call, wait: reset.map(Duration::from_secs) }
        }
        status => PagerDutyApiError::Status { call, status, reason: reason(&response.body, token.expose()) },
    }
}

/// Takes what an answer has under `name`. An answer that is no object has nothing; indexing it mutably would panic.
fn member(answer: &mut Value, name: &str) -> Value {
    answer.get_mut(name).map_or(Value::Null, Value::take)
}

fn parse<T: DeserializeOwned>(call: &ApiCall, value: Value) -> Result<T, PagerDutyApiError> {
    serde_json::from_value(value)
        .map_err(|error| PagerDutyApiError::Shape { call: call.shown(), why: error.to_string() })
}

/// PagerDuty's reason for an error status, on one line and without the token.
fn reason(body: &[u8], token: &str) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return "the response is not JSON; a proxy may have sent it".to_owned();
    };
    let message = body["error"]["message"].as_str().unwrap_or("no reason given");
    let errors = body["error"]["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let details: Vec<_> = errors.filter(|error| *error != message).collect();
    let text = if details.is_empty() { message.to_owned() } else { format!("{message}: {}", details.join(", ")) };
    printable_reason(&text, token)
}

/// The calls that the bridge makes. Each may fail with any [`PagerDutyApiError`].
#[expect(clippy::missing_errors_doc, reason = "said once, above")]
impl PagerDutyRestClient {
    /// The services that the token can see, with their integrations; if `name` is given, only those whose name contains it.
    /// Makes one request for each page of them.
    pub async fn services(&self, name: Option<&str>) -> Result<Vec<PagerDutyService>, PagerDutyApiError> {
        let (mut services, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let (page, following) = self.services_page(name, offset).await?;
            services.extend(page);
            next = following;
        }
        Ok(services)
    }

    /// The page of the [`services`](Self::services) that begins after `offset` of them, and the offset of the next page, if
    /// there is one. Makes one request.
    pub async fn services_page(
        &self,
        name: Option<&str>,
        offset: usize,
    ) -> Result<(Vec<PagerDutyService>, Option<usize>), PagerDutyApiError> {
        let mut call = get(&["services"]).query("include[]", "integrations");
        if let Some(name) = name {
            call = call.query("query", name);
        }
        let call = call.query("limit", PAGE.to_string()).query("offset", offset.to_string());
        let mut answer = self.answer(&call).await?;
        let services = parse(&call, member(&mut answer, "services"))?;
        let next = offset + PAGE;
        Ok((services, (answer["more"] == true && next < MOST).then_some(next)))
    }

    /// One service, with its integrations.
    pub async fn service(&self, id: &str) -> Result<PagerDutyService, PagerDutyApiError> {
        self.object(get(&["services", id]).query("include[]", "integrations"), "service").await
    }

    /// The incidents with this key, newest first, at most 100; if `service` is given, only those of that service. It also
    /// finds incidents whose alerts carry the key.
    pub async fn incidents(
        &self,
        key: &IncidentKey,
        service: Option<&str>,
    ) -> Result<Vec<PagerDutyIncident>, PagerDutyApiError> {
        // Without `date_range` only the incidents of the last month are found.
        let mut call = get(&["incidents"])
            .query("incident_key", key.as_str())
            .query("date_range", "all")
            .query("sort_by", "created_at:desc")
            .query("limit", PAGE.to_string());
        if let Some(service) = service {
            call = call.query("service_ids[]", service);
        }
        self.object(call, "incidents").await
    }

    /// The alerts of an incident that carry this key; none if incidents there have no alerts.
    pub async fn alerts(&self, incident: &str, key: &IncidentKey) -> Result<Vec<IncidentAlert>, PagerDutyApiError> {
        let call = get(&["incidents", incident, "alerts"]).query("alert_key", key.as_str());
        self.object(call.query("limit", PAGE.to_string()), "alerts").await
    }

    /// The ongoing maintenance windows of a service.
    pub async fn maintenance(&self, service: &str) -> Result<Vec<MaintenanceWindow>, PagerDutyApiError> {
        let call = get(&["maintenance_windows"]).query("filter", "ongoing").query("service_ids[]", service);
        self.object(call.query("limit", PAGE.to_string()), "maintenance_windows").await
    }

    /// The names of the people who are on call for an escalation policy, each once.
    pub async fn on_call(&self, policy: &str) -> Result<Vec<String>, PagerDutyApiError> {
        let call = get(&["oncalls"]).query("escalation_policy_ids[]", policy);
        let rows: Vec<Value> = self.object(call.query("limit", PAGE.to_string()), "oncalls").await?;
        let names: BTreeSet<_> =
            rows.iter().filter_map(|row| row["user"]["summary"].as_str().map(str::to_owned)).collect();
        Ok(names.into_iter().collect())
    }

    /// Creates an integration of an Events API on a service. If its key is missing from the response,
    /// [`integration`](Self::integration) returns it.
    pub async fn create_integration(
        &self,
        service: &str,
        api: ApiVersion,
        name: &str,
    ) -> Result<Integration, PagerDutyApiError> {
        let reference = json!({"id": service, "type": "service_reference"});
        let integration = json!({"type": integration_type(api), "name": name, "service": reference});
        let path = ["services", service, "integrations"];
        let call = ApiCall::new(Method::POST, path, WRITES).body(json!({"integration": integration}));
        self.object(call, "integration").await
    }

    /// One integration of a service.
    pub async fn integration(&self, service: &str, id: &str) -> Result<Integration, PagerDutyApiError> {
        self.object(get(&["services", service, "integrations", id]), "integration").await
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[actix_web::test]
    async fn an_answer_that_is_no_object_is_an_error_and_nothing_worse() {
        for body in ["[]", "\"OK\"", "1", "null", "{}"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let root = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
            let answering = std::thread::spawn(move || {
                for _ in 0..2 {
                    let (mut connection, _) = listener.accept().unwrap();
                    let mut request = Vec::new();
                    let mut byte = [0];
                    while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap() > 0 {
                        request.push(byte[0]);
                    }
                    let length = body.len();
                    write!(
                        connection,
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                    )
                    .unwrap();
                }
            });
            let client =
                PagerDutyRestClient::new(&root, ApiToken::parse_pagerduty("u+3rdPartyRestApiKey").unwrap(), None)
                    .unwrap();
            let list = client.services(None).await.unwrap_err();
            assert!(matches!(list, PagerDutyApiError::Shape { .. }), "{body}: {list}");
            let object = client.service("PPAY").await.unwrap_err();
            assert!(matches!(object, PagerDutyApiError::Shape { .. }), "{body}: {object}");
            answering.join().unwrap();
        }
    }
}
