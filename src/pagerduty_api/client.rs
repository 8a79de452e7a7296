//! [`PagerDutyApi`] over HTTP: paths, parameters and the meaning of each status.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use awc::http::Method;
use awc::http::header::{ACCEPT, AUTHORIZATION};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use url::Url;

use super::types::{Alert, Incident, Integration, MaintenanceWindow, Service, integration_type};
use super::{ApiError, PagerDutyApi};
use crate::config::ApiToken;
use crate::http_client::{HttpClient, Request, Response};
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
pub struct Client {
    http: HttpClient,
    root: Url,
    /// The current token, which may be replaced while the bridge runs.
    token: watch::Receiver<ApiToken>,
}

/// One request.
struct Call<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
}

impl<'a> Call<'a> {
    fn get(path: &[&'a str]) -> Self {
        Self { method: Method::GET, path: path.to_vec(), query: Vec::new(), body: None }
    }

    fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Method and path, for messages.
    fn shown(&self) -> String {
        format!("{} /{}", self.method, self.path.join("/"))
    }
}

impl Client {
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
    async fn object<T: DeserializeOwned>(&self, call: Call<'_>, name: &str) -> Result<T, ApiError> {
        let shown = call.shown();
        let mut answer = self.answer(call).await?;
        parse(&shown, member(&mut answer, name))
    }

    /// Fetches a list, page by page.
    async fn list<T: DeserializeOwned>(
        &self,
        name: &str,
        call: impl Fn() -> Call<'static>,
    ) -> Result<Vec<T>, ApiError> {
        let mut rows: Vec<T> = Vec::new();
        for offset in (0..MOST).step_by(PAGE) {
            let call = call().query("limit", PAGE.to_string()).query("offset", offset.to_string());
            let shown = call.shown();
            let mut answer = self.answer(call).await?;
            rows.extend(parse::<Vec<T>>(&shown, member(&mut answer, name))?);
            if answer["more"] != true {
                break;
            }
        }
        Ok(rows)
    }

    async fn answer(&self, call: Call<'_>) -> Result<Value, ApiError> {
        let shown = call.shown();
        let mut url = self.root.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        let token = self.token.borrow().clone();
        let headers = [
            (AUTHORIZATION, format!("Token token={}", token.expose())),
            (ACCEPT, "application/vnd.pagerduty+json;version=2".to_owned()),
        ];
        let body = call.body.as_ref().map(|body| body.to_string().into_bytes());
        let is_read = call.method == Method::GET;
        let request = Request { method: call.method, url: &url, headers: &headers, body, max_answer: MAX_ANSWER };
        let response = self.http.send(request).await;
        let response =
            response.map_err(|error| ApiError::Unreachable { call: shown.clone(), why: error.reason().to_owned() })?;
        match response.status {
            200..=299 => serde_json::from_slice(&response.body)
                .map_err(|error| ApiError::Shape { call: shown, why: error.to_string() }),
            _ => Err(refusal(shown, is_read, &response, &token)),
        }
    }
}

fn refusal(call: String, is_read: bool, response: &Response, token: &ApiToken) -> ApiError {
    match response.status {
        300..=399 => ApiError::Redirect { call },
        401 => ApiError::Unauthorized { call },
        402 => ApiError::NotInPlan { call },
        403 => {
            let needs = if is_read {
                "use a REST API key of the account, or of a user who sees the services"
            } else {
                "use a REST API key that is not read-only"
            };
            ApiError::Forbidden { call, needs }
        }
        404 => ApiError::NotFound { call },
        429 => {
            let reset = response.rate_limit_reset.as_deref().and_then(|seconds| seconds.trim().parse().ok());
            ApiError::Throttled { call, wait: reset.map(Duration::from_secs) }
        }
        status => ApiError::Status { call, status, reason: reason(&response.body, token.expose()) },
    }
}

/// Takes what an answer has under `name`. An answer that is no object has nothing; indexing it mutably would panic.
fn member(answer: &mut Value, name: &str) -> Value {
    answer.get_mut(name).map_or(Value::Null, Value::take)
}

fn parse<T: DeserializeOwned>(call: &str, value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|error| ApiError::Shape { call: call.to_owned(), why: error.to_string() })
}

/// PagerDuty's reason for an error status, on one line and without the token.
fn reason(body: &[u8], token: &str) -> String {
    const MAX: usize = 300;
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return "the response is not JSON; a proxy may have sent it".to_owned();
    };
    let message = body["error"]["message"].as_str().unwrap_or("no reason given");
    let errors = body["error"]["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let details: Vec<_> = errors.filter(|error| *error != message).collect();
    let text = if details.is_empty() { message.to_owned() } else { format!("{message}: {}", details.join(", ")) };
    let text = text.replace(token, "…");
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(MAX).collect()
}

impl PagerDutyApi for Client {
    async fn services(&self, name: Option<&str>) -> Result<Vec<Service>, ApiError> {
        let call = || {
            let call = Call::get(&["services"]).query("include[]", "integrations");
            match name {
                Some(name) => call.query("query", name),
                None => call,
            }
        };
        self.list("services", call).await
    }

    async fn service(&self, id: &str) -> Result<Service, ApiError> {
        self.object(Call::get(&["services", id]).query("include[]", "integrations"), "service").await
    }

    async fn incidents(&self, key: &IncidentKey, service: Option<&str>) -> Result<Vec<Incident>, ApiError> {
        // Without `date_range` only the incidents of the last month are found.
        let mut call = Call::get(&["incidents"])
            .query("incident_key", key.as_str())
            .query("date_range", "all")
            .query("sort_by", "created_at:desc")
            .query("limit", PAGE.to_string());
        if let Some(service) = service {
            call = call.query("service_ids[]", service);
        }
        self.object(call, "incidents").await
    }

    async fn alerts(&self, incident: &str, key: &IncidentKey) -> Result<Vec<Alert>, ApiError> {
        let call = Call::get(&["incidents", incident, "alerts"]).query("alert_key", key.as_str());
        self.object(call.query("limit", PAGE.to_string()), "alerts").await
    }

    async fn maintenance(&self, service: &str) -> Result<Vec<MaintenanceWindow>, ApiError> {
        let call = Call::get(&["maintenance_windows"]).query("filter", "ongoing").query("service_ids[]", service);
        self.object(call.query("limit", PAGE.to_string()), "maintenance_windows").await
    }

    async fn on_call(&self, policy: &str) -> Result<Vec<String>, ApiError> {
        let call = Call::get(&["oncalls"]).query("escalation_policy_ids[]", policy);
        let rows: Vec<Value> = self.object(call.query("limit", PAGE.to_string()), "oncalls").await?;
        let names: BTreeSet<_> =
            rows.iter().filter_map(|row| row["user"]["summary"].as_str().map(str::to_owned)).collect();
        Ok(names.into_iter().collect())
    }

    async fn create_integration(&self, service: &str, api: ApiVersion, name: &str) -> Result<Integration, ApiError> {
        let reference = json!({"id": service, "type": "service_reference"});
        let integration = json!({"type": integration_type(api), "name": name, "service": reference});
        let call = Call {
            method: Method::POST,
            body: Some(json!({"integration": integration})),
            ..Call::get(&["services", service, "integrations"])
        };
        self.object(call, "integration").await
    }

    async fn integration(&self, service: &str, id: &str) -> Result<Integration, ApiError> {
        self.object(Call::get(&["services", service, "integrations", id]), "integration").await
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
            let client = Client::new(&root, ApiToken::parse_pagerduty("u+3rdPartyRestApiKey").unwrap(), None).unwrap();
            let list = client.services(None).await.unwrap_err();
            assert!(matches!(list, ApiError::Shape { .. }), "{body}: {list}");
            let object = client.service("PPAY").await.unwrap_err();
            assert!(matches!(object, ApiError::Shape { .. }), "{body}: {object}");
            answering.join().unwrap();
        }
    }
}
