//! What people do about what went wrong: dead letters wait again, rejected webhooks are read anew, and what nobody wants
//! is deleted. The command `queue`, the status page and `/api` all do it here.
//!
//! - [`retry`]: puts back in line
//! - [`discard`]: deletes for ever
//! - [`Upkeep`]: both, for a bridge that runs

pub mod discard;
pub mod retry;

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Mutex;

pub use discard::{Discarded, Doomed};
pub use retry::{Resolved, Retried};

use crate::ingest::Ingest;
use crate::queue::{Editor, EventId, ItemId, Queue, QueueError, Reader, RejectedId, State};

/// What of one kind a bulk takes at once. Every rejected webhook is among them; of dead letters there may be more.
pub const BULK: u64 = 1_000;

/// What somebody has to look at, as a whole.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Heap {
    /// Dead letters.
    Dead,
    /// Rejected webhooks.
    Rejected,
}

impl Heap {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Dead, Self::Rejected];

    /// The word for it in `/api`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Rejected => "rejected",
        }
    }

    /// Reads that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|heap| heap.as_str() == word)
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
pub struct Upkeep {
    queue: Queue,
    ingest: Ingest,
    /// Two who write at the same time would only wait for each other in SQLite, with a time limit.
    turn: Arc<Mutex<()>>,
}

impl Upkeep {
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

    /// Tries the oldest [`BULK`] of these heaps again, triggers whose incident was resolved since as `resolved` says.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn retry_all(&self, heaps: &[Heap], resolved: Resolved) -> Result<Outcomes<Retried>, QueueError> {
        self.edit(async |editor| {
            let ids = of(heaps, editor.reader()).await?;
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

    /// Deletes the oldest [`BULK`] of these heaps for ever.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn discard_all(&self, heaps: &[Heap]) -> Result<Outcomes<Discarded>, QueueError> {
        self.edit(async |editor| {
            let ids = of(heaps, editor.reader()).await?;
            discard::discard(editor, &ids, Some(State::Dead)).await
        })
        .await
    }

    async fn edit<T>(&self, change: impl AsyncFnOnce(&mut Editor) -> Result<T, QueueError>) -> Result<T, QueueError> {
        let _turn = self.turn.lock().await;
        let mut editor = self.queue.editor().await?;
        let changed = change(&mut editor).await;
        let closed = editor.close().await;
        // What was committed stands, so an error of closing alone is none of the change.
        if let Err(error) = closed {
            log::warn!("the queue's file could not be let go of: {error}");
        }
        changed
    }
}

async fn of(heaps: &[Heap], reader: &Reader) -> Result<Vec<ItemId>, QueueError> {
    let mut ids = Vec::new();
    for heap in heaps {
        ids.append(&mut heap.ids(reader, BULK).await?);
    }
    Ok(ids)
}
