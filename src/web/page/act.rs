//! Answers every `POST` of a form that changes the queue.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use log::info;

use super::answer;
use super::enter::Proof;
use super::sent::Sent;
use super::show::{failed, heap, number, subject};
use super::view::Notice;
use super::visit::Visit;
use crate::queue::admin::{BULK, Discarded, Outcomes, Resolved, Retried};
use crate::queue::{ItemId, QueueError, State};
use crate::web::Shared;

/// `POST /events/{id}/retry` and `POST /rejected/{id}/retry`.
pub(super) async fn retry(request: HttpRequest, Sent(form): Sent<Proof>, shared: Data<Shared>) -> HttpResponse {
    acting(&request, form.as_ref(), &shared, async || {
        let ids: Vec<_> = subject(&request).into_iter().collect();
        let insists = form.as_ref().is_some_and(|form| form.force);
        let resolved = if insists { Resolved::Sent } else { Resolved::Kept };
        shared.upkeep.retry(&ids, resolved).await.map(|outcomes| retried(&outcomes))
    })
    .await
}

/// `POST /dead/retry` and `POST /rejected/retry`.
pub(super) async fn retry_all(request: HttpRequest, Sent(form): Sent<Proof>, shared: Data<Shared>) -> HttpResponse {
    acting(&request, form.as_ref(), &shared, async || {
        shared.upkeep.retry_all(&[heap(&request)], Resolved::Kept).await.map(|outcomes| retried(&outcomes))
    })
    .await
}

/// `POST /events/{id}/discard` and `POST /rejected/{id}/discard`.
pub(super) async fn discard(request: HttpRequest, Sent(form): Sent<Proof>, shared: Data<Shared>) -> HttpResponse {
    acting(&request, form.as_ref(), &shared, async || {
        let ids: Vec<_> = subject(&request).into_iter().collect();
        shared.upkeep.discard(&ids, Some(State::Dead)).await.map(|outcomes| discarded(&outcomes))
    })
    .await
}

/// `POST /dead/discard` and `POST /rejected/discard`: only those that stood there when somebody was asked.
pub(super) async fn discard_all(request: HttpRequest, Sent(form): Sent<Proof>, shared: Data<Shared>) -> HttpResponse {
    let up_to = form.as_ref().and_then(|form| form.up_to);
    acting(&request, form.as_ref(), &shared, async || {
        let mut ids = heap(&request).ids(shared.queue.reader(), BULK).await?;
        ids.retain(|id| up_to.is_some_and(|newest| number(id) <= newest));
        shared.upkeep.discard(&ids, Some(State::Dead)).await.map(|outcomes| discarded(&outcomes))
    })
    .await
}

/// Does it for somebody whose form proves it, and leads back to the status page.
async fn acting(
    request: &HttpRequest,
    form: Option<&Proof>,
    shared: &Shared,
    act: impl AsyncFnOnce() -> Result<Notice, QueueError>,
) -> HttpResponse {
    let visit = match Visit::of_form(request, shared, form.map(|form| form.csrf.as_str())) {
        Ok(visit) => visit,
        Err(answer) => return *answer,
    };
    match act().await {
        Ok(notice) => {
            info!("on the status page: {}: {notice:?}", request.path());
            answer::see(&format!("/?{}", notice.query()))
        }
        Err(error) => failed(&visit, &error),
    }
}

fn retried(outcomes: &Outcomes<Retried>) -> Notice {
    let done = outcomes.iter().filter(|(_, outcome)| outcome.is_well()).count();
    Notice::Retried { done: done as u64, left: (outcomes.len() - done) as u64 }
}

fn discarded(outcomes: &[(ItemId, Discarded)]) -> Notice {
    Notice::Discarded(outcomes.iter().filter(|(_, outcome)| *outcome == Discarded::Gone).count() as u64)
}
