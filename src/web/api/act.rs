//! Retry and discard.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::web::Payload;
use log::info;
use serde::Deserialize;

use super::look::{event_id, rejected_id};
use super::operation::Operation;
use super::page::{parameters, state};
use super::shape::{Left, Outcome, Outcomes};
use super::{Failure, Shared, written};
use crate::queue::ItemId;
use crate::queue::admin::{BULK, BulkKind, Resolved};
use crate::web::body::{self, BodyError};

/// The longest selection that is read, in bytes: [`BULK`] of the longest numbers take less than half of it.
const MAX_SELECTION: usize = 64 * 1024;

/// What a request is about.
#[derive(Debug, Eq, PartialEq)]
enum Selection {
    /// These.
    Ids(Vec<ItemId>),
    /// All of these heaps, at most [`BULK`] of each.
    All(Vec<BulkKind>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Selected {
    ids: Option<Vec<String>>,
    all: Option<Vec<String>>,
    force: Option<bool>,
}

pub(super) async fn retry(shared: &Shared, operation: Operation, id: &str, query: &str) -> Result<String, Failure> {
    let id = item(operation, id)?;
    let names: &[&str] = if operation == Operation::RetryEvent { &["force"] } else { &[] };
    let mut force = false;
    for (_, word) in parameters(query, names)? {
        force = word.parse().map_err(|_| Failure::bad("force is true or false"))?;
    }
    let outcomes = shared.upkeep.retry(&[id], resolved(force)).await?;
    one(outcomes.into_iter().map(|(id, outcome)| Outcome::retried(id, outcome)))
}

pub(super) async fn discard(shared: &Shared, operation: Operation, id: &str, query: &str) -> Result<String, Failure> {
    let id = item(operation, id)?;
    let names: &[&str] = if operation == Operation::DiscardEvent { &["state"] } else { &[] };
    let mut only = None;
    for (_, word) in parameters(query, names)? {
        only = Some(state(&word)?);
    }
    let outcomes = shared.upkeep.discard(&[id], only).await?;
    one(outcomes.into_iter().map(|(id, outcome)| Outcome::discarded(id, outcome)))
}

pub(super) async fn retry_many(request: &HttpRequest, payload: Payload, shared: &Shared) -> Result<String, Failure> {
    let (selection, force) = selection(request, payload).await?;
    let resolved = resolved(force.unwrap_or(false));
    let outcomes = match selection {
        Selection::Ids(ids) => shared.upkeep.retry(&ids, resolved).await?,
        Selection::All(heaps) => shared.upkeep.retry_all(&heaps, resolved).await?,
    };
    info!("/api retried {}", outcomes.len());
    many(shared, outcomes.into_iter().map(|(id, outcome)| Outcome::retried(id, outcome)).collect()).await
}

pub(super) async fn discard_many(request: &HttpRequest, payload: Payload, shared: &Shared) -> Result<String, Failure> {
    let (selection, force) = selection(request, payload).await?;
    if force.is_some() {
        return Err(Failure::bad("force is for /api/retry"));
    }
    let outcomes = match selection {
        Selection::Ids(ids) => shared.upkeep.discard(&ids, None).await?,
        Selection::All(heaps) => shared.upkeep.discard_all(&heaps).await?,
    };
    info!("/api discarded {}", outcomes.len());
    many(shared, outcomes.into_iter().map(|(id, outcome)| Outcome::discarded(id, outcome)).collect()).await
}

fn resolved(force: bool) -> Resolved {
    if force { Resolved::Sent } else { Resolved::Kept }
}

fn item(operation: Operation, id: &str) -> Result<ItemId, Failure> {
    match operation {
        Operation::RetryRejected | Operation::DiscardRejected => rejected_id(id).map(ItemId::Rejected),
        _ => event_id(id).map(ItemId::Event),
    }
}

/// The outcome for one thing: an error where it was not done.
fn one(mut outcomes: impl Iterator<Item = Outcome>) -> Result<String, Failure> {
    let outcome = outcomes.next().ok_or_else(|| Failure::missing("the queue has nothing with this number"))?;
    let status = match outcome.became {
        "not_there" => StatusCode::NOT_FOUND,
        "no_dead_letter" | "resolved_since" | "triggered_anew" | "still_rejected" | "changed" => StatusCode::CONFLICT,
        done => {
            info!("/api: {} {done}", outcome.id);
            return Ok(written(&outcome));
        }
    };
    Err(Failure::new(status, outcome.reason.unwrap_or_default()))
}

async fn many(shared: &Shared, results: Vec<Outcome>) -> Result<String, Failure> {
    let now = shared.queue.reader().overview().await?;
    Ok(written(&Outcomes { results, left: Left { dead: now.dead, rejected: now.rejected } }))
}

/// What is selected, and whether somebody insists.
async fn selection(request: &HttpRequest, mut payload: Payload) -> Result<(Selection, Option<bool>), Failure> {
    let body = body::read(request, &mut payload, MAX_SELECTION, None).await.map_err(|error| match error {
        BodyError::TooLarge(_) => Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the selection is larger than {MAX_SELECTION} bytes: select fewer"),
        ),
        BodyError::TooSlow => Failure::new(StatusCode::REQUEST_TIMEOUT, error.to_string()),
        BodyError::Broken | BodyError::Crowded => Failure::bad(error.to_string()),
    })?;
    select(&body)
}

/// Reads a selection: numbers, or whole heaps.
fn select(body: &[u8]) -> Result<(Selection, Option<bool>), Failure> {
    let hint = "select with {\"ids\":[\"7\",\"r7\"]} or with {\"all\":[\"dead\",\"rejected\"]}";
    let selected: Selected = serde_json::from_slice(body).map_err(|error| Failure::bad(format!("{hint}: {error}")))?;
    match (selected.ids, selected.all) {
        (Some(ids), None) => {
            if ids.len() as u64 > BULK {
                return Err(Failure::bad(format!("at most {BULK} are taken at once")));
            }
            let ids = ids.iter().map(|id| id.parse().map_err(|error| Failure::bad(format!("ids: {error}"))));
            Ok((Selection::Ids(ids.collect::<Result<_, _>>()?), selected.force))
        }
        (None, Some(words)) => {
            let mut heaps = Vec::new();
            for word in &words {
                let heap = BulkKind::parse(word).ok_or_else(|| Failure::bad("all: name dead, rejected or both"))?;
                if !heaps.contains(&heap) {
                    heaps.push(heap);
                }
            }
            Ok((Selection::All(heaps), selected.force))
        }
        _ => Err(Failure::bad(hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{EventId, RejectedId};

    #[test]
    fn a_selection_names_numbers_or_heaps() {
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
            assert_eq!(select(body.as_bytes()).unwrap_err().status, 400, "{body}");
        }
    }
}
