//! What people do about failures: they requeue dead letters, map rejected webhooks again, and delete what is not
//! wanted. The command `queue`, the status page and `/api` all use this module.
//!
//! - [`Editor`]: changes the queue from outside
//! - [`retry`]: dead letters and rejected webhooks are tried again
//! - [`discard`]: both are deleted, which cannot be undone
//! - [`admission`]: held webhooks are admitted once a secret verifies them, or expire
//! - [`QueueAdmin`]: all of it, for a running bridge

pub mod admission;
pub mod discard;
mod editor;
pub mod retry;

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

pub use super::event::ResolvedTriggers;
pub use admission::Admitted;
pub use discard::{Deletion, Discarded};
pub use editor::Editor;
pub use retry::Retried;

use super::{EventId, ItemId, Queue, QueueError, Reader, RejectedId, State};
use crate::config::SigningSecret;
use crate::ingest::Ingest;

/// How many items of one kind a bulk action covers at most. That includes every rejected webhook, but there may be more
/// dead letters.
pub const BULK: u64 = 1_000;

/// What a bulk action applies to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BulkKind {
    /// Dead letters.
    Dead,
    /// Rejected webhooks.
    Rejected,
}

impl BulkKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Dead, Self::Rejected];

    /// Its name in `/api`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Rejected => "rejected",
        }
    }

    /// Parses that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns the oldest `limit` items of this kind.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn ids(self, reader: &Reader, limit: u64) -> Result<Vec<ItemId>, QueueError> {
        Ok(match self {
            Self::Dead => reader.ids(State::Dead, limit).await?.into_iter().map(ItemId::Event).collect(),
            Self::Rejected => {
                let webhooks = reader.rejected_summaries(limit).await?;
                webhooks.into_iter().map(|webhook| ItemId::Rejected(webhook.id)).collect()
            }
        })
    }
}

/// Returns each number once, with events separated from rejected webhooks.
#[must_use]
pub fn sorted(ids: &[ItemId]) -> (Vec<EventId>, Vec<RejectedId>) {
    let mut seen = HashSet::new();
    let (mut events, mut webhooks) = (Vec::new(), Vec::new());
    for id in ids.iter().filter(|id| seen.insert(**id)) {
        match id {
            ItemId::Event(id) => events.push(*id),
            ItemId::Rejected(id) => webhooks.push(*id),
        }
    }
    (events, webhooks)
}

/// Changes the queue of a running bridge, which notices within about a second. Clones take turns.
#[derive(Clone, Debug)]
pub struct QueueAdmin {
    queue: Queue,
    ingest: Ingest,
    /// Two clones that write at the same time would only wait for each other in SQLite, with a timeout.
    turn: Arc<Mutex<()>>,
}

impl QueueAdmin {
    /// Changes this queue, and maps rejected webhooks with `ingest`.
    #[must_use]
    pub fn new(queue: Queue, ingest: Ingest) -> Self {
        Self { queue, ingest, turn: Arc::default() }
    }

    /// Retries each of `ids` once, and returns the outcome of each: events first, then webhooks. `resolved` says whether
    /// triggers whose incident was resolved since are retried.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn retry(
        &self,
        ids: &[ItemId],
        resolved: ResolvedTriggers,
    ) -> Result<Vec<(ItemId, Retried)>, QueueError> {
        self.edit(async |editor| retry::retry(editor, &self.ingest, ids, resolved).await).await
    }

    /// Retries the oldest [`BULK`] items of each of `kinds`. `resolved` says whether triggers whose incident was
    /// resolved since are retried.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn retry_all(
        &self,
        kinds: &[BulkKind],
        resolved: ResolvedTriggers,
    ) -> Result<Vec<(ItemId, Retried)>, QueueError> {
        self.edit(async |editor| {
            let ids = of(kinds, editor.reader()).await?;
            retry::retry(editor, &self.ingest, &ids, resolved).await
        })
        .await
    }

    /// Permanently deletes `ids`. If `only` is given, an event is deleted only if it is in that state.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn discard(&self, ids: &[ItemId], only: Option<State>) -> Result<Vec<(ItemId, Discarded)>, QueueError> {
        self.edit(async |editor| discard::discard(editor, ids, only).await).await
    }

    /// Permanently deletes the oldest [`BULK`] items of each of `kinds`.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn discard_all(&self, kinds: &[BulkKind]) -> Result<Vec<(ItemId, Discarded)>, QueueError> {
        self.edit(async |editor| {
            let ids = of(kinds, editor.reader()).await?;
            discard::discard(editor, &ids, Some(State::Dead)).await
        })
        .await
    }

    /// Admits the held webhooks that any of `secrets` verifies, in the order in which they were received, except those
    /// that have expired at `now`.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed. Webhooks that were admitted are no longer held.
    pub async fn admit_held(&self, secrets: &[SigningSecret], now: DateTime<Utc>) -> Result<Admitted, QueueError> {
        let mut held = self.queue.recount_held().await?;
        held.retain(|held| !held.is_expired(now));
        if held.is_empty() {
            return Ok(Admitted::default());
        }
        let admitted =
            self.edit(async |editor| admission::admit(editor, &self.queue, &self.ingest, secrets, &held).await).await;
        self.queue.recount_held().await?;
        admitted
    }

    /// Deletes the held webhooks that have expired at `now`, and returns how many were deleted.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn expire_held(&self, now: DateTime<Utc>) -> Result<u64, QueueError> {
        let held = self.queue.recount_held().await?;
        if !held.iter().any(|held| held.is_expired(now)) {
            return Ok(0);
        }
        let expired = self.edit(async |editor| admission::expire(editor, &held, now).await).await;
        self.queue.recount_held().await?;
        expired
    }

    async fn edit<T>(&self, change: impl AsyncFnOnce(&mut Editor) -> Result<T, QueueError>) -> Result<T, QueueError> {
        let _turn = self.turn.lock().await;
        let mut editor = self.queue.editor().await?;
        let changed = change(&mut editor).await;
        let closed = editor.close().await;
        // What was committed stays committed, so an error while closing is not an error of the change.
        if let Err(error) = closed {
            log::warn!("the queue's file could not be closed: {error}");
        }
        changed
    }
}

async fn of(kinds: &[BulkKind], reader: &Reader) -> Result<Vec<ItemId>, QueueError> {
    let mut ids = Vec::new();
    for kind in kinds {
        ids.append(&mut kind.ids(reader, BULK).await?);
    }
    Ok(ids)
}
