//! The one task that writes: it commits together whatever has piled up while the last commit was under way.
//!
//! So a lone command waits for one fsync, and many share one. It knows no SQL: the engine takes a [`Batch`] and
//! commits all of it or nothing.

use std::iter;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use super::sqlite::Engine;
use super::{Arrival, EventId, NewEvent, QueueError, Settlement};

/// How many commands may wait for the writer before senders have to.
const COMMANDS: usize = 4096;

/// How many commands one commit takes at most.
const BATCH_COMMANDS: usize = 512;

/// How many bytes of bodies one commit takes at most, give or take the last body.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// What can be asked of the writer. Every reply comes after the commit.
#[derive(Debug)]
pub(super) enum Command {
    Accept { event: NewEvent, reply: Reply<EventId> },
    Begin { id: EventId, at: DateTime<Utc>, reply: Reply<Vec<u8>> },
    Settle { id: EventId, settlement: Settlement, at: DateTime<Utc>, reply: Reply<()> },
    Probe { reply: Reply<()> },
    Close { reply: Reply<()> },
}

/// What one commit holds, to be written in this order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<NewEvent>,
    pub(super) settlements: Vec<(EventId, Settlement, DateTime<Utc>)>,
    pub(super) begins: Vec<(EventId, DateTime<Utc>)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.settlements.is_empty() && self.begins.is_empty()
    }
}

/// What came of a [`Batch`], entry by entry.
#[derive(Debug, Default)]
pub(super) struct Committed {
    pub(super) events: Vec<EventId>,
    /// Whether the event was still waiting.
    pub(super) settlements: Vec<bool>,
    /// The body, if the event was still waiting.
    pub(super) begins: Vec<Option<Vec<u8>>>,
}

/// What the writer lets everybody see.
#[derive(Debug)]
pub(super) struct Pulse {
    commits: AtomicU64,
    well: AtomicBool,
    listener: Mutex<Option<mpsc::UnboundedSender<Arrival>>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { commits: AtomicU64::new(0), well: AtomicBool::new(true), listener: Mutex::new(None) }
    }
}

impl Pulse {
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    pub(super) fn listen(&self) -> mpsc::UnboundedReceiver<Arrival> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn committed(&self, arrivals: impl Iterator<Item = Arrival>) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.well.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            for arrival in arrivals {
                // Where the receiver is gone, nothing is kept.
                let _ = listener.send(arrival);
            }
        }
    }

    fn failed(&self) {
        self.well.store(false, Ordering::Relaxed);
    }
}

/// Starts the writer. It ends when every sender is gone or on [`Command::Close`], after what was sent is committed.
pub(super) fn spawn(engine: Engine, pulse: Arc<Pulse>) -> mpsc::Sender<Command> {
    let (sender, receiver) = mpsc::channel(COMMANDS);
    tokio::spawn(run(engine, receiver, pulse));
    sender
}

async fn run(mut engine: Engine, mut commands: mpsc::Receiver<Command>, pulse: Arc<Pulse>) {
    let mut closing = Vec::new();
    while let Some(command) = commands.recv().await {
        let mut round = Round::default();
        round.add(command);
        while round.has_room()
            && let Ok(command) = commands.try_recv()
        {
            round.add(command);
        }
        if !round.closing.is_empty() {
            // Nothing is taken any more, but what was sent before is still received and committed.
            commands.close();
            closing.append(&mut round.closing);
        }
        if round.size > 0 {
            round.commit(&mut engine, &pulse).await;
        }
    }
    let closed = engine.close().await;
    for reply in closing {
        // Whoever asked may have gone away meanwhile, here and below.
        let _ = reply.send(closed.clone());
    }
}

/// The commands of one commit, sorted into its [`Batch`] and those who wait for it.
#[derive(Default)]
struct Round {
    size: usize,
    bytes: usize,
    batch: Batch,
    accepting: Vec<Reply<EventId>>,
    settling: Vec<Reply<()>>,
    beginning: Vec<Reply<Vec<u8>>>,
    probing: Vec<Reply<()>>,
    closing: Vec<Reply<()>>,
}

impl Round {
    fn has_room(&self) -> bool {
        self.size < BATCH_COMMANDS && self.bytes < BATCH_BYTES
    }

    fn add(&mut self, command: Command) {
        self.size += 1;
        match command {
            Command::Accept { event, reply } => {
                self.bytes += event.body.len();
                self.batch.events.push(event);
                self.accepting.push(reply);
            }
            Command::Settle { id, settlement, at, reply } => {
                self.batch.settlements.push((id, settlement, at));
                self.settling.push(reply);
            }
            Command::Begin { id, at, reply } => {
                self.batch.begins.push((id, at));
                self.beginning.push(reply);
            }
            Command::Probe { reply } => self.probing.push(reply),
            Command::Close { reply } => {
                self.size -= 1;
                self.closing.push(reply);
            }
        }
    }

    async fn commit(self, engine: &mut Engine, pulse: &Pulse) {
        let heads: Vec<_> = self.batch.events.iter().map(head).collect();
        let settled: Vec<_> = self.batch.settlements.iter().map(|&(id, ..)| id).collect();
        let begun: Vec<_> = self.batch.begins.iter().map(|&(id, _)| id).collect();
        match engine.commit(self.batch).await {
            Ok(committed) => {
                pulse.committed(heads.into_iter().zip(&committed.events).map(|(head, &id)| head(id)));
                answer(self.accepting, committed.events.into_iter().map(Ok));
                let settlements = committed.settlements.into_iter().map(|waiting| waiting.then_some(()));
                answer(self.settling, if_waiting(settlements, settled));
                answer(self.beginning, if_waiting(committed.begins.into_iter(), begun));
                answer(self.probing, iter::repeat(Ok(())));
            }
            Err(error) => {
                pulse.failed();
                answer(self.accepting, iter::repeat(Err(error.clone())));
                answer(self.settling, iter::repeat(Err(error.clone())));
                answer(self.beginning, iter::repeat(Err(error.clone())));
                answer(self.probing, iter::repeat(Err(error)));
            }
        }
    }
}

/// The announcement of `event`, once it has a number.
fn head(event: &NewEvent) -> impl FnOnce(EventId) -> Arrival + use<> {
    let NewEvent { service_key, incident_key, event_type, received_at, .. } = event;
    let (service_key, incident_key) = (service_key.clone(), incident_key.clone());
    let (event_type, received_at) = (*event_type, *received_at);
    move |id| Arrival { id, service_key, incident_key, event_type, received_at }
}

/// Sends each of `replies` its answer; one that nobody waits for any more is no loss.
fn answer<T>(replies: Vec<Reply<T>>, answers: impl Iterator<Item = Result<T, QueueError>>) {
    for (reply, answer) in replies.into_iter().zip(answers) {
        let _ = reply.send(answer);
    }
}

fn if_waiting<T>(
    found: impl Iterator<Item = Option<T>>,
    ids: Vec<EventId>,
) -> impl Iterator<Item = Result<T, QueueError>> {
    found.zip(ids).map(|(found, id)| found.ok_or(QueueError::NotWaiting(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pagerduty::{EventType, IncidentKey, ServiceKey};

    fn accept(bytes: usize) -> Command {
        let event = NewEvent {
            service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
            incident_key: IncidentKey::parse("42").unwrap(),
            event_type: EventType::Trigger,
            description: String::new(),
            body: vec![0; bytes],
            received_at: DateTime::UNIX_EPOCH,
        };
        Command::Accept { event, reply: oneshot::channel().0 }
    }

    fn round_of(bytes: usize) -> usize {
        let mut round = Round::default();
        while round.has_room() && round.size < 10_000 {
            round.add(accept(bytes));
        }
        round.size
    }

    #[test]
    fn one_commit_is_bounded_by_commands_and_by_bytes() {
        assert_eq!(round_of(10), 512);
        assert_eq!(round_of(512_000), 17);
    }
}
