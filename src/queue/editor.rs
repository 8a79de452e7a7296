//! Changes the queue from outside: beside a running bridge, which notices within a second or so, or without one.

use std::path::Path;

use super::sqlite;
use super::{Enqueue, Enqueued, EventId, QueueError, Reader, RejectedId, State};

/// How many events one commit changes at most, so that a running bridge never waits long for it.
const CHUNK: usize = 500;

/// Writes beside a bridge. Every change is committed when its method returns.
#[derive(Debug)]
pub struct Editor {
    sqlite: sqlite::Edits,
    reader: Reader,
}

impl Editor {
    /// Opens the SQLite file `path`; a bridge may be running on it.
    ///
    /// # Errors
    ///
    /// When there is no such file, it cannot be written, or its tables are not those of this program.
    pub async fn open(path: &Path) -> Result<Self, QueueError> {
        let sqlite = sqlite::Edits::open(path).await?;
        let reader = Reader::of(sqlite.reads());
        Ok(Self { sqlite, reader })
    }

    /// What is committed.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Puts dead letters back to their places in line, with their blame forgotten, by which an event is given
    /// up; their attempts are counted on. A resolve whose incident was triggered anew since stays where it is: whoever sent
    /// it at its old place would close what is open now. Returns those that were dead letters and wait again; the others
    /// are left as they are.
    ///
    /// Left as well are triggers whose incident was resolved since: they would open it again.
    /// [`revive_resolved`](Self::revive_resolved) takes them, too.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn revive(&mut self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        self.revive_some(ids, false).await
    }

    /// Does the same also with triggers whose incident was resolved since.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn revive_resolved(&mut self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        self.revive_some(ids, true).await
    }

    async fn revive_some(&mut self, ids: &[EventId], insists: bool) -> Result<Vec<EventId>, QueueError> {
        let mut revived = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            revived.append(&mut self.sqlite.revive(chunk, insists).await?);
        }
        Ok(revived)
    }

    /// Deletes events. Returns those that were in `state`; the others are left as they are. One whose attempt is under
    /// way may reach PagerDuty all the same.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn discard(&mut self, state: State, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        let mut gone = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            gone.append(&mut self.sqlite.discard(state, chunk).await?);
        }
        Ok(gone)
    }

    /// Deletes a rejected webhook, and tells whether it was there.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn discard_rejected(&mut self, id: RejectedId) -> Result<bool, QueueError> {
        self.sqlite.discard_rejected(id).await
    }

    /// Keeps a new reason for a webhook that was rejected once more, and tells whether it was there.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn reject_again(&mut self, id: RejectedId, reason: String) -> Result<bool, QueueError> {
        self.sqlite.reject_again(id, reason).await
    }

    /// Receives what a rejected webhook became, and deletes the webhook, both or neither. `None` when the
    /// webhook is gone; then nothing is received.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn readmit(&mut self, id: RejectedId, incoming: Enqueue) -> Result<Option<Enqueued>, QueueError> {
        self.sqlite.readmit(id, incoming).await
    }

    /// Lets go of the file. Without a bridge, everything is in the one file then.
    ///
    /// # Errors
    ///
    /// When the file could not be closed. What was committed is safe all the same.
    pub async fn close(self) -> Result<(), QueueError> {
        self.reader.close().await;
        self.sqlite.close().await
    }
}
