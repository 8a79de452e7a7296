//! Changes the queue from outside: beside a running bridge, which notices within a second or so, or without one.

use chrono::Utc;

use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::queue::decide::dedup_window::DedupWindow;
use crate::queue::decide::{self, Batch, Edit};
use crate::queue::postgres::PostgresEdits;
use crate::queue::sqlite::SqliteEdits;
use crate::queue::store::{Edits, Plan};
use crate::queue::{Enqueue, Enqueued, EventId, QueueError, Reader, RejectedId, State};

/// How many events one commit changes at most, so that a running bridge never waits long for it.
const CHUNK: usize = 500;

/// Writes beside a bridge. Every change is committed when its method returns; an error says that not all of it could be.
#[derive(Debug)]
pub struct Editor {
    edits: Box<dyn Edits>,
    reader: Reader,
}

impl Editor {
    /// Opens a database; bridges may be running on it.
    ///
    /// # Errors
    ///
    /// When there is no such database, it cannot be written, or its tables are not those of this program.
    pub async fn open(database: impl Into<DatabaseConfig>) -> Result<Self, QueueError> {
        let config = database.into();
        match &config.url {
            DatabaseUrl::Sqlite(path) => {
                let edits = SqliteEdits::open(path).await?;
                let reader = Reader::of(edits.reads());
                Ok(Self { edits: Box::new(edits), reader })
            }
            DatabaseUrl::Postgres(url) => {
                let edits = PostgresEdits::open(&config, url).await?;
                let reader = Reader::of(edits.reads());
                Ok(Self { edits: Box::new(edits), reader })
            }
        }
    }

    /// What is committed.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Lets dead letters wait again at their places, with their blame forgotten, by which an event is given
    /// up; their attempts are counted on. A resolve whose incident was triggered again since stays where it is: sending
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
        self.revive_all(ids, false).await
    }

    /// Does the same also with triggers whose incident was resolved since.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn revive_resolved(&mut self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        self.revive_all(ids, true).await
    }

    async fn revive_all(&mut self, ids: &[EventId], even_resolved: bool) -> Result<Vec<EventId>, QueueError> {
        let mut revived = Vec::new();
        for ids in ids.chunks(CHUNK) {
            let edit = Edit::Revive { ids, at: Utc::now(), even_resolved };
            self.commit(edit, |plan| revived.extend(plan.revived.iter().map(|(id, _)| *id))).await?;
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
        for ids in ids.chunks(CHUNK) {
            self.commit(Edit::Discard { ids, state }, |plan| gone.extend(&plan.discarded)).await?;
        }
        Ok(gone)
    }

    /// Deletes a rejected webhook, and returns whether it was there.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn discard_rejected(&mut self, id: RejectedId) -> Result<bool, QueueError> {
        self.commit(Edit::DiscardRejected(id), |plan| !plan.forget_rejected.is_empty()).await
    }

    /// Keeps a new reason for a webhook that was rejected once more, and returns whether it was there.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn reject_again(&mut self, id: RejectedId, reason: String) -> Result<bool, QueueError> {
        self.commit(Edit::RejectAgain(id, &reason), |plan| !plan.reasons.is_empty()).await
    }

    /// Enqueues what a rejected webhook became, and deletes the webhook, both or neither. `None` when the
    /// webhook is gone; then nothing is enqueued.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn readmit(&mut self, id: RejectedId, enqueue: Enqueue) -> Result<Option<Enqueued>, QueueError> {
        let edit = Some(Edit::DiscardRejected(id));
        let batch = Batch { edit, enqueues: vec![&enqueue], is_late: true, ..Batch::default() };
        let known = self.edits.load(&decide::wanted(&batch)).await?;
        let decision = decide::decide(&batch, &known, &DedupWindow::default());
        let committed = self.edits.apply(&decision.plan).await?;
        Ok(decision.enqueued.into_iter().next().map(|planned| planned.numbered(&committed.rows)))
    }

    /// Commits a change, and returns what `answer` says of it.
    async fn commit<T>(&mut self, edit: Edit<'_>, answer: impl FnOnce(&Plan<'_>) -> T) -> Result<T, QueueError> {
        let batch = Batch { edit: Some(edit), ..Batch::default() };
        let known = self.edits.load(&decide::wanted(&batch)).await?;
        let plan = decide::decide(&batch, &known, &DedupWindow::default()).plan;
        self.edits.apply(&plan).await?;
        Ok(answer(&plan))
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
