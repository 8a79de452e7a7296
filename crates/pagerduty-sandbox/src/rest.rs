//! A part of PagerDuty's REST API: services and their integrations, incidents and their alerts, maintenance windows and who
//! is on call. It shows the incidents that events have opened, and is strict about headers and parameters.
//!
//! Sources: PagerDuty's OpenAPI description of the REST API, and for `integration_key` its Go client.

mod options;

use std::collections::{BTreeMap, VecDeque};

use actix_web::web::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use url::form_urlencoded;

pub use options::{IntegrationOptions, RestAnswer, RestOptions, ServiceOptions, ServiceStatus};

use crate::incidents::{Incident, State};
use crate::records::{Records, generated_key};
use options::{EVENTS_V1, EVENTS_V2};

/// The path of the REST API on the listener of the Events API.
pub(crate) const ROOT: &str = "/rest";

/// How many requests are recorded; older ones are dropped.
const KEPT: usize = 10_000;

/// A request to the REST API, as it is recorded.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RestRequest {
    /// When it was received.
    pub at: DateTime<Utc>,
    /// Its method.
    pub method: String,
    /// Its path and query, below the root of the API.
    pub target: String,
    /// The status it was answered with.
    pub status: u16,
    /// Why it was refused, if it was.
    pub error: Option<String>,
}

/// The recorded requests to the REST API, and those that its rate limit counts.
#[derive(Debug, Default)]
pub(crate) struct RestRecords {
    pub(crate) requests: VecDeque<RestRequest>,
    pub(crate) total: u64,
    /// The times of the requests in the last minute.
    window: VecDeque<DateTime<Utc>>,
}

/// A request as it was received.
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path below the root of the API.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) accept: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
}

/// A status, further headers and the JSON of the body.
pub(crate) type Answer = (u16, Vec<(&'static str, String)>, Value);

/// Why a request is refused: PagerDuty's status code, its error code and its message.
struct Refusal(u16, u32, String);

impl Refusal {
    fn invalid(what: impl Into<String>) -> Self {
        Self(400, 2001, what.into())
    }

    fn not_found() -> Self {
        Self(404, 2100, "Not Found".to_owned())
    }
}

impl Records {
    /// Whether the service of an integration key opens no incidents at present.
    pub(crate) fn rest_service_is_off(&self, key: &str) -> bool {
        let service = self.options.rest.services.iter().find(|service| has_key(service, key));
        service.is_some_and(ServiceOptions::is_off)
    }

    /// The services that the options name, or else one for each integration key that is known.
    fn services(&self) -> Vec<ServiceOptions> {
        let named = &self.options.rest.services;
        if !named.is_empty() {
            return named.clone();
        }
        let keys = self.options.keys.iter().flatten().cloned();
        let keys: std::collections::BTreeSet<_> =
            keys.chain(self.incidents().map(|incident| incident.service_key.clone())).collect();
        let service = |key: &String| {
            let end = &key[key.len().saturating_sub(4)..];
            ServiceOptions::new(&format!("PSB{}", end.to_uppercase()), &format!("Sandbox {end}"), key)
        };
        keys.iter().map(service).collect()
    }
}

fn has_key(service: &ServiceOptions, key: &str) -> bool {
    service.integrations.iter().any(|integration| integration.key == key)
}

/// Handles a request and records it.
pub(crate) fn handle(records: &mut Records, request: &Request, now: DateTime<Utc>) -> Answer {
    let answered = answer(records, request, now);
    let target =
        if request.query.is_empty() { request.path.clone() } else { format!("{}?{}", request.path, request.query) };
    let (answer, error) = match answered {
        Ok((status, body)) => ((status, Vec::new(), body), None),
        Err(Refusal(status, code, what)) => {
            let mut headers = Vec::new();
            let reset = records.options.rest.answer.and_then(|answer| answer.reset);
            if let Some(reset) = reset.filter(|_| status == 429) {
                headers.push(("ratelimit-reset", reset.to_string()));
            }
            let body = json!({"error": {"message": what, "code": code, "errors": [what]}});
            ((status, headers, body), Some(what))
        }
    };
    let rest = &mut records.rest;
    rest.total += 1;
    rest.requests.push_back(RestRequest { at: now, method: request.method.clone(), target, status: answer.0, error });
    if rest.requests.len() > KEPT {
        rest.requests.pop_front();
    }
    answer
}

fn answer(records: &mut Records, request: &Request, now: DateTime<Utc>) -> Result<(u16, Value), Refusal> {
    let options = std::sync::Arc::clone(&records.options);
    if let Some(RestAnswer { status, .. }) = options.rest.answer {
        let (code, what) = match status {
            401 => (2006, "Authentication failed"),
            402 => (2014, "The account does not have the ability to perform the action"),
            403 => (2010, "Access Denied"),
            429 => (2020, "Rate Limit Exceeded"),
            _ => (2000, "Internal Server Error"),
        };
        return Err(Refusal(status, code, what.to_owned()));
    }
    authorize(request, options.rest.token.as_deref())?;
    let window = &mut records.rest.window;
    window.retain(|at| now - *at < TimeDelta::minutes(1));
    if window.len() >= options.rest.limit {
        return Err(Refusal(429, 2020, "Rate Limit Exceeded".to_owned()));
    }
    window.push_back(now);

    let query = Query::parse(&request.query)?;
    let path: Vec<_> = request.path.trim_matches('/').split('/').collect();
    match (request.method.as_str(), path.as_slice()) {
        ("GET", ["services"]) => services(records, &query),
        ("GET", ["services", id]) => {
            query.only(&["include[]"])?;
            let service = records.services().into_iter().find(|service| service.id == *id);
            let service = service.ok_or_else(Refusal::not_found)?;
            Ok((200, json!({"service": service_json(&service, query.includes("integrations"))})))
        }
        ("GET", ["services", id, "integrations", integration]) => {
            let services = records.services();
            let service = services.iter().find(|service| service.id == *id);
            let found = service.and_then(|service| service.integrations.iter().find(|of| of.id == *integration));
            let found = found.ok_or_else(Refusal::not_found)?;
            Ok((200, json!({"integration": integration_json(found, id)})))
        }
        ("POST", ["services", id, "integrations"]) => create_integration(records, id, request),
        ("GET", ["incidents"]) => incidents(records, &query, now),
        ("GET", ["incidents", id, "alerts"]) => alerts(records, id, &query),
        ("GET", ["maintenance_windows"]) => maintenance_windows(records, &query, now),
        ("GET", ["oncalls"]) => on_calls(records, &query),
        _ => Err(Refusal::not_found()),
    }
}

fn authorize(request: &Request, token: Option<&str>) -> Result<(), Refusal> {
    let given = request.authorization.as_deref().and_then(|value| value.strip_prefix("Token token="));
    if given.is_none_or(|given| given.is_empty() || token.is_some_and(|token| token != given)) {
        return Err(Refusal(401, 2006, "Authentication failed".to_owned()));
    }
    if request.accept.as_deref() != Some("application/vnd.pagerduty+json;version=2") {
        return Err(Refusal::invalid("The Accept header is not application/vnd.pagerduty+json;version=2"));
    }
    Ok(())
}

/// The parameters of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        if pairs.iter().any(|(_, value)| value.is_empty()) {
            return Err(Refusal::invalid("A parameter is empty"));
        }
        Ok(Self(pairs))
    }

    fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(Refusal::invalid(format!("The parameter {name} is not known here"))),
            None => Ok(()),
        }
    }

    fn one(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    fn all(&self, wanted: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    fn includes(&self, wanted: &str) -> bool {
        self.all("include[]").any(|include| include == wanted)
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, Refusal> {
        let parse = |text: &str| text.parse().map_err(|_| Refusal::invalid(format!("{name} is not a number")));
        self.one(name).map_or(Ok(default), parse)
    }

    /// Returns a page of these rows under this name, as PagerDuty's classic pagination does.
    fn page(&self, name: &str, rows: Vec<Value>) -> Result<(u16, Value), Refusal> {
        let (limit, offset) = (self.number("limit", 25)?, self.number("offset", 0)?);
        if limit == 0 || limit > 100 || offset + limit > 10_000 {
            return Err(Refusal::invalid("limit or offset is out of range"));
        }
        let more = rows.len() > offset + limit;
        let rows: Vec<_> = rows.into_iter().skip(offset).take(limit).collect();
        Ok((200, json!({name: rows, "limit": limit, "offset": offset, "more": more, "total": null})))
    }
}

fn services(records: &Records, query: &Query) -> Result<(u16, Value), Refusal> {
    query.only(&["query", "include[]", "limit", "offset"])?;
    let wanted = query.one("query").unwrap_or_default().to_lowercase();
    let services = records.services();
    let found = services.iter().filter(|service| service.name.to_lowercase().contains(&wanted));
    query.page("services", found.map(|service| service_json(service, query.includes("integrations"))).collect())
}

fn service_json(service: &ServiceOptions, with_integrations: bool) -> Value {
    let integration = |integration: &IntegrationOptions| {
        if with_integrations {
            return integration_json(integration, &service.id);
        }
        json!({"id": integration.id, "type": format!("{}_reference", integration.kind), "summary": integration.name})
    };
    json!({
        "id": service.id,
        "type": "service",
        "summary": service.name,
        "name": service.name,
        "html_url": format!("https://sandbox.invalid/service-directory/{}", service.id),
        "status": service.status,
        "alert_creation": if service.creates_alerts { "create_alerts_and_incidents" } else { "create_incidents" },
        "escalation_policy": {
            "id": policy_of(service),
            "type": "escalation_policy_reference",
            "summary": format!("{} policy", service.name),
        },
        "integrations": service.integrations.iter().map(integration).collect::<Vec<_>>(),
    })
}

fn policy_of(service: &ServiceOptions) -> String {
    format!("PEP{}", service.id.trim_start_matches('P'))
}

fn integration_json(integration: &IntegrationOptions, service: &str) -> Value {
    json!({
        "id": integration.id,
        "type": integration.kind,
        "name": integration.name,
        "summary": integration.name,
        "service": {"id": service, "type": "service_reference"},
        "integration_key": integration.key,
        "vendor": null,
    })
}

fn create_integration(records: &mut Records, id: &str, request: &Request) -> Result<(u16, Value), Refusal> {
    if records.options.rest.read_only {
        return Err(Refusal(403, 2010, "Access Denied".to_owned()));
    }
    if request.content_type.as_deref() != Some("application/json") {
        return Err(Refusal::invalid("The Content-Type is not application/json"));
    }
    let body: Value = serde_json::from_slice(&request.body).map_err(|error| Refusal::invalid(error.to_string()))?;
    let wanted = &body["integration"];
    let (kind, name) = (wanted["type"].as_str().unwrap_or_default(), wanted["name"].as_str().unwrap_or_default());
    if ![EVENTS_V1, EVENTS_V2].contains(&kind) || name.is_empty() {
        return Err(Refusal::invalid("integration needs a type and a name"));
    }
    if wanted["service"] != json!({"id": id, "type": "service_reference"}) {
        return Err(Refusal::invalid("integration.service is not a reference to the service"));
    }
    let mut options = crate::Options::clone(&records.options);
    let service = options.rest.services.iter_mut().find(|service| service.id == id);
    let service = service.ok_or_else(Refusal::not_found)?;
    let integration = IntegrationOptions {
        id: format!("PI{}", service.integrations.len() + 1),
        name: name.to_owned(),
        kind: kind.to_owned(),
        key: generated_key(),
    };
    let shown = integration_json(&integration, id);
    if let Some(keys) = &mut options.keys {
        keys.insert(integration.key.clone());
    }
    service.integrations.push(integration);
    records.options = options.into();
    Ok((201, json!({"integration": shown})))
}

fn incidents(records: &Records, query: &Query, now: DateTime<Utc>) -> Result<(u16, Value), Refusal> {
    query.only(&["incident_key", "date_range", "service_ids[]", "statuses[]", "sort_by", "limit", "offset"])?;
    let since = match query.one("date_range") {
        None => now - TimeDelta::days(30),
        Some("all") => DateTime::UNIX_EPOCH,
        Some(_) => return Err(Refusal::invalid("date_range must be all")),
    };
    let statuses: Vec<_> = query.all("statuses[]").collect();
    if statuses.iter().any(|status| !["triggered", "acknowledged", "resolved"].contains(status)) {
        return Err(Refusal::invalid("statuses[] must be triggered, acknowledged or resolved"));
    }
    if query.one("sort_by").is_some_and(|order| order != "created_at:desc") {
        return Err(Refusal::invalid("sort_by must be created_at:desc"));
    }
    let services = records.services();
    let by_key = by_key(&services);
    let ids: Vec<_> = query.all("service_ids[]").collect();
    let mut found: Vec<_> = records
        .incidents()
        .filter_map(|incident| Some((incident, *by_key.get(incident.service_key.as_str())?)))
        .filter(|(incident, service)| {
            query.one("incident_key").is_none_or(|key| key == incident.incident_key)
                && (ids.is_empty() || ids.contains(&service.id.as_str()))
                && (statuses.is_empty() || statuses.contains(&status_of(incident.state)))
                && incident.opened_at >= since
        })
        .collect();
    found.sort_by_key(|(incident, _)| std::cmp::Reverse(incident.number));
    query.page("incidents", found.into_iter().map(|(incident, service)| incident_json(incident, service)).collect())
}

fn by_key<'a>(services: &'a [ServiceOptions]) -> BTreeMap<&'a str, &'a ServiceOptions> {
    let of_service = |service: &'a ServiceOptions| {
        service.integrations.iter().map(move |integration| (integration.key.as_str(), service))
    };
    services.iter().flat_map(of_service).collect()
}

fn status_of(state: State) -> &'static str {
    match state {
        State::Triggered => "triggered",
        State::Acknowledged => "acknowledged",
        State::Resolved => "resolved",
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn incident_json(incident: &Incident, service: &ServiceOptions) -> Value {
    // Incidents with alerts have no key of their own.
    let key = (!service.creates_alerts).then_some(&incident.incident_key);
    json!({
        "id": incident.id(),
        "type": "incident",
        "summary": format!("[#{}] {}", incident.number, incident.description),
        "incident_number": incident.number,
        "title": incident.description,
        "html_url": format!("https://sandbox.invalid/incidents/{}", incident.id()),
        "status": status_of(incident.state),
        "created_at": time(incident.opened_at),
        "resolved_at": incident.resolved_at.map(time),
        "incident_key": key,
        "service": {"id": service.id, "type": "service_reference", "summary": service.name},
    })
}

fn alerts(records: &Records, id: &str, query: &Query) -> Result<(u16, Value), Refusal> {
    query.only(&["alert_key", "limit", "offset"])?;
    let incident = records.incidents().find(|incident| incident.id() == id).ok_or_else(Refusal::not_found)?;
    let services = records.services();
    let service = by_key(&services).get(incident.service_key.as_str()).copied().ok_or_else(Refusal::not_found)?;
    let is_asked = query.one("alert_key").is_none_or(|key| key == incident.incident_key);
    let mut rows = Vec::new();
    if (service.creates_alerts || service.suppresses) && is_asked {
        rows.push(json!({
            "id": format!("A{:013}", incident.number),
            "type": "alert",
            "alert_key": incident.incident_key,
            "status": if incident.state == State::Resolved { "resolved" } else { "triggered" },
            "suppressed": service.suppresses,
            "created_at": time(incident.opened_at),
        }));
    }
    query.page("alerts", rows)
}

fn maintenance_windows(records: &Records, query: &Query, now: DateTime<Utc>) -> Result<(u16, Value), Refusal> {
    query.only(&["filter", "service_ids[]", "limit", "offset"])?;
    if query.one("filter") != Some("ongoing") {
        return Err(Refusal::invalid("filter must be ongoing"));
    }
    let ids: Vec<_> = query.all("service_ids[]").collect();
    let window = |service: &ServiceOptions| {
        json!({
            "id": format!("PW{}", service.id.trim_start_matches('P')),
            "type": "maintenance_window",
            "description": format!("Work on {}", service.name),
            "start_time": time(now - TimeDelta::hours(1)),
            "end_time": time(now + TimeDelta::hours(1)),
            "services": [{"id": service.id, "type": "service_reference", "summary": service.name}],
        })
    };
    let services = records.services();
    let ongoing = services.iter().filter(|service| service.status == ServiceStatus::Maintenance);
    let asked = ongoing.filter(|service| ids.is_empty() || ids.contains(&service.id.as_str()));
    query.page("maintenance_windows", asked.map(window).collect())
}

fn on_calls(records: &Records, query: &Query) -> Result<(u16, Value), Refusal> {
    query.only(&["escalation_policy_ids[]", "limit", "offset"])?;
    let ids: Vec<_> = query.all("escalation_policy_ids[]").collect();
    let services = records.services();
    let mut rows = Vec::new();
    for service in services.iter().filter(|service| ids.is_empty() || ids.contains(&policy_of(service).as_str())) {
        for (level, user) in (1..).zip(&service.on_call) {
            rows.push(json!({
                "user": {"id": format!("PU{level}"), "type": "user_reference", "summary": user},
                "escalation_policy": {"id": policy_of(service), "type": "escalation_policy_reference"},
                "escalation_level": level,
            }));
        }
    }
    query.page("oncalls", rows)
}
