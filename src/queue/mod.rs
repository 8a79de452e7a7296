//! The durable queue: what is committed here survives the end of the process and a power failure of the machine.
//!
//! - [`Queue`]: enqueues what webhooks bring, begins attempts and settles events; every call returns after the commit
//! - [`Reader`]: reads what is committed, also while a bridge is running
//! - [`admin`]: changes the queue from outside: retry, discard
//! - [`event`]: events in the queue, as types
//! - [`held`]: webhooks that wait for the secret that made their signature
//! - [`item`]: events and rejected webhooks, as people list them; [`json`]: as JSON
//! - [`overview`]: the queue at a glance, what needs attention, and what a committed alert survives
//! - [`external`]: what is known from the APIs of Sentry and PagerDuty, and what has to be done there
//! - [`arrivals`]: announces committed events to the deliveries; bounded
//! - [`leases`]: which bridge delivers what, where several bridges share the queue
//! - `writer`: a task that commits together all operations that have piled up (one fsync for many). SQLite has one; PostgreSQL
//!   has two, so that what webhooks bring does not wait for the deliveries and the maintenance
//! - `decide`: all rules about incidents, folding, repetitions and attempts; pure
//! - `store`: the interface of a storage engine; `sqlite` and `postgres`: the only modules that contain SQL
//! - `tables`: the tables of both engines and their columns; `migrations`: how they came to be; `rows`: what is read of them,
//!   as types
//! - [`memory`]: the queue in memory, for tests and for the simulation
//! - [`retention`]: how long delivered events are kept, and what the metrics need after a restart
//! - [`transfer`]: moves a whole queue to another database
//! - [`error`]: the errors, as sentences for the operator

pub mod admin;
pub mod arrivals;
mod decide;
pub mod error;
pub mod event;
pub mod external;
pub mod held;
pub mod item;
pub mod json;
pub mod leases;
pub mod memory;
mod migrations;
pub mod overview;
mod postgres;
mod reader;
pub mod retention;
mod rows;
mod sqlite;
mod store;
mod tables;
#[cfg(test)]
mod tests;
pub mod transfer;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub use admin::Editor;
pub use arrivals::Arrivals;
pub use decide::Answers;
pub use error::QueueError;
pub use event::{
    AttemptPayload, BeginRequest, Disposition, Enqueued, EnqueuedEvent, EventId, ResolvedTriggers, SettleRequest,
    State, WaitingEvent,
};
pub use external::{CanaryChange, CanaryRecord, IssueUpdate, IssueUpdateChange, Proof, StatusChange, UpdateEnd};
pub use held::{HeldId, HeldSender, HeldSummary, HeldWebhook};
pub use item::{EventRecord, EventSummary, InvalidItemId, ItemId, RejectedId, RejectedSummary, RejectedWebhook};
pub use leases::{BridgeId, Fence};
pub use overview::{
    Backlog, DeadLetters, Durability, FirstWaiting, IncidentSummary, OutageNotice, Overview, ServiceKeyCounts, Survives,
};
pub use reader::{
    DeliveryReads, ExternalReads, ListReads, Page, Reader, Reads, RecentAttempts, Recheck, Search, SearchResult,
    StatusReads, Unreadable, WaitingKeys,
};
pub use retention::Retention;
pub use writer::status::CommitOutcome;

use crate::config::{DatabaseConfig, DatabaseUrl};
pub use crate::envelope::{EnqueueRequest, Envelope};
use external::SentryNotes;
use held::HeldCapacity;
use item::MAX_REJECTED_BYTES;
use leases::LeaseStore;
use store::Store;
use writer::status::{Observe, WriterStatus};
use writer::{Operation, StandaloneWrite, WriterCommand};

/// A commit or a read that takes longer is stuck. This is longer than a connection waits for another process's lock, so
/// that a lock is reported with its own, more precise error.
const STUCK: Duration = Duration::from_secs(10);

/// A handle on the queue; clones share it.
///
/// When the last handle is dropped, its writers commit what was sent and close the database; [`Queue::close`] waits for
/// that.
#[derive(Clone, Debug)]
pub struct Queue {
    config: Arc<DatabaseConfig>,
    /// Commits what webhooks bring: alerts, rejected and held webhooks, canaries that come back, and updates from PagerDuty.
    enqueue_writer: WriterHandle,
    /// Commits what the deliveries and the maintenance ask for. For SQLite it is the same writer as `enqueue_writer`; for
    /// PostgreSQL it is another one with its own connection, so that no webhook waits for them.
    background_writer: WriterHandle,
    reader: Reader,
    /// `None` for SQLite, which only one bridge uses.
    leases: Option<Arc<dyn LeaseStore>>,
    held_capacity: HeldCapacity,
}

/// A handle on a writer.
#[derive(Clone, Debug)]
struct WriterHandle {
    commands: mpsc::Sender<WriterCommand>,
    status: Arc<WriterStatus>,
}

impl WriterHandle {
    fn spawn(store: impl Store) -> Self {
        let status = Arc::new(WriterStatus::default());
        Self { commands: writer::spawn(store, Arc::clone(&status)), status }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> WriterCommand,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| QueueError::Closed)?;
        answer.await.map_err(|_| QueueError::Closed)?
    }

    async fn operate<T>(
        &self,
        operation: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> Operation,
    ) -> Result<T, QueueError> {
        self.ask(|reply| WriterCommand::Operation(operation(reply))).await
    }
}

impl Queue {
    /// Opens the queue in a database, and brings its tables up to date; an SQLite file is created where there is none.
    ///
    /// Must be called inside a tokio runtime, which has to outlive the queue.
    ///
    /// # Errors
    ///
    /// When the database cannot be used, belongs to a newer program, or is an SQLite file that another bridge has open.
    pub async fn open(database: impl Into<DatabaseConfig>) -> Result<Self, QueueError> {
        let config = database.into();
        match &config.url {
            DatabaseUrl::Sqlite(path) => {
                let engine = sqlite::SqliteEngine::open(path).await?;
                Ok(Self::on_sqlite(config, engine))
            }
            DatabaseUrl::Postgres(url) => {
                let engine = postgres::PostgresEngine::open(&config, url).await?;
                let reader = Reader::of(engine.reads());
                let background_writer = WriterHandle::spawn(engine.another());
                let leases: Arc<dyn LeaseStore> = Arc::new(postgres::PostgresLeases::new(engine.another()));
                let enqueue_writer = WriterHandle::spawn(engine);
                let (leases, held_capacity) = (Some(leases), HeldCapacity::default());
                Ok(Self { config: Arc::new(config), enqueue_writer, background_writer, reader, leases, held_capacity })
            }
        }
    }

    fn on_sqlite(config: DatabaseConfig, engine: sqlite::SqliteEngine) -> Self {
        let reader = Reader::of(engine.reads());
        let (leases, held_capacity) = (None, HeldCapacity::default());
        let writer = WriterHandle::spawn(engine);
        Self {
            config: Arc::new(config),
            enqueue_writer: writer.clone(),
            background_writer: writer,
            reader,
            leases,
            held_capacity,
        }
    }

    /// The store of the leases, which say which bridge delivers what; `None` where no other bridge can use the queue.
    #[must_use]
    pub fn leases(&self) -> Option<Arc<dyn LeaseStore>> {
        self.leases.clone()
    }

    /// The reader of what is committed.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Opens an editor for changes that people make, beside the bridge that runs on the queue.
    ///
    /// # Errors
    ///
    /// When another connection to the database cannot be opened.
    pub async fn editor(&self) -> Result<Editor, QueueError> {
        Editor::open(&*self.config).await
    }

    /// Enqueues what a webhook brings. It is committed when this returns.
    ///
    /// An event goes to the end of its incident queue. A trigger is instead folded into the trigger that waits there, if
    /// that was never attempted: the waiting one takes the newer body and counts one more alert. A follow-up becomes an
    /// event for every integration where its incident is open. A trigger whose issue Sentry resolved before the trigger
    /// came is followed by a resolve.
    ///
    /// If the future is dropped, it may or may not be queued.
    ///
    /// # Errors
    ///
    /// When it could not be committed; then nothing of it is in the queue.
    pub async fn enqueue(&self, enqueue: impl Into<Box<EnqueueRequest>>) -> Result<Enqueued, QueueError> {
        let enqueue = enqueue.into();
        self.enqueue_writer.operate(|reply| Operation::Enqueue(enqueue, reply)).await
    }

    /// Enqueues one event, as [`Queue::enqueue`] does.
    ///
    /// # Errors
    ///
    /// When it could not be committed; then it is not in the queue.
    pub async fn enqueue_event(&self, event: Envelope) -> Result<EnqueuedEvent, QueueError> {
        match self.enqueue(EnqueueRequest::event(event)).await? {
            Enqueued::Queued(events) if !events.is_empty() => Ok(events[0]),
            // An event that cannot count as a repetition is always queued.
            _ => Err(QueueError::Closed),
        }
    }

    /// Enqueues events in one commit, as [`Queue::enqueue`] does, and returns their numbers.
    ///
    /// # Errors
    ///
    /// When they could not be committed; then none of them is in the queue.
    pub async fn enqueue_events(&self, events: impl IntoIterator<Item = Envelope>) -> Result<Vec<EventId>, QueueError> {
        let all = events.into_iter().map(EnqueueRequest::event).collect();
        let enqueued = self.enqueue_writer.operate(|reply| Operation::EnqueueAll(all, reply)).await?;
        let events = enqueued.into_iter().flat_map(|enqueued| match enqueued {
            Enqueued::Queued(events) => events,
            // An event that cannot count as a repetition is always queued.
            Enqueued::Ignored(_) => Vec::new(),
        });
        Ok(events.map(|event| event.id).collect())
    }

    /// Records an attempt as begun and returns what to send. This is committed before anything is sent: so the bytes of
    /// an attempt never change after it, and the rate is known after a crash.
    ///
    /// If nothing can be committed, for example on a full disk, but the event can be read, the attempt may begin all the
    /// same: the next commit records it before it does anything else.
    ///
    /// # Errors
    ///
    /// When it could neither be committed nor read; [`QueueError::NotWaiting`] when the event no longer waits;
    /// [`QueueError::Behind`] when an earlier event of its incident waits; [`QueueError::Fenced`] when another bridge now
    /// delivers for the service key.
    pub async fn begin(&self, request: BeginRequest) -> Result<AttemptPayload, QueueError> {
        self.background_writer.operate(|reply| Operation::Begin(request, reply)).await
    }

    /// Stores how an attempt ended. It is committed when this returns.
    ///
    /// # Errors
    ///
    /// When it could not be committed, or [`QueueError::NotWaiting`] when the event no longer waits, or another bridge now
    /// delivers it.
    pub async fn settle(&self, request: SettleRequest) -> Result<(), QueueError> {
        self.background_writer.operate(|reply| Operation::Settle(request, reply)).await
    }

    /// Stores a rejected webhook, and deletes the oldest ones if there are too many. It is committed when this returns.
    ///
    /// # Errors
    ///
    /// When it is too large to be kept, or could not be committed.
    pub async fn reject(&self, rejected: RejectedWebhook) -> Result<RejectedId, QueueError> {
        if rejected.body.len() > MAX_REJECTED_BYTES as usize {
            return Err(QueueError::TooLarge);
        }
        self.enqueue_writer.operate(|reply| Operation::Reject(rejected, reply)).await
    }

    /// Holds a webhook whose signature no known secret made, if there is room for it. It is committed when this returns
    /// `true`.
    ///
    /// Whether there is room follows from the last [`recount_held`](Self::recount_held) and from what was held here
    /// since.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn hold(&self, held: HeldWebhook) -> Result<bool, QueueError> {
        let Some(reservation) = self.held_capacity.reserve(held.sender, held.body.len() as u64).await else {
            return Ok(false);
        };
        self.enqueue_writer.operate(|reply| Operation::Hold(Box::new(held), reply)).await?;
        reservation.keep();
        Ok(true)
    }

    /// Reads which webhooks are held, in the order in which they came, and counts the room that they take.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn recount_held(&self) -> Result<Vec<HeldSummary>, QueueError> {
        self.held_capacity.recount(self.reader.held_summaries()).await
    }

    /// Announces every event from now on, except those that are folded, after its commit and before [`Queue::enqueue`]
    /// returns.
    ///
    /// At most [`ARRIVALS`](arrivals::ARRIVALS) of them are buffered for a listener that does not take them; for further
    /// events only the service keys are kept, see [`Arrivals::take_missed`].
    ///
    /// There is one listener: a second call ends the first receiver. Call this first and then read
    /// [`Reader::page`](DeliveryReads::page), so that nothing is missed; an event that comes both ways has the same
    /// id. While there is no listener, nothing is kept.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals {
        self.enqueue_writer.status.listen()
    }

    /// Calls `observe` for every commit from now on, before the callers whose operations are in it get their answers. It
    /// is called by the writers, so it has to be quick. There is one observer: later calls have no effect.
    pub fn observe(&self, observe: impl Fn(&CommitOutcome<'_>) + Send + Sync + 'static) {
        let observe: Arc<Observe> = Arc::new(observe);
        for writer in [&self.enqueue_writer, &self.background_writer] {
            writer.status.observe(Arc::clone(&observe));
        }
    }

    /// Commits as many bytes as a large alert has (64 KiB), and returns how long that took.
    ///
    /// # Errors
    ///
    /// When nothing can be committed, or when that is not known after 10 seconds. If a commit has been hanging for that
    /// long already, no further one is requested.
    pub async fn probe(&self) -> Result<Duration, QueueError> {
        self.probe_within(STUCK).await
    }

    async fn probe_within(&self, patience: Duration) -> Result<Duration, QueueError> {
        let stuck = |time: Duration| QueueError::Stuck { database: self.reader.database(), seconds: time.as_secs() };
        if let Some(time) = self.enqueue_writer.status.busy_for().filter(|time| *time >= patience) {
            return Err(stuck(time));
        }
        let begun = Instant::now();
        let probed = timeout(patience, self.enqueue_writer.operate(Operation::Probe)).await;
        probed.map_err(|_| stuck(begun.elapsed()))??;
        Ok(begun.elapsed())
    }

    /// Whether alerts can be committed, as far as is known: `false` after a commit that failed, and while one hangs.
    /// After a failure, only the commit of another alert or [`Queue::probe`] shows whether alerts can be committed again.
    #[must_use]
    pub fn can_commit(&self) -> bool {
        self.enqueue_writer.status.can_commit() && self.enqueue_writer.status.busy_for().is_none_or(|time| time < STUCK)
    }

    /// How many commits were made since the queue was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        let (enqueuing, background) = (&self.enqueue_writer.status, &self.background_writer.status);
        if Arc::ptr_eq(enqueuing, background) {
            enqueuing.commits()
        } else {
            enqueuing.commits() + background.commits()
        }
    }

    /// Commits what was sent, writes everything into the single database file, and closes it. This closes every handle.
    ///
    /// # Errors
    ///
    /// When the write-ahead log could not be written into the file. What was committed is safe all the same.
    pub async fn close(&self) -> Result<(), QueueError> {
        // The writer's connection has to be the last one: SQLite then leaves a single file.
        self.reader.close().await;
        if !self.background_writer.commands.same_channel(&self.enqueue_writer.commands) {
            self.background_writer.ask(WriterCommand::Close).await?;
        }
        self.enqueue_writer.ask(WriterCommand::Close).await
    }

    /// Returns when nothing can be committed any more, because a writer has ended: after [`Queue::close`], or when
    /// it failed.
    pub async fn writer_ended(&self) {
        tokio::select! {
            () = self.enqueue_writer.commands.closed() => {}
            () = self.background_writer.commands.closed() => {}
        }
    }

    /// Stores what was learned from Sentry's API. It has a commit of its own, so that no alert fails with it.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn write_sentry_notes(&self, notes: SentryNotes) -> Result<(), QueueError> {
        self.write_in_background(|reply| StandaloneWrite::SentryNotes(notes, reply)).await
    }

    /// Stores what became of a delivered event, in a commit of its own. Nothing is stored for an event that was deleted.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn record_proof(&self, proof: Proof) -> Result<(), QueueError> {
        self.write_in_background(|reply| StandaloneWrite::Proof(Box::new(proof), reply)).await
    }

    /// Commits what happened to a canary, and returns when it was sent. Returns `None` if nothing changed: the canary had
    /// come back before, or is not stored because no bridge on this queue sent it.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn record_canary(&self, change: CanaryChange) -> Result<Option<DateTime<Utc>>, QueueError> {
        self.write_urgently(|reply| StandaloneWrite::Canary(change, reply)).await
    }

    /// Commits what happened to an update. Returns `false` if nothing changed: the webhook had come before, the update
    /// has already ended, or no resolve waited.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn record_issue_update(&self, change: IssueUpdateChange) -> Result<bool, QueueError> {
        self.write_urgently(|reply| StandaloneWrite::IssueUpdate(Box::new(change), reply)).await
    }

    /// Sends a write to the enqueue writer, because a webhook waits for it and must not wait for background writes. It also
    /// shows whether alerts can be committed.
    async fn write_urgently<T>(
        &self,
        write: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> StandaloneWrite,
    ) -> Result<T, QueueError> {
        self.enqueue_writer.ask(|reply| WriterCommand::Standalone(write(reply))).await
    }

    /// Sends a write to the background writer.
    async fn write_in_background<T>(
        &self,
        write: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> StandaloneWrite,
    ) -> Result<T, QueueError> {
        self.background_writer.ask(|reply| WriterCommand::Standalone(write(reply))).await
    }
}
