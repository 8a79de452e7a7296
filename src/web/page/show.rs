//! Answers every `GET` of a page.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use log::warn;
use url::form_urlencoded;

use super::forms::Subject;
use super::view::{GLANCE, Listing, Lists, Notice, PAGE, Status};
use super::visit::Visit;
use super::{answer, assets, detail, forms, letters, overview, recent, rejected};
use crate::monitor::{self, Word};
use crate::pagerduty::ServiceKey;
use crate::queue::admin::{BULK, BulkKind};
use crate::queue::{EventId, ItemId, QueueError, Reader, RejectedId, RejectedSummary, State, Summary};
use crate::web::{Shared, nothing_here};

/// `GET /`: the status page.
pub(super) async fn home(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    let visit = match Visit::of(&request, &shared) {
        Ok(visit) => visit,
        Err(answer) => return *answer,
    };
    let facts = shared.watch.facts(visit.at).await;
    let troubles = monitor::judge(&facts, shared.watch.limits());
    let word = Word::of(&troubles);
    let lists = lists(shared.queue.reader()).await;
    let notice = notice(&request);
    let status = Status { facts, word, troubles, lists: lists.ok(), notice };
    answer::page(StatusCode::OK, overview::page(&visit.frame, &status))
}

async fn lists(reader: &Reader) -> Result<Lists, QueueError> {
    Ok(Lists {
        dead: dead_letters(reader, None, GLANCE).await?,
        rejected: rejected_webhooks(reader, None, GLANCE).await?,
        recent: recent_alerts(reader, None, GLANCE).await?,
    })
}

async fn dead_letters(reader: &Reader, before: Option<i64>, size: u32) -> Result<Listing<Summary>, QueueError> {
    let letters = reader.list(State::Dead, before.map(EventId::new), size + 1).await?;
    Ok(Listing::of(letters, size, |letter| letter.id.get()))
}

async fn rejected_webhooks(
    reader: &Reader,
    before: Option<i64>,
    size: u32,
) -> Result<Listing<RejectedSummary>, QueueError> {
    let webhooks = reader.rejected_list(before.map(RejectedId::new), size + 1).await?;
    Ok(Listing::of(webhooks, size, |webhook| webhook.id.get()))
}

async fn recent_alerts(reader: &Reader, before: Option<i64>, size: u32) -> Result<Listing<Summary>, QueueError> {
    let alerts = reader.recent(before.map(EventId::new), size + 1).await?;
    Ok(Listing::of(alerts, size, |alert| alert.id.get()))
}

/// `GET /dead`.
pub(super) async fn dead(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    looking(&request, &shared, async |visit| {
        let letters = dead_letters(shared.queue.reader(), before(&request), PAGE).await?;
        Ok(answer::page(StatusCode::OK, letters::page(&visit.frame, &letters)))
    })
    .await
}

/// `GET /rejected`.
pub(super) async fn rejected(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    looking(&request, &shared, async |visit| {
        let webhooks = rejected_webhooks(shared.queue.reader(), before(&request), PAGE).await?;
        Ok(answer::page(StatusCode::OK, rejected::page(&visit.frame, &webhooks)))
    })
    .await
}

/// `GET /recent`.
pub(super) async fn recent(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    looking(&request, &shared, async |visit| {
        let alerts = recent_alerts(shared.queue.reader(), before(&request), PAGE).await?;
        Ok(answer::page(StatusCode::OK, recent::page(&visit.frame, &alerts)))
    })
    .await
}

/// `GET /events/{id}` and `GET /rejected/{id}`.
pub(super) async fn item(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    looking(&request, &shared, async |visit| {
        let reader = shared.queue.reader();
        let page = match subject(&request) {
            Some(ItemId::Event(id)) => reader.get(id).await?.map(|record| detail::event(&visit.frame, &record)),
            Some(ItemId::Rejected(id)) => {
                let keys: Vec<ServiceKey> = shared.ingest.keys().into_iter().cloned().collect();
                reader.rejected(id).await?.map(|webhook| detail::webhook(&visit.frame, id, &webhook, &keys))
            }
            None => None,
        };
        Ok(page.map_or_else(|| gone(visit), |page| answer::page(StatusCode::OK, page)))
    })
    .await
}

/// `GET …/discard`: asks whether one is to be deleted.
pub(super) async fn ask(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    looking(&request, &shared, async |visit| {
        let reader = shared.queue.reader();
        let subject = match subject(&request) {
            Some(ItemId::Event(id)) => {
                let found = reader.get(id).await?.filter(|record| record.state == State::Dead);
                found.map(|_| Subject::Event(id))
            }
            Some(ItemId::Rejected(id)) => reader.rejected(id).await?.map(|_| Subject::Rejected(id)),
            None => None,
        };
        Ok(match subject {
            Some(subject) => answer::page(StatusCode::OK, forms::confirm(&visit.frame, subject, 1, None)),
            None => gone(visit),
        })
    })
    .await
}

/// `GET /dead/discard` and `GET /rejected/discard`: asks whether all of them are to be deleted.
pub(super) async fn ask_all(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    looking(&request, &shared, async |visit| {
        let heap = heap(&request);
        let ids = heap.ids(shared.queue.reader(), BULK).await?;
        let subject = match heap {
            BulkKind::Dead => Subject::DeadLetters,
            BulkKind::Rejected => Subject::AllRejected,
        };
        // Somebody else may have seen to all of them meanwhile.
        let Some(newest) = ids.iter().map(number).max() else {
            return Ok(visit.say(StatusCode::NOT_FOUND, "Not here", "None is left. They may be settled already."));
        };
        Ok(answer::page(StatusCode::OK, forms::confirm(&visit.frame, subject, ids.len() as u64, Some(newest))))
    })
    .await
}

/// `GET /assets/{name}`.
pub(super) async fn asset(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    match assets::at(request.path()).filter(|_| shared.admin.exists()) {
        Some(asset) => HttpResponse::Ok()
            .content_type(asset.media_type)
            .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(asset.contents),
        None => nothing_here(),
    }
}

/// Answers somebody who is logged in, and says so when the queue cannot be read.
async fn looking(
    request: &HttpRequest,
    shared: &Shared,
    look: impl AsyncFnOnce(&Visit) -> Result<HttpResponse, QueueError>,
) -> HttpResponse {
    match Visit::of(request, shared) {
        Ok(visit) => look(&visit).await.unwrap_or_else(|error| failed(&visit, &error)),
        Err(answer) => *answer,
    }
}

/// The queue could not do it.
pub(super) fn failed(visit: &Visit, error: &QueueError) -> HttpResponse {
    warn!("the status page has nothing to show: {error}");
    visit.say(StatusCode::SERVICE_UNAVAILABLE, "The queue cannot be used", &error.to_string())
}

fn gone(visit: &Visit) -> HttpResponse {
    visit.say(
        StatusCode::NOT_FOUND,
        "Not here",
        "There is nothing with this number any more. It may be settled already.",
    )
}

/// What the path names: `/events/7` or `/rejected/r7`.
pub(super) fn subject(request: &HttpRequest) -> Option<ItemId> {
    let id = request.match_info().get("id")?.parse().ok()?;
    let is_event = request.path().starts_with("/events/");
    (matches!(id, ItemId::Event(_)) == is_event).then_some(id)
}

/// What the path means as a whole: `/dead/…` or `/rejected/…`.
pub(super) fn heap(request: &HttpRequest) -> BulkKind {
    if request.path().starts_with("/dead") { BulkKind::Dead } else { BulkKind::Rejected }
}

/// The number alone.
pub(super) fn number(id: &ItemId) -> i64 {
    match id {
        ItemId::Event(id) => id.get(),
        ItemId::Rejected(id) => id.get(),
    }
}

/// Behind which entry a list goes on.
fn before(request: &HttpRequest) -> Option<i64> {
    in_query(request, "before")
}

fn notice(request: &HttpRequest) -> Option<Notice> {
    let name: String = in_query(request, "notice")?;
    Notice::of(&name, in_query(request, "done").unwrap_or(0), in_query(request, "left").unwrap_or(0))
}

fn in_query<T: std::str::FromStr>(request: &HttpRequest, name: &str) -> Option<T> {
    let mut pairs = form_urlencoded::parse(request.query_string().as_bytes());
    pairs.find(|(other, _)| other == name)?.1.parse().ok()
}
