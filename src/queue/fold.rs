//! Which of the arriving events become rows of their own, and which are folded into one that waits. Pure.
//!
//! A trigger that finds a trigger of its own incident at the end of that incident's line takes its place, if no attempt
//! was ever begun for that: it brings the newer body and adds to the count. Neither the order nor what PagerDuty is told
//! about the incident changes by it, and the queue grows with incidents instead of noise.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{EventId, NewEvent};
use crate::pagerduty::EventType;
use crate::pagerduty::fold::folded;

/// A trigger that was never attempted at the end of a line on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) id: EventId,
    pub(super) count: u32,
    pub(super) first_seen: DateTime<Utc>,
}

/// Arriving events, sorted into lines: those of one incident at one integration.
#[derive(Debug)]
pub(super) struct Arriving {
    events: Vec<NewEvent>,
    /// The line of each event.
    lines: Vec<usize>,
    /// The first event of each line.
    heads: Vec<usize>,
}

/// A row to be written.
#[derive(Debug)]
pub(super) struct Row {
    /// The row on disk that it replaces.
    pub(super) replaces: Option<EventId>,
    /// The newest event it stands for.
    pub(super) event: NewEvent,
    /// How many it stands for.
    pub(super) count: u32,
    /// When the first of them came.
    pub(super) first_seen: DateTime<Utc>,
}

/// What is to be written for the arriving events.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// In the order of their lines.
    pub(super) rows: Vec<Row>,
    /// In the order of the events.
    pub(super) places: Vec<Place<usize>>,
}

/// Where an event, or the resolve that closes it, went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place<R> {
    /// The number of the event among those that arrived.
    pub(super) event: usize,
    /// The row it went into.
    pub(super) row: R,
    /// For how many events that row stood then.
    pub(super) count: u32,
}

impl Arriving {
    pub(super) fn new(events: Vec<NewEvent>) -> Self {
        let mut numbers = HashMap::with_capacity(events.len());
        let mut lines = Vec::with_capacity(events.len());
        let mut heads = Vec::new();
        for (index, event) in events.iter().enumerate() {
            let line = *numbers.entry((&event.service_key, &event.incident_key)).or_insert_with(|| {
                heads.push(index);
                heads.len() - 1
            });
            lines.push(line);
        }
        Self { events, lines, heads }
    }

    pub(super) fn events(&self) -> &[NewEvent] {
        &self.events
    }

    /// The first event of each line, in the order of the lines.
    pub(super) fn heads(&self) -> impl Iterator<Item = &NewEvent> {
        self.heads.iter().map(|&head| &self.events[head])
    }

    /// Decides for each event; `tails` are the ends of lines that can be folded into. Those that are `overtaken` are
    /// followed by a resolve.
    pub(super) fn plan(self, mut tails: HashMap<usize, Tail>, overtaken: &[bool]) -> Plan {
        let mut plan = Plan::default();
        // The row at the end of each line, if it can be folded into.
        let mut ends: Vec<Option<usize>> = vec![None; self.heads.len()];
        for (number, ((event, line), is_overtaken)) in
            self.events.into_iter().zip(self.lines).zip(overtaken).enumerate()
        {
            let resolve = is_overtaken.then(|| event.resolved());
            for event in std::iter::once(event).chain(resolve) {
                let is_trigger = event.event_type == EventType::Trigger;
                let tail = tails.remove(&line);
                let row = match (ends[line], tail) {
                    (Some(row), _) if is_trigger => {
                        plan.rows[row].fold(event);
                        row
                    }
                    (None, Some(tail)) if is_trigger => plan.add(Row::replacing(tail, event)),
                    _ => plan.add(Row::new(event)),
                };
                ends[line] = is_trigger.then_some(row);
                plan.places.push(Place { event: number, row, count: plan.rows[row].count });
            }
        }
        plan
    }
}

impl Plan {
    fn add(&mut self, row: Row) -> usize {
        self.rows.push(row);
        self.rows.len() - 1
    }
}

impl Row {
    fn new(event: NewEvent) -> Self {
        Self { replaces: None, count: 1, first_seen: event.received_at, event }
    }

    fn replacing(tail: Tail, event: NewEvent) -> Self {
        Self { replaces: Some(tail.id), count: tail.count.saturating_add(1), first_seen: tail.first_seen, event }
    }

    fn fold(&mut self, event: NewEvent) {
        self.count = self.count.saturating_add(1);
        self.event = event;
    }

    /// The bytes to be sent.
    pub(super) fn take_body(&mut self) -> Vec<u8> {
        let body = std::mem::take(&mut self.event.body);
        if self.count == 1 { body } else { folded(body, self.count, self.first_seen) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pagerduty::{IncidentKey, ServiceKey};

    /// `t1` is a trigger of incident 1, `r1` resolves it.
    fn event(word: &str, second: i64) -> NewEvent {
        let (kind, incident) = word.split_at(1);
        NewEvent {
            service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
            incident_key: IncidentKey::parse(incident).unwrap(),
            event_type: if kind == "t" { EventType::Trigger } else { EventType::Resolve },
            description: word.to_owned(),
            body: br#"{"details":{}}"#.to_vec(),
            received_at: DateTime::from_timestamp(second, 0).unwrap(),
        }
    }

    fn arriving(words: &str) -> Arriving {
        Arriving::new(words.split(' ').zip(0..).map(|(word, second)| event(word, second)).collect())
    }

    /// Each row as its last event, its count and the second its first event came.
    fn rows(plan: &Plan) -> Vec<(&str, u32, i64)> {
        plan.rows.iter().map(|row| (&*row.event.description, row.count, row.first_seen.timestamp())).collect()
    }

    fn places(plan: &Plan) -> Vec<(usize, u32)> {
        plan.places.iter().map(|place| (place.row, place.count)).collect()
    }

    #[test]
    fn triggers_of_one_incident_share_a_row_until_it_is_resolved() {
        let mut plan = arriving("t1 t2 t1 r1 t1 t1 r2 r2").plan(HashMap::new(), &[false; 8]);
        let expected = [("t1", 2, 0), ("t2", 1, 1), ("r1", 1, 3), ("t1", 2, 4), ("r2", 1, 6), ("r2", 1, 7)];
        assert_eq!(rows(&plan), expected);
        assert_eq!(places(&plan), [(0, 1), (1, 1), (0, 2), (2, 1), (3, 1), (3, 2), (4, 1), (5, 1)]);
        assert_eq!(
            String::from_utf8(plan.rows[0].take_body()).unwrap(),
            r#"{"details":{"occurrences":2,"first_seen":"1970-01-01T00:00:00.000000Z"}}"#
        );
        assert_eq!(plan.rows[1].take_body(), br#"{"details":{}}"#);
    }

    #[test]
    fn the_first_trigger_of_a_line_replaces_what_waits_at_its_end() {
        let arriving = arriving("r1 t2 t2 t1");
        let heads: Vec<_> = arriving.heads().map(|event| event.description.as_str()).collect();
        assert_eq!(heads, ["r1", "t2"]);
        let tail = Tail { id: EventId::new(7), count: 40, first_seen: DateTime::from_timestamp(-9, 0).unwrap() };
        // What waits at the end of the first line cannot be folded into: a resolve comes before the trigger.
        let plan = arriving.plan(HashMap::from([(0, tail), (1, tail)]), &[false; 4]);
        assert_eq!(rows(&plan), [("r1", 1, 0), ("t2", 42, -9), ("t1", 1, 3)]);
        let replaced: Vec<_> = plan.rows.iter().map(|row| row.replaces.map(EventId::get)).collect();
        assert_eq!(replaced, [None, Some(7), None]);
        assert_eq!(places(&plan), [(0, 1), (1, 41), (1, 42), (2, 1)]);
    }

    #[test]
    fn the_same_incident_at_another_integration_is_another_one() {
        let mut other = event("t1", 1);
        other.service_key = ServiceKey::parse("0123456789abcdef0123456789abcdeF").unwrap();
        let plan = Arriving::new(vec![event("t1", 0), other]).plan(HashMap::new(), &[false; 2]);
        assert_eq!(plan.rows.len(), 2);
    }

    #[test]
    fn an_event_that_was_overtaken_is_followed_by_a_resolve() {
        let plan = arriving("t1 t2 t1").plan(HashMap::new(), &[true, false, false]);
        let kinds: Vec<_> =
            plan.rows.iter().map(|row| (row.event.event_type, row.event.incident_key.as_str())).collect();
        let (trigger, resolve) = (EventType::Trigger, EventType::Resolve);
        assert_eq!(kinds, [(trigger, "1"), (resolve, "1"), (trigger, "2"), (trigger, "1")]);
        let events: Vec<_> = plan.places.iter().map(|place| place.event).collect();
        assert_eq!(events, [0, 0, 1, 2]);
    }
}
