//! A part of PagerDuty's REST API: services and their integrations, incidents and their alerts, maintenance windows and who
//! is on call. It shows the incidents that events have opened, and is strict about headers and parameters.
//!
//! Sources: PagerDuty's OpenAPI description of the REST API, and for `integration_key` its Go client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::incidents::{Incident, IncidentState};
use crate::journal::Received;
use crate::options::{
    EVENTS_V1, EVENTS_V2, IntegrationOptions, Options, RestAnswer, RestServiceStatus, ServiceOptions,
};
use crate::records::{Records, RestRequest, generated_key};
use crate::responses::PlannedResponse;

/// The path of the REST API on the listener of the Events API.
pub(crate) const ROOT: &str = "/rest";

/// Why a request is refused: PagerDuty's status code, its error code and its message.
struct RestError(u16, u32, String);

impl RestError {
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
        let keys: BTreeSet<_> = keys.chain(self.incidents().map(|incident| incident.service_key.clone())).collect();
        keys.iter().map(|key| unnamed(key)).collect()
    }

    /// The service that has an integration with this key.
    pub(crate) fn service_of(&self, key: &str) -> ServiceOptions {
        let named = self.options.rest.services.iter().find(|service| has_key(service, key));
        named.cloned().unwrap_or_else(|| unnamed(key))
    }
}

/// The service of an integration key for which the options name none.
fn unnamed(key: &str) -> ServiceOptions {
    let end = &key[key.len().saturating_sub(4)..];
    ServiceOptions::new(&format!("PSB{}", end.to_uppercase()), &format!("Sandbox {end}"), key)
}

fn has_key(service: &ServiceOptions, key: &str) -> bool {
    service.integrations.iter().any(|integration| integration.key == key)
}

/// Handles a request and records it.
pub(crate) fn handle(records: &mut Records, request: &Received, now: DateTime<Utc>) -> PlannedResponse {
    let target = request.target.split_once(ROOT).map_or("", |(_, target)| target).trim_end_matches('?');
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (status, body, error) = match answer(records, request, path, query, now) {
        Ok((status, body)) => (status, body, None),
        Err(RestError(status, code, what)) => {
            (status, json!({"error": {"message": what, "code": code, "errors": [what]}}), Some(what))
        }
    };
    let mut response = PlannedResponse::new(status, "application/json", body.to_string());
    let reset = records.options.rest.answer.and_then(|answer| answer.reset);
    if let Some(reset) = reset.filter(|_| error.is_some() && status == 429) {
        response = response.with_header("ratelimit-reset", reset.to_string());
    }
    let (method, target) = (request.method.clone(), target.to_owned());
    records.write_rest(RestRequest { at: now, method, target, status, error });
    response
}

fn answer(
    records: &mut Records,
    request: &Received,
    path: &str,
    query: &str,
    now: DateTime<Utc>,
) -> Result<(u16, Value), RestError> {
    let options = Arc::clone(&records.options);
    if let Some(RestAnswer { status, .. }) = options.rest.answer {
        let (code, what) = match status {
            401 => (2006, "Authentication failed"),
            402 => (2014, "The account does not have the ability to perform the action"),
            403 => (2010, "Access Denied"),
            429 => (2020, "Rate Limit Exceeded"),
            _ => (2000, "Internal Server Error"),
        };
        return Err(RestError(status, code, what.to_owned()));
    }
    authorize(request, options.rest.token.as_deref())?;
    if !records.admit_rest(now) {
        return Err(RestError(429, 2020, "Rate Limit Exceeded".to_owned()));
    }

    let query = RestQuery::parse(query)?;
    let path: Vec<_> = path.trim_matches('/').split('/').collect();
    match (request.method.as_str(), path.as_slice()) {
        ("GET", ["services"]) => services(records, &query),
        ("GET", ["services", id]) => {
            query.only(&["include[]"])?;
            let service = records.services().into_iter().find(|service| service.id == *id);
            let service = service.ok_or_else(RestError::not_found)?;
            Ok((200, json!({"service": service_json(&service, query.includes("integrations"))})))
        }
        ("GET", ["services", id, "integrations", integration]) => {
            let services = records.services();
            let service = services.iter().find(|service| service.id == *id);
            let found = service.and_then(|service| service.integrations.iter().find(|of| of.id == *integration));
            let found = found.ok_or_else(RestError::not_found)?;
            Ok((200, json!({"integration": integration_json(found, id)})))
        }
        ("POST", ["services", id, "integrations"]) => create_integration(records, id, request),
        ("GET", ["incidents"]) => incidents(records, &query, now),
        ("GET", ["incidents", id, "alerts"]) => alerts(records, id, &query),
        ("GET", ["maintenance_windows"]) => maintenance_windows(records, &query, now),
        ("GET", ["oncalls"]) => on_calls(records, &query),
        _ => Err(RestError::not_found()),
    }
}

fn authorize(request: &Received, token: Option<&str>) -> Result<(), RestError> {
    let given = request.header("authorization").next().and_then(|value| value.strip_prefix("Token token="));
    if given.is_none_or(|given| given.is_empty() || token.is_some_and(|token| token != given)) {
        return Err(RestError(401, 2006, "Authentication failed".to_owned()));
    }
    if request.header("accept").next() != Some("application/vnd.pagerduty+json;version=2") {
        return Err(RestError::invalid("The Accept header is not application/vnd.pagerduty+json;version=2"));
    }
    Ok(())
}

/// The parameters of a request.
struct RestQuery(Vec<(String, String)>);

impl RestQuery {
    fn parse(text: &str) -> Result<Self, RestError> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        if pairs.iter().any(|(_, value)| value.is_empty()) {
            return Err(RestError::invalid("A parameter is empty"));
        }
        Ok(Self(pairs))
    }

    fn only(&self, known: &[&str]) -> Result<(), RestError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(RestError::invalid(format!("The parameter {name} is not known here"))),
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

    fn number(&self, name: &str, default: usize) -> Result<usize, RestError> {
        let parse = |text: &str| text.parse().map_err(|_| RestError::invalid(format!("{name} is not a number")));
        self.one(name).map_or(Ok(default), parse)
    }

    /// Returns a page of these rows under this name, as PagerDuty's classic pagination does.
    fn page(&self, name: &str, rows: Vec<Value>) -> Result<(u16, Value), RestError> {
        let (limit, offset) = (self.number("limit", 25)?, self.number("offset", 0)?);
        if limit == 0 || limit > 100 || offset + limit > 10_000 {
            return Err(RestError::invalid("limit or offset is out of range"));
        }
        let more = rows.len() > offset + limit;
        let rows: Vec<_> = rows.into_iter().skip(offset).take(limit).collect();
        Ok((200, json!({name: rows, "limit": limit, "offset": offset, "more": more, "total": null})))
    }
}

fn services(records: &Records, query: &RestQuery) -> Result<(u16, Value), RestError> {
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

fn create_integration(records: &mut Records, id: &str, request: &Received) -> Result<(u16, Value), RestError> {
    if records.options.rest.read_only {
        return Err(RestError(403, 2010, "Access Denied".to_owned()));
    }
    if request.header("content-type").next() != Some("application/json") {
        return Err(RestError::invalid("The Content-Type is not application/json"));
    }
    let body: Value = serde_json::from_slice(&request.body).map_err(|error| RestError::invalid(error.to_string()))?;
    let wanted = &body["integration"];
    let (kind, name) = (wanted["type"].as_str().unwrap_or_default(), wanted["name"].as_str().unwrap_or_default());
    if ![EVENTS_V1, EVENTS_V2].contains(&kind) || name.is_empty() {
        return Err(RestError::invalid("integration needs a type and a name"));
    }
    if wanted["service"] != json!({"id": id, "type": "service_reference"}) {
        return Err(RestError::invalid("integration.service is not a reference to the service"));
    }
    let mut options = Options::clone(&records.options);
    let service = options.rest.services.iter_mut().find(|service| service.id == id);
    let service = service.ok_or_else(RestError::not_found)?;
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

fn incidents(records: &Records, query: &RestQuery, now: DateTime<Utc>) -> Result<(u16, Value), RestError> {
    query.only(&["incident_key", "date_range", "service_ids[]", "statuses[]", "sort_by", "limit", "offset"])?;
    let since = match query.one("date_range") {
        None => now - TimeDelta::days(30),
        Some("all") => DateTime::UNIX_EPOCH,
        Some(_) => return Err(RestError::invalid("date_range must be all")),
    };
    let statuses: Vec<_> = query.all("statuses[]").collect();
    if statuses.iter().any(|status| !["triggered", "acknowledged", "resolved"].contains(status)) {
        return Err(RestError::invalid("statuses[] must be triggered, acknowledged or resolved"));
    }
    if query.one("sort_by").is_some_and(|order| order != "created_at:desc") {
        return Err(RestError::invalid("sort_by must be created_at:desc"));
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

fn status_of(state: IncidentState) -> &'static str {
    match state {
        IncidentState::Triggered => "triggered",
        IncidentState::Acknowledged => "acknowledged",
        IncidentState::Resolved => "resolved",
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
        "html_url": incident.html_url(),
        "status": status_of(incident.state),
        "created_at": time(incident.opened_at),
        "resolved_at": incident.resolved_at.map(time),
        "incident_key": key,
        "service": {"id": service.id, "type": "service_reference", "summary": service.name},
    })
}

fn alerts(records: &Records, id: &str, query: &RestQuery) -> Result<(u16, Value), RestError> {
    query.only(&["alert_key", "limit", "offset"])?;
    let incident = records.incidents().find(|incident| incident.id() == id).ok_or_else(RestError::not_found)?;
    let services = records.services();
    let service = by_key(&services).get(incident.service_key.as_str()).copied().ok_or_else(RestError::not_found)?;
    let is_asked = query.one("alert_key").is_none_or(|key| key == incident.incident_key);
    let mut rows = Vec::new();
    if (service.creates_alerts || service.suppresses) && is_asked {
        rows.push(json!({
            "id": format!("A{:013}", incident.number),
            "type": "alert",
            "alert_key": incident.incident_key,
            "status": if incident.state == IncidentState::Resolved { "resolved" } else { "triggered" },
            "suppressed": service.suppresses,
            "created_at": time(incident.opened_at),
        }));
    }
    query.page("alerts", rows)
}

fn maintenance_windows(records: &Records, query: &RestQuery, now: DateTime<Utc>) -> Result<(u16, Value), RestError> {
    query.only(&["filter", "service_ids[]", "limit", "offset"])?;
    if query.one("filter") != Some("ongoing") {
        return Err(RestError::invalid("filter must be ongoing"));
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
    let ongoing = services.iter().filter(|service| service.status == RestServiceStatus::Maintenance);
    let asked = ongoing.filter(|service| ids.is_empty() || ids.contains(&service.id.as_str()));
    query.page("maintenance_windows", asked.map(window).collect())
}

fn on_calls(records: &Records, query: &RestQuery) -> Result<(u16, Value), RestError> {
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
