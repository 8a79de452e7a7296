//! What the bridge commits, and how it handles the answers.

use std::collections::HashMap;
use std::time::Duration;

use sentry_pagerduty_bridge::delivery::Moment;
use sentry_pagerduty_bridge::queue::Answers;
use sentry_pagerduty_bridge::queue::{
    AttemptPayload, BeginRequest, Disposition, EnqueuedEvent, EventId, QueueError, SettleRequest,
};

use rand::RngExt;

use crate::queue::{Round, State};
use crate::runner::service_key;
use crate::scenario::Alert;
use crate::steps::Step;
use crate::world::World;

/// The worker's pause before it retries a failed commit.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// The probability that a commit also contains later requests.
const SHARED: f64 = 0.5;

/// A request of the running bridge to the queue that is not answered yet.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Enqueue(Alert),
    Begin { id: EventId, asked: Duration },
    Settle { id: EventId, disposition: Disposition<Moment> },
}

impl World {
    /// Requests a commit, which ends after a random time.
    pub(crate) fn ask(&mut self, operation: Operation) {
        let wait = self.commit_time();
        self.ask_after(wait, operation);
    }

    fn ask_after(&mut self, wait: Duration, operation: Operation) {
        let run = self.run;
        self.operations += 1;
        let number = self.operations;
        self.pending.insert(number, operation);
        self.after(wait, Step::Commit { run, number });
    }

    /// Ends the commit that an operation waited for. It contains all earlier operations, and sometimes all later ones.
    pub(crate) fn commit(&mut self, number: u64) {
        if !self.pending.contains_key(&number) {
            return;
        }
        let later = self.pending.split_off(&(number + 1));
        let mut operations = std::mem::replace(&mut self.pending, later);
        if self.rng.random_bool(SHARED) {
            operations.append(&mut self.pending);
        }
        let operations: Vec<_> = operations.into_values().collect();
        if self.disk_fails() {
            for operation in operations {
                self.fail(operation);
            }
            return;
        }
        let (round, unreadable) = self.round(&operations);
        let (accepted, answers) = self.queue.commit(round, self.now);
        self.answer(operations, &accepted, answers, &unreadable);
    }

    /// The bridge is killed: some of its requests are committed, but not answered.
    pub(crate) fn lose_answers(&mut self) {
        let mut operations: Vec<_> = std::mem::take(&mut self.pending).into_values().collect();
        operations.retain(|_| self.rng.random_bool(0.3));
        if !self.disk_fails() {
            let (round, _) = self.round(&operations);
            self.queue.commit(round, self.now);
        }
    }

    /// The requests of a commit of these operations, and the events whose attempts cannot begin because they cannot be
    /// read.
    fn round(&mut self, operations: &[Operation]) -> (Round, Vec<EventId>) {
        let (mut round, mut unreadable, at) = (Round::default(), Vec::new(), self.scenario.wall_clock(self.now));
        for operation in operations {
            match operation {
                Operation::Enqueue(alert) => round.alerts.push(alert.clone()),
                Operation::Begin { id, asked } => {
                    let row = self.queue.row(*id);
                    if row.state == State::Waiting && !row.is_readable(self.now) {
                        unreadable.push(*id);
                        continue;
                    }
                    let skipped = self.bridge().unreadable.iter().copied().collect();
                    round.begins.push(BeginRequest {
                        id: *id,
                        at: self.scenario.wall_clock(*asked),
                        skipped,
                        fence: None,
                    });
                }
                Operation::Settle { id, disposition } => {
                    if let Disposition::RetryNow { .. } = disposition {
                        assert_eq!(self.queue.blamed(*id), Duration::ZERO, "the worker keeps no blame for it");
                    }
                    // The stored time of the next attempt is only displayed, so any time will do.
                    let disposition = disposition.clone().by_clock(|_| at);
                    round.settles.push(SettleRequest { id: *id, disposition, at, fence: None });
                }
            }
        }
        (round, unreadable)
    }

    fn answer(
        &mut self,
        operations: Vec<Operation>,
        accepted: &HashMap<usize, EnqueuedEvent>,
        answers: Answers,
        unreadable: &[EventId],
    ) {
        let mut begun = answers.begun.into_iter();
        // As with the real writer, the bridge learns of new events in order and before any other answer.
        let alerts = operations.iter().filter_map(|operation| match operation {
            Operation::Enqueue(alert) => Some((accepted[&alert.number], alert.key)),
            Operation::Begin { .. } | Operation::Settle { .. } => None,
        });
        let mut new: Vec<_> = alerts.filter(|(accepted, _)| !accepted.is_folded()).collect();
        new.sort_unstable_by_key(|(accepted, _)| accepted.id);
        for (accepted, key) in new {
            self.enqueued(accepted.id, key);
        }
        for operation in operations {
            match operation {
                Operation::Enqueue(_) => {}
                Operation::Begin { id, .. } if unreadable.contains(&id) => self.cannot_begin(id),
                Operation::Begin { id, asked } => self.begun(id, asked, begun.next().unwrap()),
                Operation::Settle { id, disposition } => self.settled(id, &disposition),
            }
        }
    }

    /// Handles an operation whose commit failed.
    fn fail(&mut self, operation: Operation) {
        let now = self.now;
        match operation {
            Operation::Enqueue(_) => {}
            Operation::Begin { id, .. } => {
                let key = self.key_of(id);
                let bridge = self.bridge();
                bridge.outstanding -= 1;
                bridge.in_flight.remove(&id);
                let until = bridge.clock(now) + DATABASE_PAUSE;
                bridge.scheduler.not_begun(&key, id, until);
                self.decide();
            }
            Operation::Settle { .. } => self.ask_after(DATABASE_PAUSE, operation),
        }
    }

    /// Announces a new event, or drops the announcement and marks its key.
    fn enqueued(&mut self, id: EventId, key: usize) {
        let run = self.run;
        let delay = Duration::from_millis(self.rng.random_range(0..20));
        let at = (self.now + delay).max(self.bridge().announced);
        self.bridge().announced = at;
        if self.bridge().missed[key] {
            return;
        }
        if self.rng.random_bool(self.scenario.overflows) {
            self.bridge().missed[key] = true;
            self.schedule(at - self.now, Step::Missed { run, key });
        } else {
            self.schedule(at - self.now, Step::Announced { run, id });
        }
    }

    /// Handles an event that was to be sent and cannot be read.
    fn cannot_begin(&mut self, id: EventId) {
        let key = self.key_of(id);
        let bridge = self.bridge();
        bridge.outstanding -= 1;
        bridge.in_flight.remove(&id);
        bridge.scheduler.gone(&key, id);
        self.cannot_read(id);
        self.decide();
    }

    fn begun(&mut self, id: EventId, asked: Duration, begun: Result<AttemptPayload, QueueError>) {
        let key = self.key_of(id);
        let error = match begun {
            Ok(begun) => return self.send(id, &begun.body),
            Err(error) => error,
        };
        let bridge = self.bridge();
        bridge.outstanding -= 1;
        bridge.in_flight.remove(&id);
        if let QueueError::Behind { earlier, .. } = error {
            bridge.scheduler.blocked(&key, id);
            let row = self.queue.row(earlier);
            let is_news = row.requeued || row.read_again_at >= Some(asked) || row.unreadable_until > asked;
            assert!(is_news, "event {id} was to overtake event {earlier}, which the bridge knew: {row:?}");
        } else {
            bridge.scheduler.gone(&key, id);
        }
        self.decide();
    }

    fn settled(&mut self, id: EventId, disposition: &Disposition<Moment>) {
        let key = self.key_of(id);
        let bridge = self.bridge();
        bridge.outstanding -= 1;
        bridge.in_flight.remove(&id);
        bridge.scheduler.settled(&key, id, disposition);
        self.decide();
    }

    fn key_of(&mut self, id: EventId) -> sentry_pagerduty_bridge::pagerduty::ServiceKey {
        service_key(self.queue.row(id).key)
    }
}
