//! The answers to those who look.

use chrono::{DateTime, Utc};

use super::page::Page;
use super::shape::{Activity, Events, Rejected, Status};
use super::{Failure, Shared, written};
use crate::monitor::{Word, judge};
use crate::queue::json::{ItemDetails, ItemSummary, ServiceKeys};
use crate::queue::{EventId, ItemId, RejectedId};

pub(super) async fn status(shared: &Shared, now: DateTime<Utc>) -> String {
    let facts = shared.watch.facts(now).await;
    let troubles = judge(&facts, shared.watch.limits());
    written(&Status::of(&facts, &troubles, Word::of(&troubles)))
}

pub(super) fn activity(shared: &Shared, now: DateTime<Utc>) -> String {
    written(&Activity::of(&shared.metrics.snapshot(now).activity))
}

pub(super) async fn events(shared: &Shared, query: &str) -> Result<String, Failure> {
    let page = Page::parse(query, &["state", "after", "limit"])?;
    let after = page.after_event()?;
    let reader = shared.queue.reader();
    // One more than asked for tells whether there are more.
    let found = match page.state {
        Some(state) => reader.list(state, after, page.limit + 1).await?,
        None => reader.recent(after, page.limit + 1).await?,
    };
    let rows = found.into_iter().map(|event| ItemSummary::of_event(event, ServiceKeys::Masked)).collect();
    let (events, next) = cut(rows, page.limit);
    Ok(written(&Events { events, next }))
}

pub(super) async fn all_rejected(shared: &Shared, query: &str) -> Result<String, Failure> {
    let page = Page::parse(query, &["after", "limit"])?;
    let found = shared.queue.reader().rejected_list(page.after_rejected()?, page.limit + 1).await?;
    let (rejected, next) = cut(found.into_iter().map(ItemSummary::of_rejected).collect(), page.limit);
    Ok(written(&Rejected { rejected, next }))
}

/// At most `limit` rows, and what to read on behind if there are more.
fn cut(mut rows: Vec<ItemSummary>, limit: u32) -> (Vec<ItemSummary>, Option<String>) {
    let limit = limit as usize;
    let next = (rows.len() > limit).then(|| rows[limit - 1].id.clone());
    rows.truncate(limit);
    (rows, next)
}

pub(super) async fn event(shared: &Shared, id: &str) -> Result<String, Failure> {
    let id = event_id(id)?;
    let record = shared.queue.reader().get(id).await?.ok_or_else(|| not_there(ItemId::Event(id)))?;
    Ok(written(&ItemDetails::of_event(record, ServiceKeys::Masked)))
}

pub(super) async fn rejected(shared: &Shared, id: &str) -> Result<String, Failure> {
    let id = rejected_id(id)?;
    let webhook = shared.queue.reader().rejected(id).await?.ok_or_else(|| not_there(ItemId::Rejected(id)))?;
    Ok(written(&ItemDetails::of_rejected(id, webhook, &shared.ingest.keys().into_iter().cloned().collect::<Vec<_>>())))
}

/// The number of an event in an address.
pub(super) fn event_id(text: &str) -> Result<EventId, Failure> {
    match text.parse() {
        Ok(ItemId::Event(id)) => Ok(id),
        _ => Err(Failure::missing("this is no number of an event: events are numbered like `7`")),
    }
}

/// The number of a rejected webhook in an address.
pub(super) fn rejected_id(text: &str) -> Result<RejectedId, Failure> {
    match text.parse() {
        Ok(ItemId::Rejected(id)) => Ok(id),
        _ => Err(Failure::missing("this is no number of a rejected webhook: they are numbered like `r7`")),
    }
}

pub(super) fn not_there(id: ItemId) -> Failure {
    Failure::missing(format!("the queue has nothing with the number {id}"))
}
