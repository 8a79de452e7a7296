//! The task that writes: each commit takes all operations that arrived during the last one.
//!
//! SQLite has one writer, which commits everything that this bridge does. PostgreSQL has two, each with a connection of its
//! own: one commits what webhooks bring, the other what the deliveries and the maintenance ask for. Changes that people make go
//! through an [`Editor`](super::Editor) instead, with yet another connection.
//!
//! A single operation waits for one fsync; operations that arrive during a commit share the next one. The operations of a
//! commit stay in one list, each with its reply; they are borrowed while they are decided and written, so that a failed commit
//! can be retried in parts.
//!
//! For SQLite, whose calls block, the task has its own thread: a batch is loaded, decided, written and committed there
//! without waking any other task before it is answered.

pub(super) mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{iter, thread};

use chrono::{DateTime, Utc};
use log::{Level, error};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::ingest::IgnoreReason;
use crate::logging::log_throttled;
use crate::metrics::PersistedMetrics;

use super::decide::dedup_window::DedupWindow;
use super::decide::{self, Answers, Batch};
use super::external::SentryNotes;
use super::held::HeldWebhook;
use super::store::{Committed, Plan, Prune, Store};
use super::{
    AttemptPayload, BeginRequest, CanaryChange, EnqueueRequest, Enqueued, EventId, IssueUpdateChange, OutageNotice,
    Proof, QueueError, RejectedId, RejectedWebhook, SettleRequest, WaitingEvent,
};
use status::{CommitOutcome, WriterStatus};

/// How many operations may wait for a writer before senders have to wait.
const OPERATIONS: usize = 4096;

/// How many operations one commit takes at most.
const MAX_BATCH_OPERATIONS: usize = 512;

/// How many bytes of bodies one commit takes at most; the last body may exceed it.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How often a batch is tried at most if its transaction is interrupted.
const TRIES: u32 = 4;

/// How often the database is checked while nothing is committed.
const CHECK: Duration = Duration::from_secs(1);

/// The name of the thread of a store whose calls block; Linux shows 15 bytes of it.
const THREAD: &str = "sqlite-writer";

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// A command for a writer. Every reply is sent after the commit.
#[derive(Debug)]
pub(super) enum WriterCommand {
    /// Committed together with others.
    Operation(Operation),
    /// Committed by itself, so that no alert ever fails with it.
    Standalone(StandaloneWrite),
    Close(Reply<()>),
}

/// An operation, with the reply to the caller.
#[derive(Debug)]
pub(super) enum Operation {
    Enqueue(Box<EnqueueRequest>, Reply<Enqueued>),
    /// Enqueues all of them in one commit, or none.
    EnqueueAll(Vec<EnqueueRequest>, Reply<Vec<Enqueued>>),
    Begin(BeginRequest, Reply<AttemptPayload>),
    Settle(SettleRequest, Reply<()>),
    Reject(RejectedWebhook, Reply<RejectedId>),
    Hold(Box<HeldWebhook>, Reply<()>),
    /// Writes something as large as a large alert.
    Probe(Reply<()>),
}

/// Writes that each have a commit of their own: retention, metrics, results from the APIs of Sentry and PagerDuty, canaries,
/// and issue updates.
#[derive(Debug)]
pub(super) enum StandaloneWrite {
    Prune(Prune, Reply<u64>),
    PersistMetrics(PersistedMetrics, Reply<()>),
    SentryNotes(SentryNotes, Reply<()>),
    /// Stores what happened to a canary. The reply is the time at which it was sent, or `None` if nothing changed.
    Canary(CanaryChange, Reply<Option<DateTime<Utc>>>),
    /// Stores what happened to an update of an issue. The reply is whether anything changed.
    IssueUpdate(Box<IssueUpdateChange>, Reply<bool>),
    OutageNotice(OutageNotice, Reply<()>),
    Proof(Box<Proof>, Reply<()>),
    /// Gives at most this many empty pages back to the file system. The reply is how many are left.
    Shrink(u32, Reply<u64>),
}

/// Starts a writer. It ends on [`WriterCommand::Close`] or when every sender is dropped, after everything that was sent is
/// committed.
pub(super) fn spawn<S: Store>(store: S, status: Arc<WriterStatus>) -> mpsc::Sender<WriterCommand> {
    let (sender, receiver) = mpsc::channel(OPERATIONS);
    let writer =
        Writer { store, status, window: DedupWindow::default(), unrecorded: Vec::new(), unrecordable: Vec::new() };
    if S::BLOCKS {
        run_on_thread(writer, receiver);
    } else {
        tokio::spawn(writer.run(receiver));
    }
    sender
}

/// Runs the writer on a thread of its own. If that thread cannot be started, every sender finds the queue closed, as if
/// the writer had failed.
fn run_on_thread<S: Store>(writer: Writer<S>, commands: mpsc::Receiver<WriterCommand>) {
    let runtime = runtime::Builder::new_current_thread().enable_time().build();
    let started = runtime.and_then(|runtime| {
        thread::Builder::new().name(THREAD.to_owned()).spawn(move || runtime.block_on(writer.run(commands)))
    });
    if let Err(error) = started {
        error!("the thread that commits alerts cannot be started: {error}");
    }
}

struct Writer<S> {
    store: S,
    status: Arc<WriterStatus>,
    window: DedupWindow,
    /// Attempts that began while nothing could be committed. The next commit records them first.
    unrecorded: Vec<(EventId, DateTime<Utc>)>,
    /// Events whose attempts cannot be recorded because of damage, until they are settled; one entry for each attempt.
    unrecordable: Vec<EventId>,
}

/// Operations that are committed together.
#[derive(Debug, Default)]
struct OperationBatch {
    operations: Vec<Operation>,
    bytes: usize,
    /// Whether nothing is folded into stored events, because they may be damaged.
    skips_folding: bool,
}

impl<S: Store> Writer<S> {
    async fn run(mut self, mut commands: mpsc::Receiver<WriterCommand>) {
        let mut closing = Vec::new();
        loop {
            let command = match timeout(CHECK, commands.recv()).await {
                Ok(Some(command)) => command,
                Ok(None) => break,
                Err(_) => {
                    self.check().await;
                    continue;
                }
            };
            let (mut batch, mut standalone, mut is_closing) = (OperationBatch::default(), Vec::new(), false);
            let mut next = Some(command);
            while let Some(command) = next {
                match command {
                    WriterCommand::Operation(operation) => batch.add(operation),
                    WriterCommand::Standalone(write) => standalone.push(write),
                    WriterCommand::Close(reply) => {
                        is_closing = true;
                        closing.push(reply);
                    }
                }
                next = if batch.has_room() { commands.try_recv().ok() } else { None };
            }
            if is_closing {
                // No more commands are accepted, but those that were sent before are still committed.
                commands.close();
            }
            if !batch.operations.is_empty() {
                self.status.set_busy(true);
                self.commit(batch).await;
            }
            for write in standalone {
                self.status.set_busy(true);
                self.write(write).await;
            }
            self.status.set_busy(false);
        }
        let closed = self.store.close().await;
        for reply in closing {
            // The caller may have gone away meanwhile, here and below.
            let _ = reply.send(closed.clone());
        }
    }

    /// Notices a lost database even while nothing is committed.
    async fn check(&mut self) {
        self.status.set_busy(true);
        if let Err(error) = self.store.check().await {
            // Counted as one failure, however long it lasts.
            if self.status.can_commit() {
                self.status.failed();
            }
            log_throttled!(Level::Error, "alerts were not accepted"; "alerts cannot be committed: {error}");
        }
        self.status.set_busy(false);
    }

    async fn write(&mut self, write: StandaloneWrite) {
        match write {
            StandaloneWrite::Prune(prune, reply) => {
                let begun_at = Instant::now();
                let pruned = self.store.prune(prune).await;
                if pruned.is_ok() {
                    let (took, arrivals) = (begun_at.elapsed(), &[]);
                    self.status.report(&CommitOutcome::Done { took, arrivals, folded_count: 0, rejected: 0 });
                    self.status.committed(false, iter::empty());
                }
                let _ = reply.send(pruned);
            }
            StandaloneWrite::PersistMetrics(metrics, reply) => {
                let _ = reply.send(self.store.persist_metrics(&metrics).await);
            }
            StandaloneWrite::SentryNotes(notes, reply) => {
                let _ = reply.send(self.store.write_sentry_notes(&notes).await);
            }
            StandaloneWrite::Canary(change, reply) => {
                let _ = reply.send(self.store.write_canary(&change).await);
            }
            StandaloneWrite::IssueUpdate(change, reply) => {
                let _ = reply.send(self.store.write_issue_update(&change).await);
            }
            StandaloneWrite::OutageNotice(notice, reply) => {
                let _ = reply.send(self.store.write_outage_notice(notice).await);
            }
            StandaloneWrite::Proof(proof, reply) => {
                let _ = reply.send(self.store.write_proof(&proof).await);
            }
            StandaloneWrite::Shrink(pages, reply) => {
                let _ = reply.send(self.store.shrink(pages).await);
            }
        }
    }

    /// Commits a batch and answers every operation in it. If the commit fails because of damaged content, all
    /// operations that are not affected are still committed: one damaged page must not cause alerts to be refused that
    /// share a commit with an operation that needs that page. The batch is halved again and again, so one such
    /// operation among 512 costs about twenty commits.
    async fn commit(&mut self, batch: OperationBatch) {
        // The last one is committed next.
        let mut batches = vec![batch];
        while let Some(mut batch) = batches.pop() {
            let (unrecorded, unrecordable) = (self.unrecorded.clone(), self.unrecordable.clone());
            let error =
                match self.try_commit(&batch.borrowed(&unrecorded, &unrecordable, S::IS_SHARED_BY_BRIDGES)).await {
                    Ok(answers) => {
                        batch.answer(answers);
                        continue;
                    }
                    Err(error) => error,
                };
            let is_of_content = error.is_of_content();
            if is_of_content && !self.unrecorded.is_empty() && self.record_each().await {
                batches.push(batch);
            } else if is_of_content && batch.operations.len() > 1 {
                let second = batch.operations.split_off(batch.operations.len() / 2);
                batches.push(OperationBatch { operations: second, ..OperationBatch::default() });
                batches.push(batch);
            } else if is_of_content && !batch.skips_folding && batch.takes_alerts() {
                batches.push(OperationBatch { skips_folding: true, ..batch });
            } else {
                self.fail(batch, &error).await;
            }
        }
    }

    /// Commits a batch. An interrupted transaction is retried while the waiting senders have time for it: Sentry does
    /// not repeat a webhook that was refused.
    async fn try_commit(&mut self, batch: &Batch<'_>) -> Result<Answers, QueueError> {
        let begun_at = Instant::now();
        let mut tries = 1;
        loop {
            match self.commit_once(batch, begun_at).await {
                Err(error)
                    if error.is_interruption() && tries < TRIES && begun_at.elapsed() < self.store.retry_within() =>
                {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn commit_once(&mut self, batch: &Batch<'_>, begun_at: Instant) -> Result<Answers, QueueError> {
        let known = self.store.load(&decide::dependencies(batch)).await?;
        let decided = decide::decide(batch, &known, &self.window);
        let committed = self.store.apply(&decided.plan).await?;
        self.unrecorded.clear();
        self.unrecordable.retain(|id| !batch.settles.iter().any(|settle| settle.id == *id));
        // Only after the commit: a webhook that was refused may be sent again.
        for (dedup, received_at) in &decided.remembered {
            self.window.remember(dedup, *received_at);
        }
        let takes_alerts = batch.is_probe
            || decided.enqueued.iter().any(|enqueued| *enqueued != Enqueued::Ignored(IgnoreReason::Repeated));
        let arrivals = arrivals(&decided.plan, &committed);
        self.status.report(&CommitOutcome::Done {
            took: begun_at.elapsed(),
            arrivals: &arrivals,
            folded_count: folded_count(&decided.enqueued),
            rejected: committed.rejected.len() as u64,
        });
        self.status.committed(takes_alerts, arrivals.into_iter());
        Ok(decided.answers(committed))
    }

    /// Records the unrecorded attempts one by one, and gives up those that cannot be recorded because of damage.
    /// Returns whether none is left.
    async fn record_each(&mut self) -> bool {
        for attempt in std::mem::take(&mut self.unrecorded) {
            let batch = Batch { unrecorded: &[attempt], ..Batch::default() };
            match self.record(&batch).await {
                Ok(_) => {}
                Err(error) if error.is_of_content() => {
                    log_throttled!(
                        Level::Error, "attempts were not recorded as begun", event = attempt.0.get();
                        "an attempt cannot be recorded: {error}"
                    );
                    self.unrecordable.push(attempt.0);
                }
                Err(_) => self.unrecorded.push(attempt),
            }
        }
        self.unrecorded.is_empty()
    }

    async fn record(&mut self, batch: &Batch<'_>) -> Result<Committed, QueueError> {
        let known = self.store.load(&decide::dependencies(batch)).await?;
        let decided = decide::decide(batch, &known, &self.window);
        self.store.apply(&decided.plan).await
    }

    /// Answers a batch that could not be committed.
    async fn fail(&mut self, batch: OperationBatch, error: &QueueError) {
        // An event that cannot be read says nothing about whether new alerts can be committed.
        if batch.takes_alerts() || !error.is_of_content() {
            self.status.failed();
        }
        for operation in batch.operations {
            match operation {
                Operation::Enqueue(_, reply) => drop(reply.send(Err(error.clone()))),
                Operation::EnqueueAll(_, reply) => drop(reply.send(Err(error.clone()))),
                Operation::Settle(_, reply) | Operation::Hold(_, reply) | Operation::Probe(reply) => {
                    let _ = reply.send(Err(error.clone()));
                }
                Operation::Reject(_, reply) => drop(reply.send(Err(error.clone()))),
                Operation::Begin(begin, reply) => {
                    let _ = reply.send(self.begin_unrecorded(&begin, error).await);
                }
            }
        }
    }

    /// Begins an attempt that could not be recorded: a waiting alert must reach people even when the disk is full.
    ///
    /// The next commit records the attempt first, so that nothing is ever folded into an event whose bytes were sent.
    /// The attempt is lost only if the bridge crashes before that: then the event is sent once more.
    async fn begin_unrecorded(
        &mut self,
        begin: &BeginRequest,
        cause: &QueueError,
    ) -> Result<AttemptPayload, QueueError> {
        let batch = Batch { begins: vec![begin], ..Batch::default() };
        let Ok(known) = self.store.peek(&decide::dependencies(&batch)).await else { return Err(cause.clone()) };
        let decided = decide::decide(&batch, &known, &self.window).begun.pop();
        let to_send = decided.unwrap_or(Err(QueueError::NotWaiting(begin.id)))?;
        log_throttled!(
            Level::Warn, "attempts were not recorded as begun", event = begin.id.get();
            "sent without being recorded, because nothing can be committed: {cause}"
        );
        self.unrecorded.push((begin.id, begin.at));
        Ok(to_send)
    }
}

impl OperationBatch {
    fn has_room(&self) -> bool {
        self.operations.len() < MAX_BATCH_OPERATIONS && self.bytes < MAX_BATCH_BYTES
    }

    fn add(&mut self, operation: Operation) {
        self.bytes += match &operation {
            Operation::Enqueue(enqueue, _) => enqueue.size(),
            Operation::EnqueueAll(all, _) => all.iter().map(EnqueueRequest::size).sum(),
            Operation::Reject(rejected, _) => rejected.body.len(),
            Operation::Hold(held, _) => held.body.len(),
            Operation::Begin(..) | Operation::Settle(..) | Operation::Probe(_) => 0,
        };
        self.operations.push(operation);
    }

    fn takes_alerts(&self) -> bool {
        let takes_alerts = |operation: &Operation| {
            matches!(operation, Operation::Enqueue(..) | Operation::EnqueueAll(..) | Operation::Probe(_))
        };
        self.operations.iter().any(takes_alerts)
    }

    fn borrowed<'b>(
        &'b self,
        unrecorded: &'b [(EventId, DateTime<Utc>)],
        unrecordable: &'b [EventId],
        is_shared_by_bridges: bool,
    ) -> Batch<'b> {
        let mut batch = Batch {
            unrecorded,
            unrecordable,
            skips_folding: self.skips_folding,
            is_shared_by_bridges,
            ..Batch::default()
        };
        for operation in &self.operations {
            match operation {
                Operation::Enqueue(enqueue, _) => batch.enqueues.push(enqueue),
                Operation::EnqueueAll(all, _) => batch.enqueues.extend(all),
                Operation::Begin(begin, _) => batch.begins.push(begin),
                Operation::Settle(settle, _) => batch.settles.push(settle),
                Operation::Reject(rejected, _) => batch.rejects.push(rejected),
                Operation::Hold(held, _) => batch.holds.push(held),
                Operation::Probe(_) => batch.is_probe = true,
            }
        }
        batch
    }

    fn answer(self, answers: Answers) {
        let Answers { enqueued, settled, begun, rejected } = answers;
        let mut enqueued = enqueued.into_iter();
        let (mut settled, mut begun, mut rejected) = (settled.into_iter(), begun.into_iter(), rejected.into_iter());
        for operation in self.operations {
            // There is an answer to every operation; without one, the caller would learn that the queue is closed.
            match operation {
                Operation::Enqueue(_, reply) => drop(enqueued.next().map(|enqueued| reply.send(Ok(enqueued)))),
                Operation::EnqueueAll(all, reply) => {
                    let _ = reply.send(Ok(enqueued.by_ref().take(all.len()).collect()));
                }
                Operation::Begin(_, reply) => drop(begun.next().map(|begun| reply.send(begun))),
                Operation::Settle(_, reply) => drop(settled.next().map(|settled| reply.send(settled))),
                Operation::Reject(_, reply) => drop(rejected.next().map(|id| reply.send(Ok(id)))),
                Operation::Hold(_, reply) | Operation::Probe(reply) => drop(reply.send(Ok(()))),
            }
        }
    }
}

/// The events of a plan that are new in the queue, in its order.
fn arrivals(plan: &Plan<'_>, committed: &Committed) -> Vec<WaitingEvent> {
    let new = plan.rows.iter().zip(&committed.event_ids).filter(|(row, _)| row.replaces.is_none());
    new.map(|(row, &id)| WaitingEvent {
        id,
        service_key: row.envelope.service_key.clone(),
        incident_key: row.envelope.incident_key.clone(),
        event_type: row.envelope.event_type,
        received_at: row.first_seen,
        attempts: 0,
        last_attempt_at: None,
        blamed: Duration::ZERO,
    })
    .collect()
}

/// How many alerts were folded into waiting events.
fn folded_count(enqueued: &[Enqueued<usize>]) -> u64 {
    let events = enqueued.iter().flat_map(|enqueued| match enqueued {
        Enqueued::Queued(events) => events.as_slice(),
        Enqueued::Ignored(_) => &[],
    });
    events.filter(|event| event.is_folded()).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
    use crate::queue::Envelope;

    fn accept(bytes: usize) -> Operation {
        let envelope = Envelope {
            service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
            api: ApiVersion::V1,
            issue_key: None,
            incident_key: IncidentKey::parse("42").unwrap(),
            event_type: EventType::Trigger,
            description: String::new(),
            body: vec![0; bytes],
            counts_at: None,
            received_at: DateTime::UNIX_EPOCH,
        };
        Operation::Enqueue(Box::new(EnqueueRequest::event(envelope)), oneshot::channel().0)
    }

    fn operations_of_batch(bytes: usize) -> usize {
        let mut batch = OperationBatch::default();
        while batch.has_room() && batch.operations.len() < 10_000 {
            batch.add(accept(bytes));
        }
        batch.operations.len()
    }

    #[test]
    fn one_commit_is_bounded_by_operations_and_by_bytes() {
        assert_eq!(operations_of_batch(10), 512);
        assert_eq!(operations_of_batch(512_000), 17);
    }
}
