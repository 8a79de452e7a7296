//! Changes the queue from outside: while a bridge is running, which notices within about a second, or while none is.

use chrono::Utc;

use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::queue::decide::dedup_window::DedupWindow;
use crate::queue::decide::{self, Batch, Edit};
use crate::queue::external::SentryNotes;
use crate::queue::postgres::PostgresEngine;
use crate::queue::sqlite::SqliteEditorStore;
use crate::queue::store::{EditorStore, Plan};
use crate::queue::{
    EnqueueRequest, Enqueued, EventId, HeldId, QueueError, Reader, RejectedId, ResolvedTriggers, State,
};

/// How many events one commit changes at most, so that a running bridge never waits long for it.
const CHUNK: usize = 500;

/// Writes to the queue next to a bridge. Every change is committed when its method returns; an error means that not all
/// of it could be committed.
#[derive(Debug)]
pub struct Editor {
    store: Box<dyn EditorStore>,
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
                let store = SqliteEditorStore::open(path).await?;
                let reader = Reader::of(store.reads());
                Ok(Self { store: Box::new(store), reader })
            }
            DatabaseUrl::Postgres(url) => {
                let store = PostgresEngine::open_beside(&config, url).await?;
                let reader = Reader::of(store.reads());
                Ok(Self { store: Box::new(store), reader })
            }
        }
    }

    /// The reader of what is committed.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Requeues dead letters at their original places. Resets the time for which each of them was blamed, by which an
    /// event is given up; attempts are still counted. A resolve whose incident was triggered again since stays a dead
    /// letter: sent at its old place, it would close the incident that is open now. Returns the dead letters that wait
    /// again; all other events are left as they are.
    ///
    /// Triggers whose incident was resolved since stay dead letters as well, unless `resolved` says otherwise: they would
    /// open it again.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn requeue(&mut self, ids: &[EventId], resolved: ResolvedTriggers) -> Result<Vec<EventId>, QueueError> {
        let mut requeued = Vec::new();
        for ids in ids.chunks(CHUNK) {
            let edit = Edit::Requeue { ids, at: Utc::now(), resolved };
            self.commit(edit, |plan| requeued.extend(plan.requeued.iter().map(|(id, _)| *id))).await?;
        }
        Ok(requeued)
    }

    /// Deletes the events that are in `state` and returns them; the others are left as they are. An event whose attempt
    /// is in flight may still reach PagerDuty.
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

    /// Deletes a rejected webhook, and returns whether it existed.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn discard_rejected(&mut self, id: RejectedId) -> Result<bool, QueueError> {
        self.commit(Edit::DiscardRejected(id), |plan| !plan.forget_rejected.is_empty()).await
    }

    /// Stores the new reason of a webhook that was rejected again, and returns whether the webhook still exists.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn reject_again(&mut self, id: RejectedId, reason: String) -> Result<bool, QueueError> {
        self.commit(Edit::RejectAgain(id, &reason), |plan| !plan.reasons.is_empty()).await
    }

    /// Enqueues what a rejected webhook was mapped to and deletes the webhook, in one transaction. Returns `None` if
    /// the webhook no longer exists; then nothing is enqueued.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn readmit(&mut self, id: RejectedId, enqueue: EnqueueRequest) -> Result<Option<Enqueued>, QueueError> {
        let outcomes = self.enqueue_late(Some(Edit::DiscardRejected(id)), vec![&enqueue]).await?;
        Ok(outcomes.and_then(|mut outcomes| outcomes.pop()))
    }

    /// Enqueues what held webhooks were mapped to, in this order, and deletes these webhooks, in one transaction.
    /// Returns the outcome of each enqueue. If one of the webhooks no longer exists, it does nothing and returns `None`.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn admit_held(
        &mut self,
        ids: &[HeldId],
        enqueues: Vec<&EnqueueRequest>,
    ) -> Result<Option<Vec<Enqueued>>, QueueError> {
        self.enqueue_late(Some(Edit::DiscardHeld(ids)), enqueues).await
    }

    /// Deletes held webhooks, all or nothing, and returns whether all of them existed.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn discard_held(&mut self, ids: &[HeldId]) -> Result<bool, QueueError> {
        self.commit(Edit::DiscardHeld(ids), |plan| !plan.forget_held.is_empty()).await
    }

    /// Enqueues an alert that was found missing, as a late one: repetitions are recognised by comparing it with what
    /// rejected webhooks and other late ones became, and not with the dedup window of a bridge.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn admit(&mut self, enqueue: EnqueueRequest) -> Result<Enqueued, QueueError> {
        let outcomes = self.enqueue_late(None, vec![&enqueue]).await?;
        // A batch of one enqueue has one outcome.
        outcomes.and_then(|mut outcomes| outcomes.pop()).ok_or(QueueError::Closed)
    }

    /// Stores what was learned from Sentry's API.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn write_sentry_notes(&mut self, notes: SentryNotes) -> Result<(), QueueError> {
        self.store.write_sentry_notes(&notes).await
    }

    /// Enqueues what was received at an earlier time, if the webhooks that `edit` deletes still exist. Returns the
    /// outcome of each enqueue, or `None` if one of these webhooks does not exist.
    async fn enqueue_late(
        &mut self,
        edit: Option<Edit<'_>>,
        enqueues: Vec<&EnqueueRequest>,
    ) -> Result<Option<Vec<Enqueued>>, QueueError> {
        let batch = Batch { edit, enqueues, is_late: true, ..Batch::default() };
        let known = self.store.load(&decide::dependencies(&batch)).await?;
        let decided = decide::decide(&batch, &known, &DedupWindow::default());
        let committed = self.store.apply(&decided.plan).await?;
        let is_void = edit.is_some() && decided.plan.forget_held.is_empty() && decided.plan.forget_rejected.is_empty();
        Ok((!is_void).then(|| decided.answers(committed).enqueued))
    }

    /// Commits a change, and returns what `answer` derives from its plan.
    async fn commit<T>(&mut self, edit: Edit<'_>, answer: impl FnOnce(&Plan<'_>) -> T) -> Result<T, QueueError> {
        let batch = Batch { edit: Some(edit), ..Batch::default() };
        let known = self.store.load(&decide::dependencies(&batch)).await?;
        let plan = decide::decide(&batch, &known, &DedupWindow::default()).plan;
        self.store.apply(&plan).await?;
        Ok(answer(&plan))
    }

    /// Closes the queue. If no bridge is running, a SQLite database is then a single file.
    ///
    /// # Errors
    ///
    /// When the file could not be closed. What was committed is safe nevertheless.
    pub async fn close(self) -> Result<(), QueueError> {
        self.reader.close().await;
        self.store.close().await
    }
}
