//! What people do about failures: dead letters are requeued, rejected webhooks are mapped again, and what nobody wants is
//! deleted. The command `queue`, the status page and `/api` all do it here.
//!
//! - [`Editor`]: changes the queue from outside
//! - [`retry`]: dead letters and rejected webhooks are tried again
//! - [`discard`]: both are deleted, which cannot be undone
//! - [`admission`]: held webhooks are admitted once a secret verifies them, or expire
//! - [`QueueAdmin`]: all of it, for a bridge that runs

pub mod admission;
pub mod discard;
mod editor;
pub mod retry;

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

pub use admission::Admitted;
pub use discard::{Deletion, Discarded};
pub use editor::Editor;
pub use retry::{Resolved, Retried};

use super::{EventId, ItemId, Queue, QueueError, Reader, RejectedId, State};
use crate::config::ClientSecret;
use crate::ingest::Ingest;

/// What of one kind a bulk takes at once. Every rejected webhook is among them; of dead letters there may be more.
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
    /// Both.
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

    /// The oldest `limit` of it.
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

/// Each number once, events apart from rejected webhooks.
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

/// What became of each, in the order in which it was done: events first, then webhooks.
pub type Outcomes<T> = Vec<(ItemId, T)>;

/// Acts on the queue of a bridge that runs, which notices within a second or so; clones take turns.
#[derive(Clone, Debug)]
pub struct QueueAdmin {
    queue: Queue,
    ingest: Ingest,
    /// Two who write at the same time would only wait for each other in SQLite, with a time limit.
    turn: Arc<Mutex<()>>,
}

impl QueueAdmin {
    /// Acts on this queue, and reads rejected webhooks as `ingest` does.
    #[must_use]
    pub fn new(queue: Queue, ingest: Ingest) -> Self {
        Self { queue, ingest, turn: Arc::default() }
    }

    /// Tries these again, each once; triggers whose incident was resolved since as `resolved` says.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn retry(&self, ids: &[ItemId], resolved: Resolved) -> Result<Outcomes<Retried>, QueueError> {
        self.edit(async |editor| retry::retry(editor, &self.ingest, ids, resolved).await).await
    }

    /// Tries the oldest [`BULK`] of these kinds again, triggers whose incident was resolved since as `resolved` says.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn retry_all(&self, kinds: &[BulkKind], resolved: Resolved) -> Result<Outcomes<Retried>, QueueError> {
        self.edit(async |editor| {
            let ids = of(kinds, editor.reader()).await?;
            retry::retry(editor, &self.ingest, &ids, resolved).await
        })
        .await
    }

    /// Deletes these for ever; events only in the state `only`, where one is given.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn discard(&self, ids: &[ItemId], only: Option<State>) -> Result<Outcomes<Discarded>, QueueError> {
        self.edit(async |editor| discard::discard(editor, ids, only).await).await
    }

    /// Deletes the oldest [`BULK`] of these kinds for ever.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn discard_all(&self, kinds: &[BulkKind]) -> Result<Outcomes<Discarded>, QueueError> {
        self.edit(async |editor| {
            let ids = of(kinds, editor.reader()).await?;
            discard::discard(editor, &ids, Some(State::Dead)).await
        })
        .await
    }

    /// Admits the held webhooks that any of `secrets` verifies, in the order in which they came, but for those that have been
    /// held for too long at `now`.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed. What was admitted is not held any more.
    pub async fn admit_held(&self, secrets: &[ClientSecret], now: DateTime<Utc>) -> Result<Admitted, QueueError> {
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

    /// Deletes webhooks that have been held for too long at `now`, and returns how many those were.
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
        // What was committed stays, so an error of closing alone is not an error of the change.
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
