//! The operations of `/api`: the table of all of them, and their handlers.

use std::borrow::Cow;
use std::collections::HashMap;

use actix_web::http::Method;
use actix_web::web::{self, Data, Payload};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Responder, Route};
use chrono::Utc;
use log::info;
use serde::Deserialize;
use serde_json::json;
use url::form_urlencoded;

use super::responses::{self, ItemOutcome, ItemOutcomeKind};
use super::{ApiError, Caller, OPENAPI, done, json_response};
use crate::monitor::troubles;
use crate::queue::admin::{BULK, BulkKind, ResolvedTriggers};
use crate::queue::json::{ItemDetails, ItemSummary, ServiceKeys};
use crate::queue::{EventId, EventSummary, ItemId, QueueError, RejectedId, State};
use crate::web::AppState;
use crate::web::body;

/// How many entries a page has by default, and at most.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 500;

/// The longest selection that is read, in bytes: [`BULK`] of the longest ids take less than half of it.
const MAX_SELECTION: usize = 64 * 1024;

/// An operation of `/api`.
pub(super) struct ApiOperation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) route: Box<dyn Fn() -> Route>,
}

impl ApiOperation {
    fn new<H, A>(method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<A>,
        A: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        let route_method = method.clone();
        Self { method, path, route: Box::new(move || web::method(route_method.clone()).to(handler.clone())) }
    }
}

/// Every operation; those of one path are next to each other. An operation that changes something is never a GET.
pub(super) fn all() -> Vec<ApiOperation> {
    vec![
        ApiOperation::new(Method::GET, "/api/openapi.json", openapi),
        ApiOperation::new(Method::GET, "/api/status", status),
        ApiOperation::new(Method::GET, "/api/activity", activity),
        ApiOperation::new(Method::GET, "/api/events", events),
        ApiOperation::new(Method::GET, "/api/events/{id}", event),
        ApiOperation::new(Method::DELETE, "/api/events/{id}", discard_event),
        ApiOperation::new(Method::POST, "/api/events/{id}/retry", retry_event),
        ApiOperation::new(Method::GET, "/api/rejected", all_rejected),
        ApiOperation::new(Method::GET, "/api/rejected/{id}", rejected),
        ApiOperation::new(Method::DELETE, "/api/rejected/{id}", discard_rejected),
        ApiOperation::new(Method::POST, "/api/rejected/{id}/retry", retry_rejected),
        ApiOperation::new(Method::POST, "/api/retry", retry_many),
        ApiOperation::new(Method::POST, "/api/discard", discard_many),
    ]
}

async fn openapi(_: Caller) -> HttpResponse {
    json_response(&mut HttpResponse::Ok(), OPENAPI.to_owned())
}

async fn status(_: Caller, state: Data<AppState>) -> HttpResponse {
    let snapshot = state.monitor.snapshot(Utc::now()).await;
    done(&responses::status(&snapshot, &troubles(&snapshot, state.monitor.limits())))
}

async fn activity(_: Caller, state: Data<AppState>) -> HttpResponse {
    done(&responses::activity(&state.monitor.metrics(Utc::now()).await.activity))
}

async fn events(_: Caller, request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let page = ListQuery::parse(request.query_string(), &["state", "after", "limit"])?;
    let after = page.after_event()?;
    let reader = state.queue.reader();
    // One entry more than asked for shows whether there are more.
    let found = match page.state {
        Some(state) => reader.list(state, after, page.limit + 1).await?,
        None => reader.recent(after, page.limit + 1).await?,
    };
    let ids: Vec<_> = found.iter().map(|event| event.id).collect();
    let proofs = reader.proofs(&ids).await?.into_iter();
    let mut proofs: HashMap<_, _> = proofs.map(|proof| (proof.event, proof)).collect();
    let names = state.monitor.names();
    let row = |event: EventSummary| {
        let (name, proof) = (names.get(&event.service_key), proofs.remove(&event.id));
        ItemSummary::of_event(event, ServiceKeys::Masked).with_pagerduty(name, proof)
    };
    let rows = found.into_iter().map(row).collect();
    let (events, next) = cut(rows, page.limit);
    Ok(done(&json!({"events": events, "next": next})))
}

async fn event(_: Caller, request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let id = event_id(&request)?;
    let reader = state.queue.reader();
    let record = reader.get(id).await?.ok_or_else(|| not_found(ItemId::Event(id)))?;
    let name = state.monitor.names().get(&record.summary.service_key);
    let proof = reader.proofs(&[id]).await?.pop();
    Ok(done(&ItemDetails::of_event(record, ServiceKeys::Masked, name, proof)))
}

async fn all_rejected(_: Caller, request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let page = ListQuery::parse(request.query_string(), &["after", "limit"])?;
    let found = state.queue.reader().rejected_list(page.after_rejected()?, page.limit + 1).await?;
    let (rejected, next) = cut(found.into_iter().map(ItemSummary::of_rejected).collect(), page.limit);
    Ok(done(&json!({"rejected": rejected, "next": next})))
}

async fn rejected(_: Caller, request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let id = rejected_id(&request)?;
    let webhook = state.queue.reader().rejected(id).await?.ok_or_else(|| not_found(ItemId::Rejected(id)))?;
    Ok(done(&ItemDetails::of_rejected(id, webhook, &state.ingest.keys())))
}

async fn retry_event(_: Caller, request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let id = ItemId::Event(event_id(&request)?);
    let mut force = false;
    for (_, value) in parameters(request.query_string(), &["force"])? {
        force = value.parse().map_err(|_| bad("force is true or false"))?;
    }
    one(retry(&state, Selection::Ids(vec![id]), force).await?)
}

async fn retry_rejected(_: Caller, request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let id = ItemId::Rejected(rejected_id(&request)?);
    parameters(request.query_string(), &[])?;
    one(retry(&state, Selection::Ids(vec![id]), false).await?)
}

async fn discard_event(_: Caller, request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let id = ItemId::Event(event_id(&request)?);
    let mut only = None;
    for (_, value) in parameters(request.query_string(), &["state"])? {
        only = Some(parse_state(&value)?);
    }
    one(discard(&state, Selection::Ids(vec![id]), only).await?)
}

async fn discard_rejected(_: Caller, request: HttpRequest, state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let id = ItemId::Rejected(rejected_id(&request)?);
    parameters(request.query_string(), &[])?;
    one(discard(&state, Selection::Ids(vec![id]), None).await?)
}

async fn retry_many(
    _: Caller,
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let (selection, force) = selection(&request, payload).await?;
    let outcomes = retry(&state, selection, force.unwrap_or(false)).await?;
    info!("/api retried {}", outcomes.len());
    many(&state, outcomes).await
}

async fn discard_many(
    _: Caller,
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let (selection, force) = selection(&request, payload).await?;
    if force.is_some() {
        return Err(bad("`force` is for /api/retry only"));
    }
    let outcomes = discard(&state, selection, None).await?;
    info!("/api discarded {}", outcomes.len());
    many(&state, outcomes).await
}

async fn retry(state: &AppState, selection: Selection, force: bool) -> Result<Vec<ItemOutcome>, QueueError> {
    let resolved = if force { ResolvedTriggers::Requeue } else { ResolvedTriggers::Skip };
    let outcomes = match selection {
        Selection::Ids(ids) => state.queue_admin.retry(&ids, resolved).await?,
        Selection::All(kinds) => state.queue_admin.retry_all(&kinds, resolved).await?,
    };
    Ok(outcomes.into_iter().map(|(id, outcome)| ItemOutcome::retried(id, outcome)).collect())
}

async fn discard(state: &AppState, selection: Selection, only: Option<State>) -> Result<Vec<ItemOutcome>, QueueError> {
    let outcomes = match selection {
        Selection::Ids(ids) => state.queue_admin.discard(&ids, only).await?,
        Selection::All(kinds) => state.queue_admin.discard_all(&kinds).await?,
    };
    Ok(outcomes.into_iter().map(|(id, outcome)| ItemOutcome::discarded(id, outcome)).collect())
}

/// The response for one item: an error if the operation was not done.
fn one(outcomes: Vec<ItemOutcome>) -> Result<HttpResponse, ApiError> {
    let Some(outcome) = outcomes.into_iter().next() else {
        return Err(ApiError::NotFound("the queue has no entry with this number".to_owned()));
    };
    match outcome.kind {
        ItemOutcomeKind::NotFound => Err(ApiError::NotFound(outcome.reason.unwrap_or_default())),
        kind if kind.is_conflict() => Err(ApiError::Conflict(outcome.reason.unwrap_or_default())),
        kind => {
            info!("/api: {} {kind:?}", outcome.id);
            Ok(done(&outcome))
        }
    }
}

async fn many(state: &AppState, results: Vec<ItemOutcome>) -> Result<HttpResponse, ApiError> {
    let left = state.queue.reader().overview().await?;
    Ok(done(&responses::outcomes(&results, &left)))
}

/// Returns at most `limit` rows and, if there are more, the value of `after` for the next page.
fn cut(mut rows: Vec<ItemSummary>, limit: u32) -> (Vec<ItemSummary>, Option<String>) {
    let limit = limit as usize;
    let next = (rows.len() > limit).then(|| rows[limit - 1].id.clone());
    rows.truncate(limit);
    (rows, next)
}

/// The number of an event in the path.
fn event_id(request: &HttpRequest) -> Result<EventId, ApiError> {
    match request.match_info().query("id").parse() {
        Ok(ItemId::Event(id)) => Ok(id),
        _ => Err(ApiError::NotFound("not the number of an event: events are numbered like `7`".to_owned())),
    }
}

/// The number of a rejected webhook in the path.
fn rejected_id(request: &HttpRequest) -> Result<RejectedId, ApiError> {
    match request.match_info().query("id").parse() {
        Ok(ItemId::Rejected(id)) => Ok(id),
        _ => Err(ApiError::NotFound("not the number of a rejected webhook: they are numbered like `r7`".to_owned())),
    }
}

fn not_found(id: ItemId) -> ApiError {
    ApiError::NotFound(format!("the queue has no entry with the number {id}"))
}

/// The parameters of a list of events or rejected webhooks.
#[derive(Debug, Eq, PartialEq)]
struct ListQuery {
    /// Only events in this state.
    state: Option<State>,
    /// The last entry of the previous page.
    after: Option<ItemId>,
    limit: u32,
}

impl ListQuery {
    /// Parses a query in which only these names are allowed.
    fn parse(query: &str, names: &[&str]) -> Result<Self, ApiError> {
        let mut page = Self { state: None, after: None, limit: DEFAULT_LIMIT };
        for (name, value) in parameters(query, names)? {
            match &*name {
                "state" => page.state = Some(parse_state(&value)?),
                "after" => {
                    page.after = Some(value.parse().map_err(|error| bad(format!("after: {error}")))?);
                }
                _ => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    page.limit = limit.ok_or_else(|| bad(format!("limit is from 1 to {MAX_LIMIT}")))?;
                }
            }
        }
        Ok(page)
    }

    fn after_event(&self) -> Result<Option<EventId>, ApiError> {
        match self.after {
            Some(ItemId::Rejected(_)) => Err(bad("after: events are numbered like `7`")),
            Some(ItemId::Event(id)) => Ok(Some(id)),
            None => Ok(None),
        }
    }

    fn after_rejected(&self) -> Result<Option<RejectedId>, ApiError> {
        match self.after {
            Some(ItemId::Event(_)) => Err(bad("after: rejected webhooks are numbered like `r7`")),
            Some(ItemId::Rejected(id)) => Ok(Some(id)),
            None => Ok(None),
        }
    }
}

/// The names of parameters, and their values.
type QueryParameters<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Parses a query in which only these names are allowed: a misspelt parameter must not select everything.
fn parameters<'a>(query: &'a str, names: &[&str]) -> Result<QueryParameters<'a>, ApiError> {
    let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    match parameters.iter().find(|(name, _)| !names.contains(&&**name)) {
        Some(_) if names.is_empty() => Err(bad("this address takes no parameters")),
        Some(_) => Err(bad(format!("this address takes the parameters {}", names.join(", ")))),
        None => Ok(parameters),
    }
}

fn parse_state(name: &str) -> Result<State, ApiError> {
    State::parse(name).ok_or_else(|| bad("state is one of waiting, dead, delivered"))
}

/// The items that a bulk request selects.
#[derive(Debug, Eq, PartialEq)]
enum Selection {
    /// The items with these ids.
    Ids(Vec<ItemId>),
    /// All items of these kinds, at most [`BULK`] of each.
    All(Vec<BulkKind>),
}

/// The body of a bulk request: either `ids` or `all`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectionBody {
    ids: Option<Vec<String>>,
    all: Option<Vec<String>>,
    force: Option<bool>,
}

/// Reads a selection, and `force` if it is given.
async fn selection(request: &HttpRequest, mut payload: Payload) -> Result<(Selection, Option<bool>), ApiError> {
    let body = body::read(request, &mut payload, MAX_SELECTION, None).await.map_err(ApiError::NotRead)?;
    select(&body)
}

fn select(body: &[u8]) -> Result<(Selection, Option<bool>), ApiError> {
    let hint = "select with {\"ids\":[\"7\",\"r7\"]} or with {\"all\":[\"dead\",\"rejected\"]}";
    let selected: SelectionBody = serde_json::from_slice(body).map_err(|error| bad(format!("{hint}: {error}")))?;
    match (selected.ids, selected.all) {
        (Some(ids), None) => {
            if ids.len() as u64 > BULK {
                return Err(bad(format!("select at most {BULK} at once")));
            }
            let ids = ids.iter().map(|id| id.parse().map_err(|error| bad(format!("ids: {error}"))));
            Ok((Selection::Ids(ids.collect::<Result<_, _>>()?), selected.force))
        }
        (None, Some(names)) => {
            let mut kinds = Vec::new();
            for name in &names {
                let kind = BulkKind::parse(name).ok_or_else(|| bad("all: name dead, rejected or both"))?;
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            Ok((Selection::All(kinds), selected.force))
        }
        _ => Err(bad(hint)),
    }
}

fn bad(reason: impl Into<String>) -> ApiError {
    ApiError::BadRequest(reason.into())
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;

    use super::*;

    const NAMES: [&str; 3] = ["state", "after", "limit"];

    #[test]
    fn a_page_is_named_by_state_place_and_length() {
        let page = |query| ListQuery::parse(query, &NAMES).unwrap();
        assert_eq!(page(""), ListQuery { state: None, after: None, limit: 100 });
        let after = Some(ItemId::Event(EventId::new(7)));
        assert_eq!(page("state=dead&after=7&limit=500"), ListQuery { state: Some(State::Dead), after, limit: 500 });
        assert!(page("after=r7").after_event().is_err() && page("after=r7").after_rejected().unwrap().is_some());
        assert!(page("after=7").after_rejected().is_err());
    }

    #[test]
    fn what_is_misspelt_selects_nothing() {
        for query in ["state=rejected", "after=-1", "limit=0", "limit=501", "limit=x", "stat=dead", "state", "%ff=1"] {
            let error = ListQuery::parse(query, &NAMES).unwrap_err();
            assert_eq!(error.status_code(), 400, "{query}");
        }
        assert!(ListQuery::parse("state=dead", &NAMES[1..]).is_err());
    }

    #[test]
    fn a_selection_names_numbers_or_kinds() {
        let ids = vec![ItemId::Event(EventId::new(7)), ItemId::Rejected(RejectedId::new(7))];
        assert_eq!(select(br#"{"ids":["7","r7"]}"#).unwrap(), (Selection::Ids(ids), None));
        let all = (Selection::All(vec![BulkKind::Dead]), None);
        assert_eq!(select(br#"{"all":["dead","dead"]}"#).unwrap(), all);
        let insists = (Selection::All(vec![BulkKind::Dead]), Some(true));
        assert_eq!(select(br#"{"all":["dead"],"force":true}"#).unwrap(), insists);
    }

    #[test]
    fn what_selects_nothing_clearly_is_refused() {
        let many = format!(r#"{{"ids":[{}"1"]}}"#, r#""1","#.repeat(1000));
        for body in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"ids":["7"],"all":["dead"]}"#,
            r#"{"ids":[7]}"#,
            r#"{"ids":["-7"]}"#,
            r#"{"all":["waiting"]}"#,
            r#"{"all":"dead"}"#,
            r#"{"all":["dead"],"state":"dead"}"#,
            &many,
        ] {
            assert_eq!(select(body.as_bytes()).unwrap_err().status_code(), 400, "{body}");
        }
    }
}
