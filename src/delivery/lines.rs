//! The lines of one service key, one per incident, and which event leaves next.
//!
//! Only the head of a line may leave, and the next one not before the head's fate is committed. Among the heads the
//! oldest goes first, but those that failed stand aside, so that an event PagerDuty chokes on cannot keep the others
//! from showing that they pass.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::moment::Moment;
use super::suspicion::Suspicion;
use crate::pagerduty::IncidentKey;
use crate::pagerduty::outcome::Blame;
use crate::queue::{EventId, WaitingEvent};

/// How many heads without a failure go before one that failed gets its turn, were both to wait all the time.
const TURNS: u32 = 9;

/// How many events under suspicion go by age again when one of them passes: after an outage that came and went, when
/// many are, they are soon all tried, while an event PagerDuty really chokes on costs little.
const PARDONS: usize = 2;

/// The events of one service key.
#[derive(Debug, Default)]
pub(super) struct Lines {
    by_incident: HashMap<IncidentKey, Line>,
    /// The heads, and those behind them that have a past.
    events: HashMap<EventId, Event>,
    ready: BTreeSet<EventId>,
    set_back: BTreeSet<(Moment, EventId)>,
    suspects: BTreeSet<(Moment, EventId)>,
    /// How many went since one that had failed did.
    turns: u32,
}

#[derive(Debug, Default)]
struct Line {
    /// Oldest first.
    ids: VecDeque<EventId>,
    /// Between the beginning of its attempt and the commit of its fate. Mostly the head, unless an older event was
    /// put back into the line meanwhile.
    away: Option<EventId>,
}

#[derive(Debug)]
struct Event {
    incident_key: IncidentKey,
    stands: Stands,
    /// Where it will stand when it comes back; by its past if this is not known.
    returns: Option<Stands>,
    suspicion: Suspicion,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stands {
    /// Behind the head of its line, or behind one that is away.
    Behind,
    /// Away.
    Away,
    /// It may leave; by age.
    Ready,
    /// It failed, last at this moment, and nothing passed since. When something passes it is ready again.
    SetBack(Moment),
    /// It failed while others passed: after this moment it may try again.
    Suspect(Moment),
}

/// The event that should leave next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It is its turn.
    Due(EventId),
    /// It failed before, and goes because no other is waiting; it should leave room for those.
    Spare(EventId),
}

impl Lines {
    /// How many heads may leave that did not fail.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes in an event that was just committed.
    pub(super) fn join(&mut self, id: EventId, incident_key: &IncidentKey) {
        self.insert(id, incident_key, Suspicion::default());
    }

    /// Whether the event is a head, or one behind it that has a past.
    pub(super) fn knows(&self, id: EventId) -> bool {
        self.events.contains_key(&id)
    }

    /// Takes in an event as it was read from the queue, if it is not here already.
    pub(super) fn join_waiting(&mut self, event: &WaitingEvent) {
        let suspicion = Suspicion::of_earlier_run(event.blamed, event.attempts);
        match self.events.get_mut(&event.id) {
            // Somebody wants it tried again as if nothing had been.
            Some(known)
                if event.blamed.is_zero()
                    && !known.suspicion.blamed().is_zero()
                    && matches!(known.stands, Stands::Suspect(_)) =>
            {
                known.suspicion = suspicion;
                self.place(event.id, Stands::Ready);
            }
            Some(_) => {}
            None => self.insert(event.id, &event.incident_key, suspicion),
        }
    }

    fn insert(&mut self, id: EventId, incident_key: &IncidentKey, suspicion: Suspicion) {
        let line = self.by_incident.entry(incident_key.clone()).or_default();
        let Err(place) = line.ids.binary_search(&id) else { return };
        line.ids.insert(place, id);
        let was_head = if place == 0 { line.ids.get(1).copied() } else { None };
        let is_head = place == 0 && line.away.is_none();
        if is_head || suspicion != Suspicion::default() {
            self.events.insert(id, Event::behind(incident_key, suspicion));
        }
        if is_head {
            if let Some(head) = was_head {
                self.place(head, Stands::Behind);
            }
            self.promote(id, incident_key);
        }
    }

    /// The event that should leave next, if one may now. Those that failed may from `retry_at` on, or not at all.
    pub(super) fn next(&self, now: Moment, newest: bool, retry_at: Option<Moment>) -> Option<Turn> {
        let ready = if newest { self.ready.last() } else { self.ready.first() };
        let failed = self.next_failed(retry_at).filter(|(moment, _)| *moment <= now);
        match (ready, failed) {
            (_, Some((_, id))) if self.turns >= TURNS => Some(Turn::Due(id)),
            (Some(id), _) => Some(Turn::Due(*id)),
            (None, Some((_, id))) => Some(Turn::Spare(id)),
            (None, None) => None,
        }
    }

    /// When the next of those that failed may try again.
    pub(super) fn rested_at(&self, retry_at: Option<Moment>) -> Option<Moment> {
        self.next_failed(retry_at).map(|(moment, _)| moment)
    }

    /// Until when all heads stand aside, were those that failed to go from `retry_at` on; `None` if one may leave, or
    /// there is none.
    pub(super) fn all_rest_until(&self, retry_at: Moment) -> Option<Moment> {
        if self.ready.is_empty() { self.rested_at(Some(retry_at)) } else { None }
    }

    fn next_failed(&self, retry_at: Option<Moment>) -> Option<(Moment, EventId)> {
        let (moment, id) = self.set_back.first().into_iter().chain(self.suspects.first()).min()?;
        Some((retry_at?.max(*moment), *id))
    }

    /// Whether the event goes by age, and not because it rested after a failure.
    pub(super) fn is_ready(&self, id: EventId) -> bool {
        self.ready.contains(&id)
    }

    /// The event leaves.
    pub(super) fn leave(&mut self, id: EventId) {
        self.turns = if self.is_ready(id) { self.turns.saturating_add(1) } else { 0 };
        let Some(event) = self.events.get(&id) else { return };
        if let Some(line) = self.by_incident.get_mut(&event.incident_key) {
            line.away = Some(id);
        }
        self.place(id, Stands::Away);
    }

    /// For how long the event failed while others passed.
    pub(super) fn blamed(&self, id: EventId) -> Duration {
        self.events.get(&id).map(|event| event.suspicion.blamed()).unwrap_or_default()
    }

    /// The connection of the event's attempt ended before an answer; see [`Suspicion::dropped`].
    pub(super) fn dropped(&mut self, id: EventId) -> bool {
        self.events.get_mut(&id).is_some_and(|event| event.suspicion.dropped())
    }

    /// The event's attempt failed; see [`Suspicion::failed`].
    pub(super) fn failed(
        &mut self,
        id: EventId,
        now: Moment,
        last_passed: Option<Moment>,
        blame: Blame,
    ) -> (Suspicion, bool) {
        let Some(event) = self.events.get_mut(&id) else { return Default::default() };
        let others_passed = event.suspicion.failed(now, last_passed, blame);
        (event.suspicion, others_passed)
    }

    /// Where the event whose attempt failed will stand once that is committed.
    pub(super) fn returns(&mut self, id: EventId, stands: Stands) {
        if let Some(event) = self.events.get_mut(&id) {
            event.returns = Some(stands);
        }
    }

    /// The event, which was away, is back in its line.
    pub(super) fn come_back(&mut self, id: EventId) {
        let Some(event) = self.events.get_mut(&id) else { return };
        let returns = event.returns.take();
        let incident_key = event.incident_key.clone();
        let Some(line) = self.by_incident.get_mut(&incident_key) else { return };
        line.away = None;
        match line.ids.front().copied() {
            Some(head) if head != id => {
                self.place(id, Stands::Behind);
                self.promote(head, &incident_key);
            }
            _ => match returns {
                Some(stands) => self.place(id, stands),
                None => self.promote(id, &incident_key),
            },
        }
    }

    /// The event, which is away, is finished, and the next one of its line may leave.
    pub(super) fn remove(&mut self, id: EventId) {
        self.place(id, Stands::Behind);
        let Some(event) = self.events.remove(&id) else { return };
        let Some(line) = self.by_incident.get_mut(&event.incident_key) else { return };
        if let Ok(place) = line.ids.binary_search(&id) {
            line.ids.remove(place);
        }
        line.away = None;
        match line.ids.front().copied() {
            Some(head) => self.promote(head, &event.incident_key),
            None => {
                self.by_incident.remove(&event.incident_key);
            }
        }
    }

    /// An event passed: those that failed before may have been innocent, so they go by age again.
    pub(super) fn passed(&mut self, id: EventId) {
        for (_, id) in std::mem::take(&mut self.set_back) {
            self.place(id, Stands::Ready);
        }
        if self.events.get(&id).is_some_and(|event| event.suspicion.is_suspect()) {
            for (_, id) in self.suspects.iter().take(PARDONS).copied().collect::<Vec<_>>() {
                self.place(id, Stands::Ready);
            }
        }
    }

    fn promote(&mut self, head: EventId, incident_key: &IncidentKey) {
        let event = self.events.entry(head).or_insert_with(|| Event::behind(incident_key, Suspicion::default()));
        let stands = if event.suspicion.is_suspect() { Stands::Suspect(Moment::ZERO) } else { Stands::Ready };
        self.place(head, stands);
    }

    fn place(&mut self, id: EventId, stands: Stands) {
        let Some(event) = self.events.get_mut(&id) else { return };
        match std::mem::replace(&mut event.stands, stands) {
            Stands::Ready => self.ready.remove(&id),
            Stands::SetBack(moment) => self.set_back.remove(&(moment, id)),
            Stands::Suspect(moment) => self.suspects.remove(&(moment, id)),
            Stands::Behind | Stands::Away => false,
        };
        match stands {
            Stands::Ready => self.ready.insert(id),
            Stands::SetBack(moment) => self.set_back.insert((moment, id)),
            Stands::Suspect(moment) => self.suspects.insert((moment, id)),
            Stands::Behind | Stands::Away => false,
        };
    }
}

impl Event {
    fn behind(incident_key: &IncidentKey, suspicion: Suspicion) -> Self {
        Self { incident_key: incident_key.clone(), stands: Stands::Behind, returns: None, suspicion }
    }
}
