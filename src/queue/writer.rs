//! The one task that writes: it commits together whatever has piled up while the last commit was under way.
//!
//! So a lone command waits for one fsync, and many share one. It knows no SQL: the engine takes a [`Batch`] and
//! commits all of it or nothing.

mod divide;

use std::collections::HashSet;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use log::{Level, log};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::ingest::Dedup;
use crate::logging::throttle;
use crate::metrics::Memory;

use super::pulse::Pulse;
use super::sqlite::Engine;
use super::told::Told;
use super::{Arrival, Begun, EventId, Incoming, QueueError, Reception, Rejected, RejectedId, Settlement};

/// How many commands may wait for the writer before senders have to.
const COMMANDS: usize = 4096;

/// How many commands one commit takes at most.
const BATCH_COMMANDS: usize = 512;

/// How many bytes of bodies one commit takes at most, give or take the last body.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How often the files are looked at while nobody commits.
const LOOK: Duration = Duration::from_secs(1);

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// What can be asked of the writer. Every reply comes after the commit.
#[derive(Debug)]
pub(super) enum Command {
    Receive {
        incoming: Box<Incoming>,
        reply: Reply<Reception>,
    },
    Begin {
        begin: Begin,
        reply: Reply<Begun>,
    },
    Settle {
        id: EventId,
        settlement: Settlement,
        at: DateTime<Utc>,
        reply: Reply<()>,
    },
    Reject {
        rejected: Rejected,
        reply: Reply<RejectedId>,
    },
    Prune {
        prune: Prune,
        reply: Reply<u64>,
    },
    Probe {
        reply: Reply<()>,
    },
    Remember {
        memory: Memory,
        reply: Reply<()>,
    },
    /// Gives at most so many empty pages of the file back to the disk, and tells how many are left to give.
    Shrink {
        pages: u32,
        reply: Reply<u64>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// Forgets delivered events, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prune {
    /// Only those delivered before this moment.
    pub(super) before: DateTime<Utc>,
    /// Incidents that were closed before this moment are forgotten, too.
    pub(super) incidents_before: DateTime<Utc>,
    /// At most so many.
    pub(super) limit: u32,
}

/// An attempt that is to begin.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    pub(super) id: EventId,
    pub(super) at: DateTime<Utc>,
    /// Earlier events of its incident that are not waited for.
    pub(super) past: Vec<EventId>,
}

/// Why an attempt does not begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NotFirst {
    /// The event is not in line.
    NotWaiting,
    /// This one of its incident goes first.
    Behind(EventId),
}

/// What triggers may be folded into.
#[derive(Clone, Debug)]
pub(super) struct Folding {
    /// Whether anything may be folded into what waits already; not where that may be damaged.
    pub(super) allowed: bool,
    /// Events that were attempted although damage does not let them be marked: their bytes are known outside.
    pub(super) attempted: HashSet<EventId>,
}

impl Default for Folding {
    fn default() -> Self {
        Self { allowed: true, attempted: HashSet::new() }
    }
}

/// What one commit holds, to be written in this order.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// Attempts that were begun when nothing could be committed.
    pub(super) owed: Vec<(EventId, DateTime<Utc>)>,
    pub(super) incoming: Vec<Incoming>,
    pub(super) folding: Folding,
    pub(super) settlements: Vec<(EventId, Settlement, DateTime<Utc>)>,
    pub(super) begins: Vec<Begin>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) prunes: Vec<Prune>,
    /// Whether to write something as large as an alert.
    pub(super) probe: bool,
    /// What the metrics want to find after a restart.
    pub(super) memory: Option<Memory>,
}

/// What came of a [`Batch`], entry by entry.
#[derive(Debug, Default)]
pub(super) struct Committed {
    pub(super) receptions: Vec<Reception>,
    /// The events that are new in line, in its order.
    pub(super) arrivals: Vec<Arrival>,
    /// Whether the event was still waiting.
    pub(super) settlements: Vec<bool>,
    /// What to send, if it was the event's turn.
    pub(super) begins: Vec<Result<Begun, NotFirst>>,
    pub(super) rejected: Vec<RejectedId>,
    /// How many were forgotten.
    pub(super) prunes: Vec<u64>,
}

/// Starts the writer. It ends when every sender is gone or on [`Command::Close`], after what was sent is committed.
pub(super) fn spawn(engine: Engine, pulse: Arc<Pulse>) -> mpsc::Sender<Command> {
    let (sender, receiver) = mpsc::channel(COMMANDS);
    tokio::spawn(run(engine, receiver, pulse));
    sender
}

async fn run(mut engine: Engine, mut commands: mpsc::Receiver<Command>, pulse: Arc<Pulse>) {
    let mut closing = Vec::new();
    let mut carried = Carried::default();
    loop {
        let command = match timeout(LOOK, commands.recv()).await {
            Ok(Some(command)) => command,
            Ok(None) => break,
            Err(_) => {
                // Files that were taken away are found out also while nobody commits, and opened anew.
                pulse.is_busy(true);
                if let Err(error) = engine.look().await {
                    // A failure once, however long it lasts.
                    if pulse.is_well() {
                        pulse.failed();
                    }
                    let line = throttle::line("alerts were not accepted", Level::Error);
                    log!(line.level, "alerts cannot be committed: {error}{line}");
                }
                pulse.is_busy(false);
                continue;
            }
        };
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
        let maintenance = std::mem::take(&mut round.maintenance);
        if round.size > 0 {
            pulse.is_busy(true);
            round.commit(&mut engine, &pulse, &mut carried).await;
        }
        for task in maintenance {
            pulse.is_busy(true);
            // By itself, so that no alert ever fails with it.
            task.run(&mut engine, &pulse).await;
        }
        pulse.is_busy(false);
    }
    let closed = engine.close().await;
    for reply in closing {
        // Whoever asked may have gone away meanwhile, here and below.
        let _ = reply.send(closed.clone());
    }
}

/// What is done for the queue itself, and not for an alert.
enum Maintenance {
    Prune(Prune, Reply<u64>),
    Remember(Memory, Reply<()>),
    Shrink(u32, Reply<u64>),
}

impl Maintenance {
    async fn run(self, engine: &mut Engine, pulse: &Pulse) {
        match self {
            Self::Prune(prune, reply) => {
                let begun_at = Instant::now();
                let pruned = engine.commit(Batch { prunes: vec![prune], ..Batch::default() }).await;
                if let Ok(committed) = &pruned {
                    pulse.observer().tell_of(begun_at.elapsed(), committed);
                    pulse.committed(false, iter::empty());
                }
                let _ = reply.send(pruned.map(|committed| committed.prunes.into_iter().sum()));
            }
            Self::Remember(memory, reply) => {
                let remembered = engine.commit(Batch { memory: Some(memory), ..Batch::default() }).await;
                let _ = reply.send(remembered.map(drop));
            }
            Self::Shrink(pages, reply) => {
                let _ = reply.send(engine.shrink(pages).await);
            }
        }
    }
}

/// What one commit leaves to the next.
#[derive(Debug, Default)]
struct Carried {
    /// The attempts that nobody could mark so far.
    owed: Vec<(EventId, DateTime<Utc>)>,
    /// Those that damage does not let be marked, until they are settled.
    unmarkable: HashSet<EventId>,
    told: Told,
}

/// The commands of one commit, sorted into its [`Batch`] and those who wait for it.
#[derive(Default)]
struct Round {
    size: usize,
    bytes: usize,
    batch: Batch,
    receiving: Vec<Reply<Reception>>,
    /// Those who brought what was told already.
    repeating: Vec<(Incoming, Reply<Reception>)>,
    /// What this round tells.
    tells: Vec<(Dedup, DateTime<Utc>)>,
    settling: Vec<Reply<()>>,
    beginning: Vec<Reply<Begun>>,
    rejecting: Vec<Reply<RejectedId>>,
    probing: Vec<Reply<()>>,
    maintenance: Vec<Maintenance>,
    closing: Vec<Reply<()>>,
}

impl Round {
    fn has_room(&self) -> bool {
        self.size < BATCH_COMMANDS && self.bytes < BATCH_BYTES
    }

    fn add(&mut self, command: Command) {
        self.size += 1;
        match command {
            Command::Receive { incoming, reply } => {
                self.bytes += incoming.size();
                self.batch.incoming.push(*incoming);
                self.receiving.push(reply);
            }
            Command::Settle { id, settlement, at, reply } => {
                self.batch.settlements.push((id, settlement, at));
                self.settling.push(reply);
            }
            Command::Begin { begin, reply } => {
                self.batch.begins.push(begin);
                self.beginning.push(reply);
            }
            Command::Reject { rejected, reply } => {
                self.bytes += rejected.body.len();
                self.batch.rejected.push(rejected);
                self.rejecting.push(reply);
            }
            Command::Prune { prune, reply } => {
                self.size -= 1;
                self.maintenance.push(Maintenance::Prune(prune, reply));
            }
            Command::Probe { reply } => {
                self.batch.probe = true;
                self.probing.push(reply);
            }
            Command::Remember { memory, reply } => {
                self.size -= 1;
                self.maintenance.push(Maintenance::Remember(memory, reply));
            }
            Command::Shrink { pages, reply } => {
                self.size -= 1;
                self.maintenance.push(Maintenance::Shrink(pages, reply));
            }
            Command::Close { reply } => {
                self.size -= 1;
                self.closing.push(reply);
            }
        }
    }

    /// Sets apart what was told already, by an earlier commit or earlier in this round.
    fn set_repetitions_apart(&mut self, told: &Told) {
        let mut keys = HashSet::new();
        let all = std::mem::take(&mut self.batch.incoming).into_iter().zip(std::mem::take(&mut self.receiving));
        for (incoming, reply) in all {
            let Incoming { dedup, received_at, .. } = &incoming;
            if told.knows(dedup, *received_at) || dedup.seen_if.iter().any(|key| keys.contains(key)) {
                self.repeating.push((incoming, reply));
                continue;
            }
            if !dedup.records.is_empty() {
                keys.extend(dedup.records.iter().cloned());
                self.tells.push((dedup.clone(), *received_at));
            }
            self.batch.incoming.push(incoming);
            self.receiving.push(reply);
        }
    }

    /// Commits the round and answers everybody in it. Of what fails by damaged content, all else is committed.
    async fn commit(self, engine: &mut Engine, pulse: &Pulse, carried: &mut Carried) {
        // The next one stands last.
        let mut rounds = vec![self];
        while let Some(round) = rounds.pop() {
            let mut parts = round.commit_whole(engine, pulse, carried).await;
            while let Some(part) = parts.pop() {
                rounds.push(part);
            }
        }
    }

    /// Commits the round as a whole and answers everybody in it, or returns the parts of it that are to be committed
    /// instead, in their order.
    async fn commit_whole(mut self, engine: &mut Engine, pulse: &Pulse, carried: &mut Carried) -> Vec<Self> {
        let Carried { owed, unmarkable, told } = carried;
        self.set_repetitions_apart(told);
        self.batch.folding.attempted.clone_from(unmarkable);
        let settled: Vec<_> = self.batch.settlements.iter().map(|&(id, ..)| id).collect();
        let begun = self.batch.begins.clone();
        let takes_alerts = !self.batch.incoming.is_empty() || self.batch.probe;
        let batch = Batch { owed: owed.clone(), ..self.batch.clone() };
        let begun_at = Instant::now();
        match engine.commit(batch).await {
            Ok(committed) => {
                pulse.observer().tell_of(begun_at.elapsed(), &committed);
                owed.clear();
                // Only now: what was refused may come again.
                for (dedup, received_at) in self.tells {
                    told.remember(dedup, received_at);
                }
                pulse.committed(takes_alerts, committed.arrivals.into_iter());
                answer(self.receiving, committed.receptions.into_iter().map(Ok));
                answer(repeating(self.repeating), iter::repeat(Ok(Reception::Repeated)));
                for id in &settled {
                    unmarkable.remove(id);
                }
                let settlements = committed.settlements.into_iter().map(|waiting| waiting.then_some(()));
                answer(self.settling, if_waiting(settlements, settled));
                answer(self.beginning, if_first(committed.begins, &begun));
                answer(self.rejecting, committed.rejected.into_iter().map(Ok));
                answer(self.probing, iter::repeat(Ok(())));
            }
            Err(error) if error.is_of_content() && !owed.is_empty() && carried.pay(engine).await => return vec![self],
            Err(error) if error.is_of_content() && self.commands() > 1 => return self.divided(),
            Err(error) if error.is_of_content() && !self.batch.incoming.is_empty() && self.batch.folding.allowed => {
                self.batch.folding.allowed = false;
                return vec![self];
            }
            Err(error) => {
                let Carried { owed, .. } = carried;
                // That an event cannot be read says nothing about the alerts that come.
                if takes_alerts || !error.is_of_content() {
                    pulse.failed();
                }
                answer(self.receiving, iter::repeat(Err(error.clone())));
                answer(repeating(self.repeating), iter::repeat(Err(error.clone())));
                answer(self.settling, iter::repeat(Err(error.clone())));
                let unmarked = begin_unmarked(engine, &begun, owed, &error).await;
                answer(self.beginning, unmarked.into_iter());
                answer(self.rejecting, iter::repeat(Err(error.clone())));
                answer(self.probing, iter::repeat(Err(error)));
            }
        }
        Vec::new()
    }
}

fn repeating(repeating: Vec<(Incoming, Reply<Reception>)>) -> Vec<Reply<Reception>> {
    repeating.into_iter().map(|(_, reply)| reply).collect()
}

/// Lets attempts begin that could not be marked: an alert that waits must reach people also when the disk is full.
///
/// The marks are owed from then on and are the first that the next commit writes, so that nothing is ever folded into
/// an event whose bytes were sent. Only a crash before that forgets them: then the event is sent once more.
async fn begin_unmarked(
    engine: &Engine,
    begins: &[Begin],
    owed: &mut Vec<(EventId, DateTime<Utc>)>,
    cause: &QueueError,
) -> Vec<Result<Begun, QueueError>> {
    let Ok(begun) = engine.begun_unmarked(begins).await else {
        return iter::repeat_n(Err(cause.clone()), begins.len()).collect();
    };
    let mark_later = |(begun, begin): (Result<Begun, QueueError>, &Begin)| {
        let begun = begun?;
        let line = throttle::line("attempts were not recorded as begun", Level::Warn);
        log!(line.level, event = begin.id.get(); "sent without a mark, because nothing can be committed: {cause}{line}");
        owed.push((begin.id, begin.at));
        Ok(begun)
    };
    if_first(begun, begins).zip(begins).map(mark_later).collect()
}

/// Sends each of `replies` its answer; one that nobody waits for any more is no loss.
fn answer<T>(replies: Vec<Reply<T>>, answers: impl Iterator<Item = Result<T, QueueError>>) {
    for (reply, answer) in replies.into_iter().zip(answers) {
        let _ = reply.send(answer);
    }
}

fn if_first(found: Vec<Result<Begun, NotFirst>>, begins: &[Begin]) -> impl Iterator<Item = Result<Begun, QueueError>> {
    found.into_iter().zip(begins).map(|(begun, &Begin { id, .. })| {
        begun.map_err(|reason| match reason {
            NotFirst::NotWaiting => QueueError::NotWaiting(id),
            NotFirst::Behind(earlier) => QueueError::Behind { id, earlier },
        })
    })
}

fn if_waiting<T>(
    found: impl Iterator<Item = Option<T>>,
    ids: impl IntoIterator<Item = EventId>,
) -> impl Iterator<Item = Result<T, QueueError>> {
    found.zip(ids).map(|(found, id)| found.ok_or(QueueError::NotWaiting(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pagerduty::{EventType, IncidentKey, ServiceKey};
    use crate::queue::NewEvent;

    fn accept(bytes: usize) -> Command {
        let event = NewEvent {
            service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
            incident_key: IncidentKey::parse("42").unwrap(),
            event_type: EventType::Trigger,
            description: String::new(),
            body: vec![0; bytes],
            received_at: DateTime::UNIX_EPOCH,
        };
        Command::Receive { incoming: Box::new(Incoming::event(event)), reply: oneshot::channel().0 }
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
