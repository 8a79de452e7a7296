//! The handlers of the requests for the status page.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use chrono::Utc;
use log::info;
use maud::Markup;
use serde::Deserialize;
use url::form_urlencoded;

use super::forms::EntryTarget;
use super::layout::{PageFrame, asset_at};
use super::lists::{EventEntry, Listing, PAGE};
use super::notice::ActionNotice;
use super::overview::{GLANCE, StatusLists, StatusPage};
use super::request::{Form, PageRequest, UiError, own_path, page, redirect};
use super::{detail, forms, lists, overview, services};
use crate::monitor::{self, Health};
use crate::pagerduty::{SentryOrigin, ServiceKey, test_page};
use crate::queue::admin::{BULK, BulkKind, Discarded, ResolvedTriggers};
use crate::queue::{
    Envelope, EventId, EventSummary, ItemId, QueueError, Reader, RejectedId, RejectedSummary, Search, State,
};
use crate::web::AppState;
use crate::web::answer::not_found;
use crate::web::auth::admin::AdminAuthError;
use crate::web::auth::peer;
use crate::web::auth::session::{FormOrigin, Session, is_https};

/// How many characters of a search text are used.
const MAX_SEARCH: usize = 200;

/// A page, or the reason why it is not shown.
type PageResult = Result<HttpResponse, UiError>;

/// The log-in form.
#[derive(Deserialize)]
pub(super) struct LogInForm {
    token: String,
    #[serde(default)]
    next: String,
}

/// The form of an action.
#[derive(Deserialize)]
pub(super) struct EntryActionForm {
    /// The newest entry that the confirmation was about, if all entries are meant.
    #[serde(default)]
    up_to: Option<i64>,
    /// Whether a trigger is sent although its incident was resolved since.
    #[serde(default)]
    force: bool,
}

/// The form of a test page.
#[derive(Deserialize)]
pub(super) struct TestPageForm {
    /// The index of the service key in [`destinations`].
    service: usize,
}

/// `GET /`: the status page.
pub(super) async fn home(user: PageRequest, request: HttpRequest, state: Data<AppState>) -> HttpResponse {
    let snapshot = state.monitor.snapshot(user.frame.at).await;
    let troubles = monitor::troubles(&snapshot, state.monitor.limits());
    let health = Health::of(&troubles);
    let reader = state.queue.reader();
    let lists = glance(&state).await.ok();
    let notice = match ActionNotice::of_query(request.query_string()) {
        Some(notice) => notice.follow(reader).await.ok(),
        None => None,
    };
    let status = StatusPage { snapshot, health, troubles, lists, notice };
    page(StatusCode::OK, overview::page(&user.frame, &status))
}

/// `GET /dead`.
pub(super) async fn dead(user: PageRequest, request: HttpRequest, state: Data<AppState>) -> PageResult {
    let letters = dead_letters(&state, before(&request), PAGE).await;
    let letters = letters.map_err(|error| user.queue_error(&error))?;
    Ok(page(StatusCode::OK, lists::dead_page(&user.frame, &letters)))
}

/// `GET /rejected`.
pub(super) async fn rejected(user: PageRequest, request: HttpRequest, state: Data<AppState>) -> PageResult {
    let webhooks = rejected_webhooks(state.queue.reader(), before(&request), PAGE).await;
    let webhooks = webhooks.map_err(|error| user.queue_error(&error))?;
    Ok(page(StatusCode::OK, lists::rejected_page(&user.frame, &webhooks)))
}

/// `GET /recent`.
pub(super) async fn recent(user: PageRequest, request: HttpRequest, state: Data<AppState>) -> PageResult {
    let text = searched(&request);
    let before = before(&request);
    let alerts = if text.is_empty() {
        recent_alerts(&state, before, PAGE).await
    } else {
        let search = Search { service_keys: keys_like(&state, &text), text: issue_of(&text).to_owned() };
        found(&state, &search, before).await
    };
    let alerts = alerts.map_err(|error| user.queue_error(&error))?;
    Ok(page(StatusCode::OK, lists::recent_page(&user.frame, &text, &alerts)))
}

/// `GET /services`.
pub(super) async fn services(user: PageRequest, state: Data<AppState>) -> HttpResponse {
    let snapshot = state.monitor.snapshot(user.frame.at).await;
    page(StatusCode::OK, services::page(&user.frame, &snapshot))
}

/// `GET /test`: asks for a confirmation before a test page is sent.
pub(super) async fn confirm_test(user: PageRequest, state: Data<AppState>) -> HttpResponse {
    page(StatusCode::OK, forms::test_page(&user.frame, &destinations(&state), state.monitor.names()))
}

/// `POST /test`: enqueues a trigger and its resolve.
pub(super) async fn send_test(user: PageRequest, form: Form<TestPageForm>, state: Data<AppState>) -> PageResult {
    let place = user.form(form)?.service;
    let unknown = || {
        let sentence = "There is no such service any more. Go back to the status page and try again.";
        user.message(StatusCode::BAD_REQUEST, "Not done", sentence)
    };
    let destination = state.ingest.destination(destinations(&state).get(place).ok_or_else(unknown)?);
    let prefix = state.ingest.incident_key_prefix();
    let events = test_page(&destination, prefix, "bridge-test", user.frame.at, "the status page");
    // In one commit: a trigger without its resolve would stay open.
    let envelopes = events.map(|event| Envelope::new(&event, user.frame.at));
    let ids = state.queue.enqueue_events(envelopes).await.map_err(|error| user.queue_error(&error))?;
    let [trigger, resolve] = ids[..] else { return Err(unknown()) };
    let notice = ActionNotice::Tested { trigger, resolve };
    info!("on the status page: a test page was enqueued as the events {trigger} and {resolve}");
    Ok(redirect(&format!("/?{}", notice.query())))
}

/// `GET /events/{id}` and `GET /rejected/{id}`.
pub(super) async fn item(user: PageRequest, request: HttpRequest, state: Data<AppState>) -> PageResult {
    let reader = state.queue.reader();
    let found = match subject(&request) {
        Some(ItemId::Event(id)) => event(&user, id, &state).await,
        Some(ItemId::Rejected(id)) => {
            let keys = state.ingest.keys();
            let webhook = reader.rejected(id).await;
            webhook.map(|webhook| Some(detail::webhook(&user.frame, id, &webhook?, &keys)))
        }
        None => Ok(None),
    };
    let found = found.map_err(|error| user.queue_error(&error))?;
    found.map(|markup| page(StatusCode::OK, markup)).ok_or_else(|| gone(&user))
}

/// An event's page; `None` when there is none with that number.
async fn event(user: &PageRequest, id: EventId, state: &AppState) -> Result<Option<Markup>, QueueError> {
    let reader = state.queue.reader();
    let Some(record) = reader.get(id).await? else { return Ok(None) };
    let proof = reader.proofs(&[id]).await?.pop();
    Ok(Some(detail::event(&user.frame, &record, state.monitor.names(), proof.as_ref())))
}

/// `GET …/discard`: asks for a confirmation before one entry is deleted.
pub(super) async fn confirm(user: PageRequest, request: HttpRequest, state: Data<AppState>) -> PageResult {
    let reader = state.queue.reader();
    let found = match subject(&request) {
        Some(ItemId::Event(id)) => reader.get(id).await.map(|record| {
            let is_dead = record.is_some_and(|record| record.summary.state == State::Dead);
            is_dead.then_some(EntryTarget::Event(id))
        }),
        Some(ItemId::Rejected(id)) => {
            reader.rejected(id).await.map(|webhook| webhook.map(|_| EntryTarget::Rejected(id)))
        }
        None => Ok(None),
    };
    let found = found.map_err(|error| user.queue_error(&error))?;
    let subject = found.ok_or_else(|| gone(&user))?;
    Ok(page(StatusCode::OK, forms::confirm(&user.frame, subject, 1, None)))
}

/// `GET /dead/discard` and `GET /rejected/discard`: asks for a confirmation before all entries are deleted.
pub(super) async fn confirm_all(user: PageRequest, request: HttpRequest, state: Data<AppState>) -> PageResult {
    let kind = bulk_kind(&request);
    let ids = kind.ids(state.queue.reader(), BULK).await.map_err(|error| user.queue_error(&error))?;
    let subject = match kind {
        BulkKind::Dead => EntryTarget::DeadLetters,
        BulkKind::Rejected => EntryTarget::AllRejected,
    };
    let Some(newest) = ids.iter().map(number).max() else {
        let sentence = "There are none left. They may have been retried or discarded already.";
        return Err(user.message(StatusCode::NOT_FOUND, "Not found", sentence));
    };
    Ok(page(StatusCode::OK, forms::confirm(&user.frame, subject, ids.len() as u64, Some(newest))))
}

/// `POST /events/{id}/retry` and `POST /rejected/{id}/retry`.
pub(super) async fn retry(
    user: PageRequest,
    form: Form<EntryActionForm>,
    request: HttpRequest,
    state: Data<AppState>,
) -> PageResult {
    let resolved = if user.form(form)?.force { ResolvedTriggers::Requeue } else { ResolvedTriggers::Skip };
    let ids: Vec<_> = subject(&request).into_iter().collect();
    done(
        &user,
        &request,
        state.queue_admin.retry(&ids, resolved).await.map(|outcomes| ActionNotice::retried(&outcomes)),
    )
}

/// `POST /dead/retry` and `POST /rejected/retry`.
pub(super) async fn retry_all(
    user: PageRequest,
    form: Form<EntryActionForm>,
    request: HttpRequest,
    state: Data<AppState>,
) -> PageResult {
    user.form(form)?;
    let outcomes = state.queue_admin.retry_all(&[bulk_kind(&request)], ResolvedTriggers::Skip).await;
    done(&user, &request, outcomes.map(|outcomes| ActionNotice::retried(&outcomes)))
}

/// `POST /events/{id}/discard` and `POST /rejected/{id}/discard`.
pub(super) async fn discard(
    user: PageRequest,
    form: Form<EntryActionForm>,
    request: HttpRequest,
    state: Data<AppState>,
) -> PageResult {
    user.form(form)?;
    let ids: Vec<_> = subject(&request).into_iter().collect();
    let outcomes = state.queue_admin.discard(&ids, Some(State::Dead)).await;
    done(&user, &request, outcomes.map(|outcomes| discarded(&outcomes)))
}

/// `POST /dead/discard` and `POST /rejected/discard`: only what the confirmation was about, not what was added since.
pub(super) async fn discard_all(
    user: PageRequest,
    form: Form<EntryActionForm>,
    request: HttpRequest,
    state: Data<AppState>,
) -> PageResult {
    let up_to = user.form(form)?.up_to;
    let ids = bulk_kind(&request).ids(state.queue.reader(), BULK).await;
    let mut ids = ids.map_err(|error| user.queue_error(&error))?;
    ids.retain(|id| up_to.is_some_and(|newest| number(id) <= newest));
    let outcomes = state.queue_admin.discard(&ids, Some(State::Dead)).await;
    done(&user, &request, outcomes.map(|outcomes| discarded(&outcomes)))
}

/// `POST /login`.
pub(super) async fn log_in(request: HttpRequest, form: Form<LogInForm>, state: Data<AppState>) -> HttpResponse {
    if !state.admin.is_enabled() {
        return not_found();
    }
    let now = Utc::now();
    let next = form.0.as_ref().map_or("/", |form| own_path(&form.next));
    let again =
        |status, problem: &str| page(status, forms::log_in(&PageFrame { at: now, footer: None }, next, Some(problem)));
    let Some(form) = &form.0 else {
        return again(StatusCode::BAD_REQUEST, "The form has no token.");
    };
    // A client that does not say where the form is from may log in, because the token is what counts here.
    if FormOrigin::of(request.headers()) == FormOrigin::Other {
        return again(StatusCode::FORBIDDEN, "The form was not sent from this page. Try again here.");
    }
    match state.admin.log_in(&form.token, peer(&request), now, rand::random()) {
        Ok(session) => with_cookie(redirect(next), &session.cookie(is_https(request.headers()))),
        Err(AdminAuthError::Missing | AdminAuthError::Wrong) => again(StatusCode::UNAUTHORIZED, "The token is wrong."),
        Err(AdminAuthError::Limited(wait)) => {
            let seconds = wait.as_secs() + 1;
            let problem = format!("Too many wrong tokens. Wait for {seconds} s and try again.");
            let mut answer = again(StatusCode::TOO_MANY_REQUESTS, &problem);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            answer
        }
    }
}

/// `POST /logout`.
pub(super) async fn log_out(user: PageRequest, state: Data<AppState>) -> HttpResponse {
    state.admin.log_out(&user.session);
    with_cookie(redirect("/"), &Session::end())
}

/// `GET /assets/{name}`.
pub(super) async fn asset(request: HttpRequest, state: Data<AppState>) -> HttpResponse {
    match asset_at(request.path()).filter(|_| state.admin.is_enabled()) {
        Some(asset) => HttpResponse::Ok()
            .content_type(asset.media_type)
            .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(asset.contents),
        None => not_found(),
    }
}

/// Redirects to the status page, which says what was done.
fn done(user: &PageRequest, request: &HttpRequest, notice: Result<ActionNotice, QueueError>) -> PageResult {
    let notice = notice.map_err(|error| user.queue_error(&error))?;
    info!("on the status page: {}: {notice:?}", request.path());
    Ok(redirect(&format!("/?{}", notice.query())))
}

fn discarded(outcomes: &[(ItemId, Discarded)]) -> ActionNotice {
    ActionNotice::Discarded(outcomes.iter().filter(|(_, outcome)| *outcome == Discarded::Gone).count() as u64)
}

fn with_cookie(mut answer: HttpResponse, cookie: &str) -> HttpResponse {
    // A session's cookie has only characters that are allowed in a header.
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}

async fn glance(state: &AppState) -> Result<StatusLists, QueueError> {
    Ok(StatusLists {
        dead: dead_letters(state, None, GLANCE).await?,
        rejected: rejected_webhooks(state.queue.reader(), None, GLANCE).await?,
        recent: recent_alerts(state, None, GLANCE).await?,
    })
}

async fn dead_letters(state: &AppState, before: Option<i64>, size: u32) -> Result<Listing<EventEntry>, QueueError> {
    let letters = state.queue.reader().list(State::Dead, before.map(EventId::new), size + 1).await?;
    Ok(with_context(state, Listing::of(letters, size, |letter| letter.id.get())).await)
}

/// Adds to each event the origin of its alert and its proof. Data that cannot be read is left out.
async fn with_context(state: &AppState, listing: Listing<EventSummary>) -> Listing<EventEntry> {
    let (reader, names) = (state.queue.reader(), state.monitor.names());
    let ids: Vec<_> = listing.entries.iter().map(|event| event.id).collect();
    let (mut bodies, mut proofs) = (HashMap::new(), HashMap::new());
    if !ids.is_empty() {
        bodies = reader.bodies(&ids).await.unwrap_or_default();
        let known = reader.proofs(&ids).await.unwrap_or_default();
        proofs.extend(known.into_iter().map(|proof| (proof.event, proof)));
    }
    let shown = |event: EventSummary| EventEntry {
        origin: bodies.get(&event.id).map(|body| SentryOrigin::of_body(body)).unwrap_or_default(),
        service: names.get(&event.service_key),
        proof: proofs.remove(&event.id),
        event,
    };
    Listing { entries: listing.entries.into_iter().map(shown).collect(), older: listing.older }
}

async fn found(state: &AppState, search: &Search, before: Option<i64>) -> Result<Listing<EventEntry>, QueueError> {
    let found = state.queue.reader().search(search, before.map(EventId::new), PAGE).await?;
    let listing = Listing { entries: found.events, older: found.searched_to.map(EventId::get) };
    Ok(with_context(state, listing).await)
}

async fn rejected_webhooks(
    reader: &Reader,
    before: Option<i64>,
    size: u32,
) -> Result<Listing<RejectedSummary>, QueueError> {
    let webhooks = reader.rejected_list(before.map(RejectedId::new), size + 1).await?;
    Ok(Listing::of(webhooks, size, |webhook| webhook.id.get()))
}

async fn recent_alerts(state: &AppState, before: Option<i64>, size: u32) -> Result<Listing<EventEntry>, QueueError> {
    let alerts = state.queue.reader().recent(before.map(EventId::new), size + 1).await?;
    Ok(with_context(state, Listing::of(alerts, size, |alert| alert.id.get())).await)
}

/// The service keys that a test page may go to, the default one first.
fn destinations(state: &AppState) -> Vec<ServiceKey> {
    // The default key is the first of them.
    state.ingest.keys()
}

/// The service keys in use whose masked form or name contains this text.
fn keys_like(state: &AppState, text: &str) -> Vec<ServiceKey> {
    if text.chars().count() < 4 {
        return Vec::new();
    }
    let (names, lowercase) = (state.monitor.names(), text.to_lowercase());
    let is_named = |key: &ServiceKey| names.get(key).is_some_and(|name| name.to_lowercase().contains(&lowercase));
    let matches = |key: &ServiceKey| key.to_string().contains(text) || is_named(key);
    state.ingest.keys().into_iter().filter(matches).collect()
}

/// The number of the issue if the text is the URL of an issue in Sentry, otherwise the text itself.
fn issue_of(text: &str) -> &str {
    let rest = text.split_once("/issues/").map(|(_, rest)| rest);
    let number = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    number.filter(|number| text.starts_with("http") && !number.is_empty()).unwrap_or(text)
}

/// The text to search for; empty if there is none.
fn searched(request: &HttpRequest) -> String {
    let mut parameters = form_urlencoded::parse(request.query_string().as_bytes());
    let text = parameters.find(|(name, _)| name == "q").map(|(_, text)| text.trim().to_owned()).unwrap_or_default();
    text.chars().take(MAX_SEARCH).collect()
}

fn gone(user: &PageRequest) -> UiError {
    let sentence = "There is no entry with this number. It may have been retried or discarded already.";
    user.message(StatusCode::NOT_FOUND, "Not found", sentence)
}

/// The item that the path names: `/events/7` or `/rejected/r7`.
fn subject(request: &HttpRequest) -> Option<ItemId> {
    let id = request.match_info().get("id")?.parse().ok()?;
    let is_event = request.path().starts_with("/events/");
    (matches!(id, ItemId::Event(_)) == is_event).then_some(id)
}

/// Which list the path names: `/dead/…` or `/rejected/…`.
fn bulk_kind(request: &HttpRequest) -> BulkKind {
    if request.path().starts_with("/dead") { BulkKind::Dead } else { BulkKind::Rejected }
}

/// The number of an item, without its kind.
fn number(id: &ItemId) -> i64 {
    match id {
        ItemId::Event(id) => id.get(),
        ItemId::Rejected(id) => id.get(),
    }
}

/// The number of the entry after which a list continues.
fn before(request: &HttpRequest) -> Option<i64> {
    in_query(request, "before")
}

fn in_query<T: std::str::FromStr>(request: &HttpRequest, name: &str) -> Option<T> {
    let mut pairs = form_urlencoded::parse(request.query_string().as_bytes());
    pairs.find(|(other, _)| other == name)?.1.parse().ok()
}
