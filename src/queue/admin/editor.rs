//! Changes the queue from outside: beside a running bridge, which notices within a second or so, or without one.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use async_trait::async_trait;

use crate::queue::sentry::SentryNotes;
use crate::queue::sqlite::SqliteEdits;
use crate::queue::{Enqueue, Enqueued, EventId, QueueError, Reader, RejectedId, State};

/// Writes beside a bridge. Every change is committed when its method returns.
#[derive(Debug)]
pub struct Editor {
    edits: Box<dyn Edits>,
    reader: Reader,
}

impl Editor {
    /// Opens the SQLite file `path`; a bridge may be running on it.
    ///
    /// # Errors
    ///
    /// When there is no such file, it cannot be written, or its tables are not those of this program.
    pub async fn open(path: &Path) -> Result<Self, QueueError> {
        let edits = SqliteEdits::open(path).await?;
        let reader = Reader::of(edits.reads());
        Ok(Self { edits: Box::new(edits), reader })
    }

    /// What is committed.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Closes the queue. Without a bridge, everything is in the one file then.
    ///
    /// # Errors
    ///
    /// When the file could not be closed. What was committed is safe all the same.
    pub async fn close(self) -> Result<(), QueueError> {
        self.reader.close().await;
        self.edits.close().await
    }
}

impl Deref for Editor {
    type Target = dyn Edits;

    fn deref(&self) -> &Self::Target {
        &*self.edits
    }
}

impl DerefMut for Editor {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.edits
    }
}

/// All that can be changed from outside. An error says that not all of it could be committed.
#[async_trait]
pub trait Edits: Debug + Send + Sync {
    /// Lets dead letters wait again at their places, with their blame forgotten, by which an event is given
    /// up; their attempts are counted on. A resolve whose incident was triggered again since stays where it is: sending
    /// it at its old place would close what is open now. Returns those that were dead letters and wait again; the others
    /// are left as they are.
    ///
    /// Left as well are triggers whose incident was resolved since: they would open it again.
    /// [`revive_resolved`](Self::revive_resolved) takes them, too.
    async fn revive(&mut self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError>;

    /// Does the same also with triggers whose incident was resolved since.
    async fn revive_resolved(&mut self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError>;

    /// Deletes events. Returns those that were in `state`; the others are left as they are. One whose attempt is under
    /// way may reach PagerDuty all the same.
    async fn discard(&mut self, state: State, ids: &[EventId]) -> Result<Vec<EventId>, QueueError>;

    /// Deletes a rejected webhook, and returns whether it was there.
    async fn discard_rejected(&mut self, id: RejectedId) -> Result<bool, QueueError>;

    /// Keeps a new reason for a webhook that was rejected once more, and returns whether it was there.
    async fn reject_again(&mut self, id: RejectedId, reason: String) -> Result<bool, QueueError>;

    /// Receives what a rejected webhook became, and deletes the webhook, both or neither. `None` when the
    /// webhook is gone; then nothing is received.
    async fn readmit(&mut self, id: RejectedId, enqueue: Enqueue) -> Result<Option<Enqueued>, QueueError>;

    /// Receives what was found missing, as something that comes late: it is recognised by what rejected webhooks and others
    /// that came late became, and not by what came within the dedup window of a bridge.
    async fn admit(&mut self, enqueue: Enqueue) -> Result<Enqueued, QueueError>;

    /// Keeps what was learned from Sentry's API.
    async fn write_sentry_notes(&mut self, notes: SentryNotes) -> Result<(), QueueError>;

    /// Stops using the database.
    async fn close(self: Box<Self>) -> Result<(), QueueError>;
}
