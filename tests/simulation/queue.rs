//! The queue of a world: the real rules over a store in memory, which survives crashes of the bridge; and what the world
//! knows about each event in addition.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sentry_pagerduty_bridge::pagerduty::{EventType, ServiceKey};
use sentry_pagerduty_bridge::queue::memory::{MemoryQueue, Operations};
use sentry_pagerduty_bridge::queue::{
    Answers, BeginRequest, EnqueueRequest, Enqueued, EnqueuedEvent, EventId, Page, SettleRequest, Unreadable,
    WaitingEvent,
};

use crate::fault::Content;
use crate::runner::{self, service_key};
use crate::scenario::Alert;

/// The state of an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Waiting,
    Delivered,
    Dead(String),
    /// It was deleted by an operator.
    Discarded,
}

/// A committed event.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The content of the newest alert that was folded into it.
    pub(crate) content: Content,
    pub(crate) number: usize,
    /// The number of alerts that it stands for.
    pub(crate) alerts: u32,
    pub(crate) key: usize,
    pub(crate) incident: usize,
    pub(crate) event_type: EventType,
    pub(crate) state: State,
    pub(crate) committed_at: Duration,
    pub(crate) first_failed_at: Option<Duration>,
    pub(crate) settled_at: Option<Duration>,
    /// The bytes that were sent.
    pub(crate) sent: Option<Vec<u8>>,
    /// The last run of the bridge that retried it at once, without counting a failure.
    pub(crate) excused_in: Option<u32>,
    /// An operator retried it, and this run of the bridge has not read it since.
    pub(crate) requeued: bool,
    /// When a run of the bridge read it after that, or after it could not be read.
    pub(crate) read_again_at: Option<Duration>,
    /// Until this time it cannot be read.
    pub(crate) unreadable_until: Duration,
}

/// Operations of one commit.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) alerts: Vec<Alert>,
    pub(crate) begins: Vec<BeginRequest>,
    pub(crate) settles: Vec<SettleRequest>,
}

/// The queue; the id of an event is the index of its row, counted from 1.
#[derive(Debug)]
pub(crate) struct Queue {
    store: MemoryQueue,
    pub(crate) rows: Vec<Row>,
    /// Alerts, by their numbers, that cannot be read until this time.
    unreadable: HashMap<usize, Duration>,
}

impl Queue {
    pub(crate) fn new(unreadable: HashMap<usize, Duration>) -> Self {
        Self { store: MemoryQueue::default(), rows: Vec::new(), unreadable }
    }

    /// Commits a round. An alert whose incident queue contains an unreadable event is committed separately and not folded,
    /// as by the writer. The answers to alerts are by their numbers.
    pub(crate) fn commit(&mut self, round: Round, now: Duration) -> (HashMap<usize, EnqueuedEvent>, Answers) {
        let Round { alerts, begins, settles } = round;
        let (damaged, intact): (Vec<_>, Vec<_>) = alerts.into_iter().partition(|alert| self.is_damaged(alert, now));
        let settled: Vec<_> = settles.iter().map(|settle| settle.id).collect();
        let operations =
            Operations { enqueues: intact.iter().map(enqueue).collect(), settles, begins, ..Operations::default() };
        let answers = self.store.commit(&operations);
        let mut accepted: HashMap<_, _> =
            intact.iter().zip(&answers.enqueued).map(|(alert, answer)| self.note(alert, answer, now)).collect();
        for alert in damaged {
            let operations =
                Operations { enqueues: vec![enqueue(&alert)], skips_folding: true, ..Operations::default() };
            let answer = self.store.commit(&operations).enqueued.pop().unwrap();
            accepted.extend([self.note(&alert, &answer, now)]);
        }
        for id in settled {
            self.update(id, now);
        }
        (accepted, answers)
    }

    /// Whether an unreadable event waits in the incident queue of an alert.
    fn is_damaged(&self, alert: &Alert, now: Duration) -> bool {
        let is_damaged = |row: &Row| row.state == State::Waiting && !row.is_readable(now);
        self.rows.iter().any(|row| row.key == alert.key && row.incident == alert.incident && is_damaged(row))
    }

    /// Records what the world knows about an enqueued alert.
    fn note(&mut self, alert: &Alert, enqueued: &Enqueued, now: Duration) -> (usize, EnqueuedEvent) {
        let Enqueued::Queued(accepted) = enqueued else { panic!("an alert was not queued: {enqueued:?}") };
        let [accepted] = accepted[..] else { panic!("an alert became several events: {accepted:?}") };
        let unreadable_until = self.unreadable.get(&alert.number).copied().unwrap_or_default();
        if accepted.is_folded() {
            let row = self.row(accepted.id);
            assert!(row.sent.is_none(), "an alert was folded into what was sent: {row:?}");
            assert_eq!((row.key, row.incident), (alert.key, alert.incident), "folded into another incident");
            (row.content, row.number) = (alert.content, alert.number);
            row.alerts += 1;
            row.unreadable_until = row.unreadable_until.max(unreadable_until);
            return (alert.number, accepted);
        }
        self.rows.push(Row {
            content: alert.content,
            number: alert.number,
            alerts: 1,
            key: alert.key,
            incident: alert.incident,
            event_type: alert.event_type,
            state: State::Waiting,
            committed_at: now,
            first_failed_at: None,
            settled_at: None,
            sent: None,
            excused_in: None,
            requeued: false,
            read_again_at: None,
            unreadable_until,
        });
        assert_eq!(accepted.id.get(), i64::try_from(self.rows.len()).unwrap(), "a number is missing");
        (alert.number, accepted)
    }

    /// Retries dead letters, if the rules of the queue allow it.
    pub(crate) fn requeue(&mut self, ids: &[EventId], at: DateTime<Utc>, now: Duration) -> Vec<EventId> {
        let requeued = self.store.requeue(ids, at);
        for id in &requeued {
            self.update(*id, now);
        }
        requeued
    }

    pub(crate) fn discard(&mut self, ids: &[EventId], now: Duration) {
        for state in [sentry_pagerduty_bridge::queue::State::Waiting, sentry_pagerduty_bridge::queue::State::Dead] {
            self.store.discard(state, ids);
        }
        for id in ids {
            self.update(*id, now);
        }
    }

    /// Updates the state of an event from the queue.
    fn update(&mut self, id: EventId, now: Duration) {
        let record = self.store.get(id);
        let row = self.row(id);
        let state = match record {
            None => State::Discarded,
            Some(record) => {
                assert_eq!(record.summary.count, row.alerts, "alerts were counted wrongly: {row:?}");
                assert_eq!(number_in(&record.body), row.number, "not the newest alert: {row:?}");
                match record.summary.state {
                    sentry_pagerduty_bridge::queue::State::Waiting => State::Waiting,
                    sentry_pagerduty_bridge::queue::State::Delivered => State::Delivered,
                    sentry_pagerduty_bridge::queue::State::Dead => {
                        State::Dead(record.summary.reason.unwrap_or_default())
                    }
                }
            }
        };
        if state != row.state {
            row.settled_at = (state != State::Waiting).then_some(now);
            row.state = state;
        }
    }

    /// Records the bytes of an attempt; returns the number of the attempt.
    pub(crate) fn sent(&mut self, id: EventId, body: &[u8]) -> u32 {
        let attempts = self.store.get(id).unwrap().summary.attempts;
        let row = self.row(id);
        assert_eq!(number_in(body), row.number, "not the newest alert was sent: {row:?}");
        if row.alerts > 1 {
            let occurrences = format!("\"occurrences\":{},", row.alerts);
            assert!(String::from_utf8_lossy(body).contains(&occurrences), "not all alerts were sent: {row:?}");
        }
        let sent = row.sent.get_or_insert_with(|| body.to_vec());
        assert_eq!(sent, body, "an attempt sends other bytes than the one before");
        attempts
    }

    pub(crate) fn row(&mut self, id: EventId) -> &mut Row {
        &mut self.rows[usize::try_from(id.get()).unwrap() - 1]
    }

    pub(crate) fn blamed(&self, id: EventId) -> Duration {
        self.store.get(id).map(|record| record.blamed).unwrap_or_default()
    }

    pub(crate) fn dead(&self, key: usize) -> Vec<EventId> {
        let dead = |row: &Row| row.key == key && matches!(row.state, State::Dead(_));
        (1..).zip(&self.rows).filter(|(_, row)| dead(row)).map(|(number, _)| EventId::new(number)).collect()
    }

    pub(crate) fn keys_waiting(&self) -> BTreeSet<ServiceKey> {
        self.store.keys_waiting()
    }

    pub(crate) fn attempts(&self) -> Vec<(ServiceKey, DateTime<Utc>, u32)> {
        self.store.attempts()
    }

    pub(crate) fn waiting(&self, key: usize) -> Vec<EventId> {
        self.store.waiting(&service_key(key), None, usize::MAX).iter().map(|event| event.id).collect()
    }

    pub(crate) fn all_settled(&self) -> bool {
        self.rows.iter().all(|row| row.state != State::Waiting)
    }

    pub(crate) fn page(&self, key: usize, after: Option<EventId>, limit: usize, now: Duration) -> Page {
        let found = self.store.waiting(&service_key(key), after, limit);
        let (end, is_last) = (found.last().map(|event| event.id), found.len() < limit);
        let is_readable =
            |event: &WaitingEvent| self.rows[usize::try_from(event.id.get()).unwrap() - 1].is_readable(now);
        let (events, unreadable): (Vec<_>, Vec<_>) = found.into_iter().partition(is_readable);
        let set_aside = |event: WaitingEvent| Unreadable {
            id: event.id,
            service_key: Some(event.service_key),
            reason: String::new(),
        };
        Page { events, unreadable: unreadable.into_iter().map(set_aside).collect(), end, is_last }
    }
}

/// The result of a read of a key's waiting events.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    Page(Page),
    Fails,
}

impl Row {
    pub(crate) fn is_readable(&self, now: Duration) -> bool {
        now >= self.unreadable_until
    }
}

fn enqueue(alert: &Alert) -> EnqueueRequest {
    runner::enqueue(alert.number, alert.key, alert.incident, alert.event_type, utc(alert.at))
}

fn number_in(body: &[u8]) -> usize {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    usize::try_from(body["number"].as_u64().unwrap()).unwrap()
}

/// The time of the world as wall-clock time.
pub(crate) fn utc(moment: Duration) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + moment
}
