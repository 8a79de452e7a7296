//! A model of the queue: what is committed, and nothing else, outlives a crash.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sentry_pagerduty_bridge::pagerduty::EventType;
use sentry_pagerduty_bridge::queue::{EventId, WaitingEvent};

use crate::fault::Content;
use crate::plan::{self, Coming};

/// Where an event stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Waiting,
    Delivered,
    Dead(String),
    /// By an operator.
    Discarded,
}

/// A committed event.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) content: Content,
    pub(crate) number: usize,
    pub(crate) key: usize,
    pub(crate) incident: usize,
    pub(crate) event_type: EventType,
    pub(crate) state: State,
    pub(crate) attempts: u32,
    /// By the machine's clock.
    pub(crate) last_attempt_at: Option<DateTime<Utc>>,
    pub(crate) blamed: Duration,
    pub(crate) committed_at: Duration,
    pub(crate) first_failed_at: Option<Duration>,
    pub(crate) settled_at: Option<Duration>,
    /// The last run of the bridge that sent it again as if it had not failed.
    pub(crate) excused_in: Option<u32>,
    /// An operator put it back in line, and this run of the bridge did not read it since.
    pub(crate) put_back: bool,
    /// When a run of the bridge read it after that, or after it could not be read.
    pub(crate) read_again_at: Option<Duration>,
    /// It cannot be read before.
    pub(crate) unreadable_until: Duration,
}

/// The rows; an event's number is its place, counted from 1.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) rows: Vec<Row>,
    waiting: Vec<BTreeSet<EventId>>,
}

impl Queue {
    pub(crate) fn new(keys: usize) -> Self {
        Self { rows: Vec::new(), waiting: vec![BTreeSet::new(); keys] }
    }

    pub(crate) fn insert(&mut self, coming: &Coming, now: Duration, unreadable_until: Duration) -> EventId {
        self.rows.push(Row {
            content: coming.content,
            number: coming.number,
            key: coming.key,
            incident: coming.incident,
            event_type: coming.event_type,
            state: State::Waiting,
            attempts: 0,
            last_attempt_at: None,
            blamed: Duration::ZERO,
            committed_at: now,
            first_failed_at: None,
            settled_at: None,
            excused_in: None,
            put_back: false,
            read_again_at: None,
            unreadable_until,
        });
        let id = EventId::new(i64::try_from(self.rows.len()).unwrap());
        self.waiting[coming.key].insert(id);
        id
    }

    pub(crate) fn row(&mut self, id: EventId) -> &mut Row {
        &mut self.rows[usize::try_from(id.get()).unwrap() - 1]
    }

    /// Moves an event; the caller says which way.
    pub(crate) fn put(&mut self, id: EventId, state: State, now: Duration) {
        let row = self.row(id);
        let waits = state == State::Waiting;
        row.settled_at = (!waits).then_some(now);
        row.state = state;
        let key = row.key;
        if waits {
            self.waiting[key].insert(id);
        } else {
            self.waiting[key].remove(&id);
        }
    }

    pub(crate) fn dead(&self, key: usize) -> Vec<EventId> {
        let dead = |row: &Row| row.key == key && matches!(row.state, State::Dead(_));
        (1..).zip(&self.rows).filter(|(_, row)| dead(row)).map(|(number, _)| EventId::new(number)).collect()
    }

    pub(crate) fn keys(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn waiting(&self, key: usize) -> &BTreeSet<EventId> {
        &self.waiting[key]
    }

    pub(crate) fn all_settled(&self) -> bool {
        self.waiting.iter().all(BTreeSet::is_empty)
    }

    pub(crate) fn page(&mut self, key: usize, after: Option<EventId>, limit: usize, now: Duration) -> Page {
        let ids: Vec<EventId> = self.waiting[key].iter().copied().filter(|id| Some(*id) > after).take(limit).collect();
        let (end, last) = (ids.last().copied(), ids.len() < limit);
        let (readable, unreadable): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.row(*id).is_readable(now));
        let events = readable.into_iter().map(|id| self.row(id).as_waiting(id)).collect();
        Page { events, unreadable, end, last }
    }

    /// The oldest waiting event of the line in which `id` stands, except these.
    pub(crate) fn first_of_line(&mut self, id: EventId, past: &BTreeSet<EventId>) -> Option<EventId> {
        let (key, incident) = (self.row(id).key, self.row(id).incident);
        let ids: Vec<EventId> = self.waiting[key].range(..=id).copied().collect();
        ids.into_iter().find(|id| self.row(*id).incident == incident && !past.contains(id))
    }

    /// Whether a resolve is older than a trigger of its incident that waits or was taken, and would close that.
    pub(crate) fn was_triggered_anew(&mut self, id: EventId) -> bool {
        let (key, incident, event_type) = (self.row(id).key, self.row(id).incident, self.row(id).event_type);
        let later = |(number, row): (i64, &Row)| {
            number > id.get()
                && row.key == key
                && row.incident == incident
                && row.event_type == EventType::Trigger
                && matches!(row.state, State::Waiting | State::Delivered)
        };
        event_type == EventType::Resolve && (1..).zip(&self.rows).any(later)
    }
}

/// How a read of a line ends.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    Page(Page),
    Fails,
}

/// What is read of a line.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) events: Vec<WaitingEvent>,
    pub(crate) unreadable: Vec<EventId>,
    pub(crate) end: Option<EventId>,
    pub(crate) last: bool,
}

impl Row {
    pub(crate) fn is_readable(&self, now: Duration) -> bool {
        now >= self.unreadable_until
    }

    fn as_waiting(&self, id: EventId) -> WaitingEvent {
        WaitingEvent {
            id,
            incident_key: plan::incident_key(self.incident),
            event_type: self.event_type,
            received_at: utc(self.committed_at),
            attempts: self.attempts,
            last_attempt_at: self.last_attempt_at,
            blamed: self.blamed,
        }
    }
}

/// The world's time as the time of a wall clock.
pub(crate) fn utc(moment: Duration) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + moment
}
