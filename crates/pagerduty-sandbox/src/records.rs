//! Everything the sandbox remembers, and the lock and the bells around it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::{broadcast, watch};

use crate::clock::Clock;
use crate::faults::{FaultError, FaultRule, Until};
use crate::journal::{Journal, JournalEntry, Verdict};
use crate::options::Options;
use crate::script::Script;
use crate::state::{Effect, Event, EventType, Incident, Incidents, Transition};
use crate::throttle::Throttle;

/// How many entries a slow subscriber may fall behind before it misses some.
const SUBSCRIBER_LAG: usize = 4096;

/// What has happened since the last reset; exact, however little the journal still knows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// Requests, complete or not.
    pub requests: u64,
    /// Events that were applied, even if to no effect.
    pub accepted: u64,
    /// Incidents that were opened.
    pub opened: u64,
    /// Triggers that found their incident open.
    pub logged: u64,
    /// Incidents that were acknowledged.
    pub acknowledged: u64,
    /// Incidents that were resolved.
    pub resolved: u64,
    /// Triggers without an incident key. PagerDuty makes one up, and nobody can resolve such an incident by its name.
    pub keyless: u64,
    /// Acknowledgements that found no open incident.
    pub dropped_acknowledges: u64,
    /// Resolutions that found no open incident.
    pub dropped_resolves: u64,
    /// Events answered with success and not applied.
    pub discarded: u64,
    /// Events that a fault held back; those released since are among `accepted`, too.
    pub held: u64,
    /// Events refused for coming too fast. Throttling by a fault counts as `faulted`.
    pub throttled: u64,
    /// Requests refused for what they are.
    pub refused: u64,
    /// Requests that a fault answered before anybody looked at them.
    pub faulted: u64,
    /// Requests that broke off.
    pub broken: u64,
    /// Strictness violations: PagerDuty's pages forbid it, its servers let it through.
    pub violations: u64,
    /// Things PagerDuty takes although it has no use for them.
    pub warnings: u64,
}

/// An event that a fault holds back.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) event: Event,
    pub(crate) until: Until,
    pub(crate) origin: Arc<JournalEntry>,
}

/// Everything the sandbox remembers.
#[derive(Debug, Default)]
pub struct Records {
    pub(crate) options: Arc<Options>,
    pub(crate) script: Script,
    pub(crate) throttle: Throttle,
    pub(crate) held: Vec<Held>,
    pub(crate) journal: Journal,
    /// Entries whose subscribers do not know of them yet.
    fresh: Vec<Arc<JournalEntry>>,
    incidents: Incidents,
    counters: Counters,
}

impl Records {
    /// The newest requests, oldest first.
    pub fn journal(&self) -> impl DoubleEndedIterator<Item = &JournalEntry> {
        self.journal.entries().map(AsRef::as_ref)
    }

    /// All incidents, by integration key and incident key.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.iter()
    }

    /// One incident.
    #[must_use]
    pub fn incident(&self, service_key: &str, incident_key: &str) -> Option<&Incident> {
        self.incidents.get(service_key, incident_key)
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Forgets everything but the options.
    pub(crate) fn reset(&mut self) {
        *self = Self { options: Arc::clone(&self.options), ..Self::default() };
    }

    /// Applies an event to its incident; also tells the incident's key, made up where the event has none.
    pub(crate) fn apply(&mut self, event: &Event, now: DateTime<Utc>) -> (String, Transition) {
        let incident_key = event.incident_key.clone().unwrap_or_else(|| {
            self.counters.keyless += 1;
            made_up_key()
        });
        let transition = self.incidents.apply(event, &incident_key, now);
        self.counters.accepted += 1;
        match transition.effect {
            Effect::Opened => self.counters.opened += 1,
            Effect::Logged => self.counters.logged += 1,
            Effect::Acknowledged => self.counters.acknowledged += 1,
            Effect::Resolved => self.counters.resolved += 1,
            Effect::Dropped if event.kind == EventType::Acknowledge => self.counters.dropped_acknowledges += 1,
            Effect::Dropped => self.counters.dropped_resolves += 1,
            Effect::AlreadyAcknowledged => {}
        }
        (incident_key, transition)
    }

    /// Writes a request's entry and counts it.
    pub(crate) fn write(&mut self, entry: JournalEntry) -> Arc<JournalEntry> {
        if entry.late_of.is_none() {
            self.counters.requests += 1;
            self.counters.violations += entry.violations.len() as u64;
            self.counters.warnings += entry.warnings.len() as u64;
            match entry.verdict {
                Verdict::Accepted { .. } => {}
                Verdict::Discarded => self.counters.discarded += 1,
                Verdict::Held => self.counters.held += 1,
                Verdict::Faulted => self.counters.faulted += 1,
                Verdict::Throttled => self.counters.throttled += 1,
                Verdict::Broken => self.counters.broken += 1,
                _ => self.counters.refused += 1,
            }
        }
        let entry = self.journal.write(entry, &self.options);
        self.fresh.push(Arc::clone(&entry));
        entry
    }

    /// Applies the held events that `due` chooses, in the order they came, and tells how many.
    pub(crate) fn release(&mut self, now: DateTime<Utc>, due: impl Fn(&Held) -> bool) -> usize {
        let (released, held) = std::mem::take(&mut self.held).into_iter().partition::<Vec<_>, _>(due);
        self.held = held;
        for Held { event, origin, .. } in &released {
            let (incident_key, Transition { effect, before, after }) = self.apply(event, now);
            self.write(JournalEntry {
                number: self.journal.next_number(),
                verdict: Verdict::Accepted { effect },
                fault: None,
                status: None,
                incident_key: Some(incident_key),
                before,
                after,
                late_of: Some(origin.number),
                ..JournalEntry::clone(origin)
            });
        }
        released.len()
    }
}

/// 32 hexadecimal digits, as PagerDuty makes them.
pub(crate) fn made_up_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The records, shared by the servers and the handle.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    records: Mutex<Records>,
    changed: watch::Sender<()>,
    told: broadcast::Sender<Arc<JournalEntry>>,
}

impl Shared {
    pub(crate) fn new(options: Options, clock: Clock) -> Self {
        let records = Records { options: Arc::new(options), ..Records::default() };
        Self {
            clock,
            records: Mutex::new(records),
            changed: watch::Sender::new(()),
            told: broadcast::Sender::new(SUBSCRIBER_LAG),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Records) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the records and rings for everybody who waits for that.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Records, DateTime<Utc>) -> T) -> T {
        let now = self.clock.now();
        let mut records = self.lock();
        let result = change(&mut records, now);
        for entry in records.fresh.drain(..) {
            // An error only means that nobody listens.
            let _ = self.told.send(entry);
        }
        drop(records);
        self.changed.send_replace(());
        result
    }

    /// Adds a rule and tells its number.
    pub(crate) fn inject(&self, rule: FaultRule) -> Result<u64, FaultError> {
        rule.fault.check()?;
        Ok(self.change(|records, now| records.script.add(rule, now)))
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<JournalEntry>> {
        self.told.subscribe()
    }
}
